// The bytes before the tensors of a GGUF file that is written: metadata and the list of tensors.
#pragma once
#include <concepts>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/gguf_types.h"

namespace fr::gguf {

class Header {
 public:
  void add(std::string_view key, std::uint32_t value) {
    begin(key, Value::u32);
    put(value);
  }
  void add(std::string_view key, float value) {
    begin(key, Value::f32);
    put(value);
  }
  void add(std::string_view key, std::string_view value) {
    begin(key, Value::string);
    text(value);
  }
  void add(std::string_view key, std::span<const std::string> values);
  void add(std::string_view key, std::span<const std::int32_t> values);
  // `shape` is row-major; `offset` counts from the beginning of the data.
  void add_tensor(std::string_view name, std::span<const std::int64_t> shape, DType dtype,
                  std::uint64_t offset);

  // With the padding after which the data begins.
  std::string bytes() const;

 private:
  static void put(std::string& out, std::integral auto value) {
    out.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void put(auto value) { metadata_.append(reinterpret_cast<const char*>(&value), sizeof value); }
  void begin(std::string_view key, Value type);
  void begin_array(std::string_view key, Value type, std::uint64_t count);
  void text(std::string_view text);

  std::string metadata_, tensors_;
  std::uint64_t entries_ = 0, tensor_count_ = 0;
};

// Bytes that bring a length to a multiple of the alignment.
constexpr std::uint64_t padding(std::uint64_t length) {
  return (default_alignment - length % default_alignment) % default_alignment;
}

}  // namespace fr::gguf
