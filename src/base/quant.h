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

// Scale and min of group j (32 numbers) of a q4_k block: 6 bits each, multiples of its two halves.
struct ScaleMin {
  std::uint8_t scale, min;
};
ScaleMin q4_k_scale_min(const std::byte* block, int j);

// The reverse, to nearest, for the formats that can_quantise names. False if a number is not finite or too
// large for the format (its scales are halves); the blocks then mean nothing.
constexpr bool can_quantise(DType t) { return t == DType::q8_0 || t == DType::q4_0 || t == DType::q4_k; }
bool quantise(DType type, std::span<const float> values, std::byte* blocks);

}  // namespace fr
