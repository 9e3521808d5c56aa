// The tensors of RWKV-6 and RWKV-7 in GGUF files, beside their official names: for layout_gguf and
// write_gguf. Source: llama.cpp, gguf-py/gguf/constants.py, conversion/rwkv.py, src/models/rwkv6.cpp and
// rwkv7.cpp.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>

namespace fr::gguf {

// How the shape in the file (row-major) follows from the official one.
enum class Form : std::uint8_t {
  same,
  vector,      // [1, 1, D]: [D]
  transposed,  // the last two axes swapped
  flat,        // [H, N]: [D]
};
// What decides the number format that the tensor is written in.
enum class Role : std::uint8_t {
  exact,   // fp32
  factor,  // low-rank: as the matrices are, never blocks
  matrix,
  table,  // embedding and head: matrices that get no fewer than 8 bits
};

struct TensorName {
  std::string_view official, file;  // after "blocks.N." and "blk.N."
  // Official shape without added ones: V vocabulary, D width, F ffn, H heads, N head size, other letters the
  // low-rank sizes, M = 5 m, digits themselves.
  std::string_view dims;
  Form form;
  Role role;
};

struct Architecture {
  std::string_view name;  // general.architecture
  std::span<const TensorName> global, layer;
  // The mixes that lie in one tensor [count, 1, 1, D], by their last letters in order; official name is lerp
  // and that letter.
  std::string_view lerp, lerp_order;
};
inline constexpr std::string_view lerp_fused = "time_mix_lerp_fused.weight";

// Null: not an architecture that is read.
const Architecture* find_architecture(std::string_view name);

}  // namespace fr::gguf
