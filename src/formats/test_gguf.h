// GGUF files made in memory, right and wrong ones, for the tests of the reader.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "formats/gguf_types.h"
#include "formats/test_files.h"

namespace fr::test {

struct GgufBuilder {
  std::uint32_t version = 3;
  std::uint64_t alignment = 32;  // of the data; says nothing in the metadata
  std::uint64_t entries = 0, tensors = 0;
  std::string metadata, infos, data;

  static std::string text(std::string_view s) { return le<std::uint64_t>(s.size()) + std::string(s); }
  // `value` is the bytes behind the type.
  GgufBuilder& add(std::string_view key, gguf::Value type, const std::string& value) {
    ++entries;
    metadata += text(key) + le(static_cast<std::uint32_t>(type)) + value;
    return *this;
  }
  GgufBuilder& add(std::string_view key, std::string_view value) {
    return add(key, gguf::Value::string, text(value));
  }
  GgufBuilder& add(std::string_view key, std::uint32_t value) {
    return add(key, gguf::Value::u32, le(value));
  }
  GgufBuilder& add_array(std::string_view key, gguf::Value type, std::uint64_t count,
                         const std::string& values) {
    return add(key, gguf::Value::array, le(static_cast<std::uint32_t>(type)) + le(count) + values);
  }
  // Dimensions as in the file, the innermost first.
  GgufBuilder& info(std::string_view name, const std::vector<std::int64_t>& dims, std::uint32_t type,
                    std::uint64_t offset) {
    ++tensors;
    infos += text(name) + le(static_cast<std::uint32_t>(dims.size()));
    for (const std::int64_t d : dims) infos += le(d);
    infos += le(type) + le(offset);
    return *this;
  }
  // With its data behind that of the last.
  GgufBuilder& tensor(std::string_view name, const std::vector<std::int64_t>& dims, std::uint32_t type,
                      const std::string& bytes) {
    info(name, dims, type, data.size());
    data += bytes;
    data.resize((data.size() + alignment - 1) / alignment * alignment);
    return *this;
  }
  std::string file() const {
    std::string out = "GGUF" + le(version) + le(tensors) + le(entries) + metadata + infos;
    if (tensors > 0) out.resize((out.size() + alignment - 1) / alignment * alignment);
    return out + data;
  }
};

inline GgufBuilder rwkv_gguf(std::string_view architecture = "rwkv7") {
  return GgufBuilder()
      .add("general.architecture", architecture)
      .add(std::string(architecture) + ".wkv.head_size", 2);
}

// A file with each kind of thing in it.
inline std::string small_gguf() {
  return rwkv_gguf()
      .add_array("tokenizer.ggml.tokens", gguf::Value::string, 2,
                 GgufBuilder::text("<s>") + GgufBuilder::text("\\n"))
      .add_array("n", gguf::Value::i16, 3, std::string(6, 'n'))
      .add("f", gguf::Value::f32, le(0.5f))
      .tensor("token_embd.weight", {2, 3}, 0, counting(1.0f, 6))
      .tensor("blk.0.time_mix_lerp_fused.weight", {2, 1, 1, 6}, 0, counting(1.0f, 12))
      .tensor("blk.0.time_mix_r_k.weight", {4}, 0, counting(1.0f, 4))
      .tensor("blk.0.time_mix_w1.weight", {32, 2}, 8, std::string(68, '\1'))
      .tensor("blk.0.time_mix_a0.weight", {1}, 1, "ab")
      .file();
}

}  // namespace fr::test
