// Protocol Buffers' wire format, as much as an exporter needs: a message is appended field by field.
#pragma once
#include <bit>
#include <cstdint>
#include <string>
#include <string_view>

namespace fr {

class ProtobufWriter {
 public:
  void integer(int field, std::int64_t value) {
    tag(field, 0);
    varint(static_cast<std::uint64_t>(value));
  }
  void real(int field, float value) {
    tag(field, 5);
    const auto bits = std::bit_cast<std::uint32_t>(value);
    for (int shift = 0; shift < 32; shift += 8) bytes_ += static_cast<char>(bits >> shift & 0xff);
  }
  // A string, raw bytes or, by its bytes, a message.
  void bytes(int field, std::string_view value) {
    tag(field, 2);
    varint(value.size());
    bytes_ += value;
  }
  void message(int field, const ProtobufWriter& m) { bytes(field, m.bytes_); }
  // The fields of another message of the same kind.
  void append(const ProtobufWriter& fields) { bytes_ += fields.bytes_; }
  const std::string& bytes() const { return bytes_; }

 private:
  void tag(int field, unsigned type) { varint(static_cast<std::uint64_t>(field) << 3 | type); }
  void varint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>((value & 0x7f) | 0x80);
    bytes_ += static_cast<char>(value);
  }
  std::string bytes_;
};

}  // namespace fr
