// How packed matrices lie in device memory. Plain constants, for packing (pack.h) and for the kernels.
//
// A row of codes is a number of chunks of 16 bytes, which never cross rows; numbers beyond the last of a row
// are zeros. A row is an output's inputs, or of a transposed matrix an input's outputs. Only an embedding
// table has rows without padding.
//   f32, f16, bf16  the numbers
//   q8_0            signed bytes; scales: a half per block of 32
//   q4_0, q4_k      a chunk is 32 numbers: byte i has number i (low half) and i + 16; scales of q4_0: a half
//   per chunk;
//                   of q4_k, per 256 numbers: d and dmin as halves, then 8 times the bytes scale and min
#pragma once
#include <cstdint>

#include "backends/cuda/kernels.h"
#include "backends/cuda/language.h"

namespace fr::cuda {

inline constexpr int chunk_bytes = 16;
inline constexpr int block_inputs = 32;       // that share a scale
inline constexpr int super_block_bytes = 20;  // scales of 256 numbers of q4_k

FR_HOST_DEVICE constexpr int chunk_numbers(WeightType type) {
  switch (type) {
    case WeightType::f32:
      return 4;
    case WeightType::f16:
    case WeightType::bf16:
      return 8;
    case WeightType::q8_0:
      return 16;
    default:
      return 32;
  }
}

// Of a row of `numbers` numbers.
FR_HOST_DEVICE constexpr int row_chunks(WeightType type, int numbers) {
  return (numbers + chunk_numbers(type) - 1) / chunk_numbers(type);
}
constexpr std::int64_t row_scale_bytes(WeightType type, int numbers) {
  switch (type) {
    case WeightType::q8_0:
    case WeightType::q4_0:
      return std::int64_t{numbers} / block_inputs * 2;
    case WeightType::q4_k:
      return std::int64_t{numbers} / 256 * super_block_bytes;
    default:
      return 0;
  }
}

}  // namespace fr::cuda
