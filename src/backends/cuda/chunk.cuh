// 16 bytes of a packed matrix (layout.h) and their way to float32. Codes times scales give exactly the
// numbers of dequantise() (base/quant.h): all products are exact in float32, so there is one rounding, as
// there.
#pragma once
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "backends/cuda/kernels.h"
#include "backends/cuda/layout.h"

namespace fr::cuda {

__device__ inline float half_bits(unsigned bits) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(bits & 0xffffu)));
}

template <WeightType type>
struct Chunk {
  static constexpr int numbers = chunk_numbers(type), quads = numbers / 4;

  uint4 codes = {0, 0, 0, 0};
  unsigned scale = 0;  // a half; of q4_k two, d and dmin
  unsigned group = 0;  // of q4_k: bytes scale and min

  // Chunk `at` of row `row`, of rows of `chunks` chunks.
  __device__ void load(const DeviceMatrix& w, int chunks, int row, int at) {
    codes = __ldg(static_cast<const uint4*>(w.codes) + std::int64_t{row} * chunks + at);
    if constexpr (type == WeightType::q8_0 || type == WeightType::q4_0) {
      const int block = at * numbers / block_inputs;
      scale = __ldg(static_cast<const unsigned short*>(w.scales) + std::int64_t{row} * (w.in / block_inputs) +
                    block);
    } else if constexpr (type == WeightType::q4_k) {
      const auto* super = static_cast<const unsigned char*>(w.scales) +
                          (std::int64_t{row} * (w.in / 256) + at / 8) * super_block_bytes;
      scale = __ldg(reinterpret_cast<const unsigned*>(super));
      group = __ldg(reinterpret_cast<const unsigned short*>(super) + 2 + at % 8);
    }
  }

  // w = codes * x + y of block types.
  __device__ float2 line() const {
    const float d = half_bits(scale);
    if constexpr (type == WeightType::q4_k) {
      const float dmin = half_bits(scale >> 16);
      return {d * static_cast<float>(group & 0xffu), -dmin * static_cast<float>(group >> 8)};
    } else {
      return {d, type == WeightType::q4_0 ? -8.0f * d : 0.0f};
    }
  }

  // Numbers [4 q, 4 q + 4); line: line().
  __device__ float4 quad(int q, float2 line) const {
    const auto word = [&](int i) { return i == 0 ? codes.x : i == 1 ? codes.y : i == 2 ? codes.z : codes.w; };
    if constexpr (type == WeightType::f32) {
      return {__uint_as_float(codes.x), __uint_as_float(codes.y), __uint_as_float(codes.z),
              __uint_as_float(codes.w)};
    } else if constexpr (type == WeightType::f16) {
      const unsigned a = word(2 * q), b = word(2 * q + 1);
      return {half_bits(a), half_bits(a >> 16), half_bits(b), half_bits(b >> 16)};
    } else if constexpr (type == WeightType::bf16) {
      const unsigned a = word(2 * q), b = word(2 * q + 1);
      return {__uint_as_float(a << 16), __uint_as_float(a & 0xffff0000u), __uint_as_float(b << 16),
              __uint_as_float(b & 0xffff0000u)};
    } else if constexpr (type == WeightType::q8_0) {
      const auto number = [&](int i) {
        return line.x * static_cast<float>(static_cast<signed char>(word(q) >> 8 * i));
      };
      return {number(0), number(1), number(2), number(3)};
    } else {
      const unsigned nibbles = word(q % 4) >> (q / 4 * 4) & 0x0f0f0f0fu;
      const auto number = [&](int i) {
        return fmaf(static_cast<float>(nibbles >> 8 * i & 0xffu), line.x, line.y);
      };
      return {number(0), number(1), number(2), number(3)};
    }
  }
};

}  // namespace fr::cuda
