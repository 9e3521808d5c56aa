// What the product kernels share.
#pragma once
#include <cstdint>

#include "backends/cuda/device_math.cuh"
#include "backends/cuda/kernels.h"
#include "backends/cuda/launch.h"
#include "backends/cuda/layout.h"

namespace fr::cuda {

// y = act(sum + bias) * gate, one number.
__device__ inline void finish(const Product& p, int row, int out, float sum) {
  if (p.bias.p != nullptr) sum += p.bias.p[row * p.bias.stride + out];
  sum = activate(p.act, sum);
  if (p.gate.p != nullptr) sum *= p.gate.p[row * p.gate.stride + out];
  p.y.p[row * p.y.stride + out] = sum;
}

constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }

// Rows of x can be read four numbers at a time, and end with a whole chunk of the matrix.
inline bool aligned_inputs(const Product& p) {
  return reinterpret_cast<std::uintptr_t>(p.x.p) % 16 == 0 && p.x.stride % 4 == 0 &&
         p.w.in % chunk_numbers(p.w.type) == 0;
}

// A product whose sum over the inputs is cut into `slices` of `length` inputs: slice s of output o and row r
// goes to scratch[(s rows + r) out + o], and a second kernel adds them in order. One slice needs no scratch.
struct Slices {
  int count = 1, length = 0;
};

// At most most_exact_rows rows; not transposed.
void product_few_rows(Stream stream, const Product& p);
// At most most_exact_rows rows; transposed. Counts the zeros.
Slices sparse_slices(const DeviceMatrix& w);
void product_sparse(Stream stream, const Product& p, Slices slices);
// Any number of rows.
Slices tile_slices(const DeviceMatrix& w, int rows);
void product_tiles(Stream stream, const Product& p, Slices slices);

}  // namespace fr::cuda
