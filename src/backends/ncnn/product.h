// Products with weights where the mapped file has them: any of the formats that exported models hold, with
// float32 inputs and sums.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/thread_pool.h"

namespace fr::ncnn_backend {

enum class Numbers : std::uint8_t {
  f32,
  f16,
  block8,   // int8, blocks of 32 inputs: x = q / scale
  block4,   // two's complement nibbles, low one first, likewise
  group64,  // int8, groups of 64 inputs: x = q scale, fp16 scales (embeddings of 2023)
};

// W [out][in], or [in][out] when transposed (f32 and f16 only). Nothing needs to be aligned.
struct Matrix {
  Numbers numbers = Numbers::f32;
  bool transposed = false;
  int out = 0, in = 0;
  const std::byte* data = nullptr;
  const std::byte* scales = nullptr;  // of blocks: float32 [out][in / 32]; of groups: fp16
  const std::byte* bias = nullptr;    // float32 [out], or null
};

// y = W x + bias for `rows` rows, one after the other: x [rows][in], y [rows][out].
void multiply(const Matrix& w, const float* x, int rows, float* y, ThreadPool& pool);

// Row `row` of W as floats: an embedding. Not transposed.
void read_row(const Matrix& w, int row, std::span<float> out);

}  // namespace fr::ncnn_backend
