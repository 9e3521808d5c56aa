// The block formats of GGUF files: 32 or 256 neighbours of a row share a scale (and a minimum). Layouts are
// those of ggml (ggml-common.h of ggml-org/ggml); every block is an independent, byte-exact unit.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/dtype.h"

namespace fr {

// out.size() numbers, a multiple of block_size(type), from as many whole blocks. Block formats only.
void dequantise(DType type, const std::byte* blocks, std::span<float> out);

// Scale and min of group j (32 numbers) of a q4_k block (q5_k too): 6 bits each, multiples of its two halves.
struct ScaleMin {
  std::uint8_t scale, min;
};
inline ScaleMin q4_k_scale_min(const std::byte* block, int j) {
  const auto* s = reinterpret_cast<const std::uint8_t*>(block) + 4;
  const auto six = [](int four, int two) { return static_cast<std::uint8_t>(four | two << 4); };
  if (j < 4) return {static_cast<std::uint8_t>(s[j] & 63), static_cast<std::uint8_t>(s[j + 4] & 63)};
  return {six(s[j + 4] & 15, s[j - 4] >> 6), six(s[j + 4] >> 4, s[j] >> 6)};
}

// The reverse, to nearest, for the formats that can_quantise names. False if a number is not finite or too
// large for the format (its scales are halves); the blocks then mean nothing. The same bytes on every
// processor.
constexpr bool can_quantise(DType t) { return t == DType::q8_0 || t == DType::q4_0 || t == DType::q4_k; }
bool quantise(DType type, std::span<const float> values, std::byte* blocks);

}  // namespace fr
