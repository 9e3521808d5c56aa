#include "text/utf8_stream.h"

#include "base/result.h"

namespace fr {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";  // U+FFFD

// What must follow a lead byte: count of bytes (0: no lead byte) and the range of the first of them.
struct Follow {
  std::uint8_t needed;
  unsigned char low, high;
};

constexpr Follow follow(unsigned char lead) {
  if (lead >= 0xc2 && lead <= 0xdf) return {1, 0x80, 0xbf};
  if (lead == 0xe0) return {2, 0xa0, 0xbf};  // no overlong forms
  if (lead == 0xed) return {2, 0x80, 0x9f};  // no surrogates
  if (lead >= 0xe1 && lead <= 0xef) return {2, 0x80, 0xbf};
  if (lead == 0xf0) return {3, 0x90, 0xbf};  // no overlong forms
  if (lead >= 0xf1 && lead <= 0xf3) return {3, 0x80, 0xbf};
  if (lead == 0xf4) return {3, 0x80, 0x8f};  // nothing above U+10FFFF
  return {0, 0, 0};
}

}  // namespace

std::string Utf8Stream::push(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() + count_);
  for (std::size_t i = 0; i < bytes.size();) {
    const auto byte = static_cast<unsigned char>(bytes[i]);
    if (needed_ == 0) {
      const Follow next = follow(byte);
      if (byte < 0x80) {
        out += bytes[i];
      } else if (next.needed == 0) {
        out += kReplacement;
      } else {
        pending_[0] = bytes[i];
        count_ = 1;
        needed_ = next.needed;
        low_ = next.low;
        high_ = next.high;
      }
      ++i;
    } else if (byte < low_ || byte > high_) {
      out += kReplacement;  // the pending bytes; `byte` is looked at again as a lead byte
      count_ = needed_ = 0;
    } else {
      low_ = 0x80;
      high_ = 0xbf;
      if (--needed_ == 0) {
        out.append(pending_.data(), count_);
        out += bytes[i];
        count_ = 0;
      } else {
        pending_[count_++] = bytes[i];
      }
      ++i;
    }
  }
  return out;
}

std::string Utf8Stream::finish() {
  const bool incomplete = needed_ != 0;
  count_ = needed_ = 0;
  return incomplete ? std::string(kReplacement) : std::string();
}

bool is_valid_utf8(std::string_view bytes) {
  for (std::size_t i = 0; i < bytes.size();) {
    const auto byte = static_cast<unsigned char>(bytes[i++]);
    if (byte < 0x80) continue;
    Follow next = follow(byte);
    if (next.needed == 0) return false;
    for (; next.needed > 0; --next.needed, ++i) {
      if (i == bytes.size()) return false;
      const auto c = static_cast<unsigned char>(bytes[i]);
      if (c < next.low || c > next.high) return false;
      next.low = 0x80;
      next.high = 0xbf;
    }
  }
  return true;
}

Utf8Char first_char(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text.front());
  if (lead < 0x80) return {true, lead, 1};
  const std::size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  const std::string_view all = text.substr(0, length);
  if (all.size() < length || !is_valid_utf8(all)) return {false, 0, 1};
  char32_t scalar = lead & (0x7fu >> length);
  for (const char c : all.substr(1)) scalar = scalar << 6 | (static_cast<unsigned char>(c) & 0x3fu);
  return {true, scalar, length};
}

void append_utf8(std::string& out, char32_t scalar) {
  FR_CHECK(scalar <= 0x10ffff && (scalar < 0xd800 || scalar > 0xdfff));
  const auto put = [&out](char32_t byte) { out += static_cast<char>(byte); };
  if (scalar < 0x80) {
    put(scalar);
  } else if (scalar < 0x800) {
    put(0xc0 | (scalar >> 6));
    put(0x80 | (scalar & 0x3f));
  } else if (scalar < 0x10000) {
    put(0xe0 | (scalar >> 12));
    put(0x80 | ((scalar >> 6) & 0x3f));
    put(0x80 | (scalar & 0x3f));
  } else {
    put(0xf0 | (scalar >> 18));
    put(0x80 | ((scalar >> 12) & 0x3f));
    put(0x80 | ((scalar >> 6) & 0x3f));
    put(0x80 | (scalar & 0x3f));
  }
}

}  // namespace fr
