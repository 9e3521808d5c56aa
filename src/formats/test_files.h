// Small model files made in memory, right and wrong ones, for the tests of the readers.
#pragma once
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/checkpoint.h"
#include "base/msgpack.h"
#include "formats/zip.h"

namespace fr::test {

inline std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

template <class T>
std::string le(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

// n values of T counting up from `first`, as bytes.
template <class T>
std::string counting(T first, std::size_t n) {
  std::string out;
  for (std::size_t i = 0; i < n; ++i) out += le(static_cast<T>(first + static_cast<T>(i)));
  return out;
}

// ---- ZIP

struct ZipOptions {
  bool zip64_end = false;    // with zip64 end record and locator, as PyTorch writes
  bool zip64_entry = false;  // sizes and offset of each entry in its zip64 field
  bool descriptor = false;   // sizes and CRC after the data instead of before
  std::uint16_t method = 0, flags = 0;
  std::string comment = {};
};

class ZipBuilder {
 public:
  explicit ZipBuilder(ZipOptions options = {}) : o_(std::move(options)) {}

  void add(const std::string& name, const std::string& data) {
    const auto size = static_cast<std::uint32_t>(data.size());
    const std::uint32_t crc = crc32(bytes_of(data));
    const auto flags = static_cast<std::uint16_t>(o_.flags | (o_.descriptor ? 8 : 0));
    const std::uint32_t shown = o_.zip64_entry ? 0xffffffffu : size;
    const auto offset = static_cast<std::uint32_t>(out_.size());
    const std::string sizes = o_.descriptor ? le(0u) + le(0u) + le(0u) : le(crc) + le(shown) + le(shown);
    out_ += le(0x04034b50u) + le<std::uint16_t>(20) + le(flags) + le(o_.method) + le(0u) + sizes +
            le16(name.size()) + le16(4) + name + "xx" + le16(0) + data;  // an extra field of another kind
    if (o_.descriptor) out_ += le(0x08074b50u) + le(crc) + le(size) + le(size);
    std::string extra = std::string("yy\1\0z", 5);  // a field of another kind
    if (o_.zip64_entry)
      extra +=
          le16(1) + le16(24) + le<std::uint64_t>(size) + le<std::uint64_t>(size) + le<std::uint64_t>(offset);
    central_ += le(0x02014b50u) + le16(20) + le16(20) + le(flags) + le(o_.method) + le(0u) + le(crc) +
                le(shown) + le(shown) + le16(name.size()) + le16(extra.size()) + le16(0) + le16(0) + le16(0) +
                le(0u) + le(o_.zip64_entry ? 0xffffffffu : offset) + name + extra;
    ++count_;
  }

  std::string finish() {
    const std::uint64_t begin = out_.size();
    out_ += central_;
    const std::uint64_t size = central_.size();
    if (o_.zip64_end) {
      const std::uint64_t record = out_.size();
      out_ += le(0x06064b50u) + le<std::uint64_t>(44) + le16(45) + le16(45) + le(0u) + le(0u) +
              le<std::uint64_t>(count_) + le<std::uint64_t>(count_) + le(size) + le(begin);
      out_ += le(0x07064b50u) + le(0u) + le(record) + le(1u);
    }
    out_ += le(0x06054b50u) + le16(0) + le16(0);
    out_ += o_.zip64_end ? le16(0xffff) + le16(0xffff) + le(0xffffffffu) + le(0xffffffffu)
                         : le16(count_) + le16(count_) + le(static_cast<std::uint32_t>(size)) +
                               le(static_cast<std::uint32_t>(begin));
    out_ += le16(o_.comment.size()) + o_.comment;
    return out_;
  }

 private:
  static std::string le16(std::size_t v) { return le(static_cast<std::uint16_t>(v)); }
  ZipOptions o_;
  std::string out_, central_;
  std::size_t count_ = 0;
};

// ---- pickle

// Each method appends one opcode (or the few that stand for one Python value) and returns the writer.
struct PickleBuilder {
  std::string out = "\x80\x02";

  PickleBuilder& raw(std::string_view bytes) {
    out += bytes;
    return *this;
  }
  PickleBuilder& text(std::string_view s) {
    return raw("X").raw(le(static_cast<std::uint32_t>(s.size()))).raw(s);
  }
  PickleBuilder& integer(std::int64_t v) { return raw("\x8a\x08").raw(le(v)); }
  PickleBuilder& global(std::string_view module, std::string_view name) {
    return raw("c").raw(module).raw("\n").raw(name).raw("\n");
  }
  PickleBuilder& mark() { return raw("("); }
  PickleBuilder& tuple() { return raw("t"); }
  PickleBuilder& reduce() { return raw("R"); }
  PickleBuilder& empty_dict() { return raw("}"); }
  PickleBuilder& ordered_dict() { return global("collections", "OrderedDict").raw(")R"); }
  PickleBuilder& integers(const std::vector<std::int64_t>& values) {
    mark();
    for (const std::int64_t v : values) integer(v);
    return tuple();
  }
  PickleBuilder& storage(std::string_view type, std::string_view key, std::int64_t count) {
    return mark().text("storage").global("torch", type).text(key).text("cpu").integer(count).tuple().raw("Q");
  }
  // A tensor as _rebuild_tensor_v2(storage, offset, shape, stride, False, OrderedDict()).
  PickleBuilder& tensor(std::string_view type, std::string_view key, std::int64_t count, std::int64_t offset,
                        const std::vector<std::int64_t>& shape, const std::vector<std::int64_t>& stride) {
    global("torch._utils", "_rebuild_tensor_v2").mark().storage(type, key, count).integer(offset);
    return integers(shape).integers(stride).raw("\x89").ordered_dict().tuple().reduce();
  }
  PickleBuilder& set() { return raw("s"); }  // dict[key] = value
  std::string stop() const { return out + "."; }
};

struct Storage {
  std::string key, data;
};

// The ZIP form around a pickle and its storages.
inline std::string pth_zip(const std::string& pickle, const std::vector<Storage>& storages,
                           const ZipOptions& options = {}) {
  ZipBuilder zip(options);
  zip.add("any name/data.pkl", pickle);
  zip.add("any name/byteorder", "little");
  for (const Storage& s : storages) zip.add("any name/data/" + s.key, s.data);
  zip.add("any name/version", "3\n");
  return zip.finish();
}

inline const std::string legacy_magic =
    PickleBuilder().raw("\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19").stop();

// The legacy form: `width` bytes per element of every storage.
inline std::string pth_legacy(const std::string& pickle, const std::vector<Storage>& storages,
                              std::size_t width, bool little_endian = true) {
  std::string out = legacy_magic + PickleBuilder().integer(1001).stop();
  out += PickleBuilder().empty_dict().text("little_endian").raw(little_endian ? "\x88" : "\x89").set().stop();
  out += pickle;
  PickleBuilder keys;
  keys.raw("](");
  for (const Storage& s : storages) keys.text(s.key);
  out += keys.raw("e").stop();
  for (const Storage& s : storages) out += le(static_cast<std::int64_t>(s.data.size() / width)) + s.data;
  return out;
}

// A dict with the fp32 tensor "a" [2, 3] and the fp16 tensor "b" [4], and its storages.
inline std::string two_tensors() {
  return PickleBuilder()
      .empty_dict()
      .text("a")
      .tensor("FloatStorage", "0", 6, 0, {2, 3}, {3, 1})
      .set()
      .text("b")
      .tensor("HalfStorage", "1", 4, 0, {4}, {1})
      .set()
      .stop();
}
inline std::vector<Storage> two_storages() {
  return {{"0", counting(1.0f, 6)}, {"1", counting<std::uint16_t>(0x3c00, 4)}};
}

// ---- safetensors

inline std::string safetensors(const std::string& header, const std::string& data) {
  return le<std::uint64_t>(header.size()) + header + data;
}

// ---- msgpack, as in .fr files

inline std::string packed_tensor(const std::string& dtype, const std::string& data,
                                 const std::vector<std::int64_t>& shape) {
  std::string out;
  pack_map(out, 3);
  pack_text(out, "dtype");
  pack_text(out, dtype);
  pack_text(out, "data");
  pack_bytes_head(out, data.size());
  out += data;
  pack_text(out, "shape");
  pack_array(out, shape.size());
  for (const std::int64_t d : shape) pack_integer(out, static_cast<std::uint64_t>(d));
  return out;
}
inline std::string packed_map(const std::vector<std::pair<std::string, std::string>>& entries) {
  std::string out;
  pack_map(out, entries.size());
  for (const auto& [key, value] : entries) {
    pack_text(out, key);
    out += value;
  }
  return out;
}
inline std::string packed_list(const std::vector<std::string>& tensors) {
  std::string out;
  pack_array(out, tensors.size());
  for (const std::string& t : tensors) out += t;
  return out;
}

// ---- checks

inline std::vector<float> values_of(const TensorView& t) {
  std::vector<float> out(static_cast<std::size_t>(t.size()));
  t.read(0, out);
  return out;
}

// Every element of every tensor lies inside `file`.
inline bool views_are_inside(const Checkpoint& c, std::span<const std::byte> file) {
  for (const TensorView& t : c.tensors) {
    const auto range = t.bytes();
    if (range.data() < file.data() || range.data() + range.size() > file.data() + file.size()) return false;
    if (t.shape.size() != t.stride.size()) return false;
  }
  return true;
}

// One printable line that names the file and says what to do.
inline bool is_good_message(const Error& error, std::string_view path) {
  const std::string& m = error.message;
  for (const char c : m) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return false;
  }
  const std::size_t where = m.find(std::string(1, '(').append(path).append("): "));
  return where != m.npos && where > 5 && m.size() > where + path.size() + 8;
}

}  // namespace fr::test
