#include "base/msgpack.h"

#include <algorithm>
#include <bit>

#include "base/result.h"

namespace fr {
namespace {

void append_big_endian(std::string& out, std::uint64_t value, std::size_t bytes) {
  while (bytes-- > 0) out += static_cast<char>(value >> (8 * bytes) & 0xff);
}

// `tag` is that of the 8-bit form, or of the 16-bit form when there is none of 8 bits; the wider ones follow
// it.
void append_size(std::string& out, unsigned tag, std::size_t least, std::uint64_t size) {
  FR_CHECK(size <= 0xffffffffu);
  std::size_t bytes = least;
  while (size >> (8 * bytes) != 0) bytes *= 2;
  tag += static_cast<unsigned>(std::countr_zero(bytes) - std::countr_zero(least));
  out += static_cast<char>(tag);
  append_big_endian(out, size, bytes);
}

void append_count(std::string& out, unsigned fixed, unsigned wide, std::uint64_t n) {
  if (n < 16) {
    out += static_cast<char>(fixed | n);
  } else {
    append_size(out, wide, 2, n);
  }
}

}  // namespace

MsgpackCursor::Kind MsgpackCursor::next() const {
  if (remaining() == 0) return Kind::none;
  const unsigned tag = static_cast<unsigned char>(file_[at_]);
  if (tag < 0x80 || tag >= 0xe0 || (tag >= 0xcc && tag <= 0xd3)) return Kind::integer;
  if (tag < 0x90 || tag >= 0xde) return Kind::map;
  if (tag < 0xa0 || tag >= 0xdc) return Kind::array;
  if (tag < 0xc0 || tag >= 0xd9) return Kind::text;
  if (tag >= 0xc4 && tag <= 0xc6) return Kind::bytes;
  return tag == 0xc1 ? Kind::none : Kind::other;
}

std::optional<std::uint64_t> MsgpackCursor::big_endian(std::size_t bytes) {
  if (bytes > remaining()) return std::nullopt;
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < bytes; ++i) value = value << 8 | take();
  return value;
}

std::optional<std::uint64_t> MsgpackCursor::count(unsigned fixed, unsigned wide, std::uint64_t values) {
  if (remaining() == 0) return std::nullopt;
  const unsigned tag = take();
  std::optional<std::uint64_t> n;
  if ((tag & 0xf0u) == fixed) n = tag & 0x0fu;
  if (tag == wide) n = big_endian(2);
  if (tag == wide + 1) n = big_endian(4);
  if (!n || *n * values > remaining()) return std::nullopt;
  return n;
}

std::optional<std::uint64_t> MsgpackCursor::map() { return count(0x80, 0xde, 2); }
std::optional<std::uint64_t> MsgpackCursor::array() { return count(0x90, 0xdc, 1); }

std::optional<std::int64_t> MsgpackCursor::integer() {
  if (next() != Kind::integer) return std::nullopt;
  const unsigned tag = take();
  if (tag < 0x80) return tag;
  if (tag >= 0xe0) return static_cast<std::int8_t>(tag);
  const std::size_t bytes = std::size_t{1} << (tag & 3);  // cc..cf: uint8..uint64, d0..d3: int8..int64
  const auto raw = big_endian(bytes);
  if (!raw) return std::nullopt;
  if (tag <= 0xcf) return static_cast<std::int64_t>(std::min<std::uint64_t>(*raw, INT64_MAX));
  const auto shift = static_cast<int>(64 - 8 * bytes);
  return static_cast<std::int64_t>(*raw << shift) >> shift;  // sign extension
}

std::optional<std::string_view> MsgpackCursor::text() {
  if (next() != Kind::text && next() != Kind::bytes) return std::nullopt;
  const unsigned tag = take();
  std::optional<std::uint64_t> length;
  if (tag < 0xc0) length = tag & 0x1fu;
  if (tag >= 0xc4 && tag <= 0xc6) length = big_endian(std::size_t{1} << (tag - 0xc4));
  if (tag >= 0xd9) length = big_endian(std::size_t{1} << (tag - 0xd9));
  if (!length || *length > remaining()) return std::nullopt;
  at_ += *length;
  return file_.substr(at_ - *length, *length);
}

// Passes one value up to what is inside it, and says how many values that are.
std::optional<std::uint64_t> MsgpackCursor::skip_head() {
  switch (next()) {
    case Kind::map: {
      const auto pairs = map();
      return pairs ? std::optional(2 * *pairs) : std::nullopt;
    }
    case Kind::array:
      return array();
    case Kind::text:
    case Kind::bytes:
      return text() ? std::optional<std::uint64_t>(0) : std::nullopt;
    case Kind::integer:
      return integer() ? std::optional<std::uint64_t>(0) : std::nullopt;
    case Kind::other: {
      const unsigned tag = take();
      std::optional<std::uint64_t> length = 0;                                              // nil, bool
      if (tag >= 0xc7 && tag <= 0xc9) length = big_endian(std::size_t{1} << (tag - 0xc7));  // ext
      if (tag == 0xca || tag == 0xcb) length = tag == 0xca ? 4 : 8;                         // float
      if (tag >= 0xd4) length = std::uint64_t{1} << (tag - 0xd4);                           // fixext
      if (length && (tag >= 0xd4 || (tag >= 0xc7 && tag <= 0xc9))) length = *length + 1;    // the type
      if (!length || *length > remaining()) return std::nullopt;
      at_ += *length;
      return 0;
    }
    default:
      return std::nullopt;
  }
}

bool MsgpackCursor::skip() {
  for (std::uint64_t values = 1; values > 0; --values) {
    const auto inside = skip_head();
    if (!inside || values + *inside > remaining() + 1) return false;
    values += *inside;
  }
  return true;
}

void pack_map(std::string& out, std::uint64_t pairs) { append_count(out, 0x80, 0xde, pairs); }
void pack_array(std::string& out, std::uint64_t values) { append_count(out, 0x90, 0xdc, values); }

void pack_integer(std::string& out, std::uint64_t value) {
  if (value < 0x80) {
    out += static_cast<char>(value);
  } else if (value <= 0xffffffffu) {
    append_size(out, 0xcc, 1, value);
  } else {
    out += '\xcf';
    append_big_endian(out, value, 8);
  }
}

void pack_text(std::string& out, std::string_view text) {
  if (text.size() < 32) {
    out += static_cast<char>(0xa0 | text.size());
  } else {
    append_size(out, 0xd9, 1, text.size());
  }
  out += text;
}

void pack_bytes_head(std::string& out, std::uint64_t size) { append_size(out, 0xc4, 1, size); }

}  // namespace fr
