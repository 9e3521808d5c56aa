// The primitives that no other file has: plain loops, a thread per number or a warp per sum. They are what a
// fused op expands into before it has a kernel of its own.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "backends/cuda/device_math.cuh"
#include "backends/cuda/kernels.h"
#include "backends/cuda/launch.h"

namespace fr::cuda {
namespace {

constexpr int block_threads = 256;
constexpr int warps_per_block = 4;

unsigned blocks_for(std::int64_t numbers) {
  return static_cast<unsigned>((numbers + block_threads - 1) / block_threads);
}

// The number of the thread in a launch of blocks_for(numbers).
__device__ inline std::int64_t thread_number() {
  return std::int64_t{blockIdx.x} * block_threads + threadIdx.x;
}

__device__ inline float combined(Binary op, float a, float b) {
  switch (op) {
    case Binary::add:
      return a + b;
    case Binary::sub:
      return a - b;
    case Binary::mul:
      return a * b;
    case Binary::div:
      return a / b;
    default:
      return a < b ? b : a;
  }
}

__device__ inline float table_number(const DeviceMatrix& table, std::int64_t i) {
  switch (table.type) {
    case WeightType::f16:
      return __half2float(static_cast<const __half*>(table.codes)[i]);
    case WeightType::bf16:
      return __bfloat162float(static_cast<const __nv_bfloat16*>(table.codes)[i]);
    default:
      return static_cast<const float*>(table.codes)[i];
  }
}

__global__ void embedding_kernel(const std::int32_t* tokens, DeviceMatrix table, OutRows y) {
  const std::int64_t row = blockIdx.x, first = std::int64_t{tokens[row]} * table.in;
  for (int i = static_cast<int>(threadIdx.x); i < table.in; i += static_cast<int>(blockDim.x))
    y.p[row * y.stride + i] = table_number(table, first + i);
}

struct Shape3 {
  int d[3];
};

__global__ void binary_kernel(Binary op, Shape3 shape, Tensor3 a, Tensor3 b, float* y,
                              std::int64_t y_stride) {
  const std::int64_t i = thread_number(), row_size = std::int64_t{shape.d[1]} * shape.d[2];
  if (i >= shape.d[0] * row_size) return;
  const std::int64_t row = i / row_size, in_row = i % row_size, j = in_row / shape.d[2],
                     c = in_row % shape.d[2];
  const float u = a.p[row * a.stride[0] + j * a.stride[1] + c * a.stride[2]];
  const float v = b.p[row * b.stride[0] + j * b.stride[1] + c * b.stride[2]];
  y[row * y_stride + in_row] = combined(op, u, v);
}

__global__ void unary_kernel(Activation f, int rows, int n, Rows x, OutRows y) {
  const std::int64_t i = thread_number(), row = i / n, c = i % n;
  if (row < rows) y.p[row * y.stride + c] = activate(f, x.p[row * x.stride + c]);
}

__global__ void affine_kernel(int rows, int n, Rows x, float scale, float offset, OutRows y) {
  const std::int64_t i = thread_number(), row = i / n, c = i % n;
  if (row < rows) y.p[row * y.stride + c] = x.p[row * x.stride + c] * scale + offset;
}

// The warp's place among the parts of n numbers that it goes through with its neighbours.
struct Part {
  std::int64_t row, head;
};
__device__ inline Part part_of_warp(int heads) {
  const std::int64_t part = std::int64_t{blockIdx.x} * warps_per_block + threadIdx.x / 32;
  return {part / heads, part % heads};
}

// A warp for each head of each row.
__global__ void norm_kernel(int rows, int heads, int n, Rows x, float eps, bool l2, OutRows y) {
  const Part part = part_of_warp(heads);
  if (part.row >= rows) return;
  const int lane = static_cast<int>(threadIdx.x % 32);
  const float* from = x.p + part.row * x.stride + part.head * n;
  float* to = y.p + part.row * y.stride + part.head * n;
  float mean = 0, squares = 0;
  if (!l2) {
    for (int i = lane; i < n; i += 32) mean += from[i];
    mean = warp_sum(mean) / static_cast<float>(n);
  }
  for (int i = lane; i < n; i += 32) squares += (from[i] - mean) * (from[i] - mean);
  squares = warp_sum(squares);
  const float length = l2 ? fmaxf(sqrtf(squares), eps) : sqrtf(squares / static_cast<float>(n) + eps);
  for (int i = lane; i < n; i += 32) to[i] = (from[i] - mean) / length;
}

__global__ void sum_kernel(int rows, int heads, int n, Rows x, OutRows y) {
  const Part part = part_of_warp(heads);
  if (part.row >= rows) return;
  const float* from = x.p + part.row * x.stride + part.head * n;
  float total = 0;
  for (int i = static_cast<int>(threadIdx.x % 32); i < n; i += 32) total += from[i];
  total = warp_sum(total);
  if (threadIdx.x % 32 == 0) y.p[part.row * y.stride + part.head] = total;
}

__global__ void copy_kernel(int rows, int n, Rows x, OutRows y) {
  const std::int64_t i = thread_number(), row = i / n, c = i % n;
  if (row < rows) y.p[row * y.stride + c] = x.p[row * x.stride + c];
}

__global__ void gather_kernel(const std::int32_t* wanted, int n, Rows x, OutRows y) {
  const std::int64_t row = blockIdx.x, from = wanted[row];
  for (int i = static_cast<int>(threadIdx.x); i < n; i += static_cast<int>(blockDim.x))
    y.p[row * y.stride + i] = x.p[from * x.stride + i];
}

// A block per row. That of a sequence's first row, which alone reads the old state, also writes the new one.
__global__ void shift_kernel(StepView step, int n, std::int64_t block, Rows x, OutRows y) {
  const std::int64_t row = blockIdx.x;
  const DeviceSequence s = step.sequence[step.sequence_of_row[row]];
  for (int i = static_cast<int>(threadIdx.x); i < n; i += static_cast<int>(blockDim.x)) {
    if (row > s.begin) {
      y.p[row * y.stride + i] = x.p[(row - 1) * x.stride + i];
      continue;
    }
    float* state = step.slots[s.slot] + block;
    y.p[row * y.stride + i] = state[i];
    state[i] = x.p[(std::int64_t{s.begin} + s.count - 1) * x.stride + i];
  }
}

// A thread per result.
__global__ void matvec_kernel(int heads, int m, int n, const float* s, const float* x, bool transposed,
                              float* y) {
  const int in = transposed ? m : n, out = transposed ? n : m;
  const std::int64_t i = thread_number(), head = i / out, o = i % out;
  if (head >= heads) return;
  const std::int64_t step = transposed ? n : 1,
                     next = transposed ? 1 : n;  // along the sum; to the next result
  const float* matrix = s + head * m * n + o * next;
  float total = 0;
  for (int j = 0; j < in; ++j) total += matrix[j * step] * x[head * in + j];
  y[i] = total;
}

__global__ void outer_kernel(int heads, int m, int n, const float* u, const float* v, float* y) {
  const std::int64_t i = thread_number(), head = i / (std::int64_t{m} * n),
                     in_head = i % (std::int64_t{m} * n);
  if (head < heads) y[i] = u[head * m + in_head / n] * v[head * n + in_head % n];
}

dim3 grid_of_warps(int rows, int heads) {
  return {static_cast<unsigned>((std::int64_t{rows} * heads + warps_per_block - 1) / warps_per_block)};
}

}  // namespace

int find_kernels() {
  cudaFuncAttributes attributes{};
  return cudaFuncGetAttributes(&attributes, copy_kernel);
}

void embedding(Stream stream, const StepView& step, const DeviceMatrix& table, OutRows y) {
  launch(embedding_kernel, static_cast<unsigned>(step.rows), block_threads, 0, stream, step.tokens, table, y);
}

void binary(Stream stream, Binary op, const int (&shape)[3], Tensor3 a, Tensor3 b, float* y,
            std::int64_t y_row_stride) {
  launch(binary_kernel, blocks_for(std::int64_t{shape[0]} * shape[1] * shape[2]), block_threads, 0, stream,
         op, Shape3{{shape[0], shape[1], shape[2]}}, a, b, y, y_row_stride);
}

void unary(Stream stream, Activation f, int rows, int n, Rows x, OutRows y) {
  launch(unary_kernel, blocks_for(std::int64_t{rows} * n), block_threads, 0, stream, f, rows, n, x, y);
}

void affine(Stream stream, int rows, int n, Rows x, float scale, float offset, OutRows y) {
  launch(affine_kernel, blocks_for(std::int64_t{rows} * n), block_threads, 0, stream, rows, n, x, scale,
         offset, y);
}

void norm(Stream stream, int rows, int heads, int n, Rows x, float eps, bool l2, OutRows y) {
  launch(norm_kernel, grid_of_warps(rows, heads), 32 * warps_per_block, 0, stream, rows, heads, n, x, eps, l2,
         y);
}

void sum(Stream stream, int rows, int heads, int n, Rows x, OutRows y) {
  launch(sum_kernel, grid_of_warps(rows, heads), 32 * warps_per_block, 0, stream, rows, heads, n, x, y);
}

void copy(Stream stream, int rows, int n, Rows x, OutRows y) {
  launch(copy_kernel, blocks_for(std::int64_t{rows} * n), block_threads, 0, stream, rows, n, x, y);
}

void gather_wanted(Stream stream, const StepView& step, int n, Rows x, OutRows y) {
  launch(gather_kernel, static_cast<unsigned>(step.wanted), block_threads, 0, stream, step.wanted_rows, n, x,
         y);
}

void shift(Stream stream, const StepView& step, int n, std::int64_t block, Rows x, OutRows y) {
  launch(shift_kernel, static_cast<unsigned>(step.rows), block_threads, 0, stream, step, n, block, x, y);
}

void matvec(Stream stream, int heads, int m, int n, const float* s, const float* x, bool transposed,
            float* y) {
  launch(matvec_kernel, blocks_for(std::int64_t{heads} * (transposed ? n : m)), block_threads, 0, stream,
         heads, m, n, s, x, transposed, y);
}

void outer(Stream stream, int heads, int m, int n, const float* u, const float* v, float* y) {
  launch(outer_kernel, blocks_for(std::int64_t{heads} * m * n), block_threads, 0, stream, heads, m, n, u, v,
         y);
}

}  // namespace fr::cuda
