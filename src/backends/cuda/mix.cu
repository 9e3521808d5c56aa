// Residual add, layer norm, token shift and lerps. A block has a row.
#include <algorithm>
#include <type_traits>

#include "backends/cuda/device_math.cuh"
#include "backends/cuda/launch.h"

namespace fr::cuda {
namespace {

constexpr int most_threads = 1024, lerp_threads = 256;

// One row of x + pending and its layer norm. A thread has the elements threadIdx.x + j blockDim.x: in
// registers if these are at most `held`, else (held 0) they are read again whenever they are needed.
template <int held>
struct NormedRow {
  const AddNorm& norm;
  const float *x, *pending;
  float v[held > 0 ? held : 1];
  float mean, inverse_deviation;

  __device__ NormedRow(const AddNorm& n, int row)
      : norm(n),
        x(n.x.p + row * n.x.stride),
        pending(n.pending.p == nullptr ? nullptr : n.pending.p + row * n.pending.stride) {
    each([&](int j, int i) {
      if constexpr (held > 0) v[j] = read(i);
    });
  }

  // f(j, i) for this thread's elements i.
  template <class F>
  __device__ void each(F f) const {
    if constexpr (held > 0) {
      FR_UNROLL
      for (int j = 0; j < held; ++j) {
        const int i = static_cast<int>(threadIdx.x) + j * static_cast<int>(blockDim.x);
        if (i < norm.n) f(j, i);
      }
    } else {
      for (int i = static_cast<int>(threadIdx.x); i < norm.n; i += static_cast<int>(blockDim.x)) f(0, i);
    }
  }
  template <class F>
  __device__ void each(F f) {
    static_cast<const NormedRow*>(this)->each(f);
  }

  __device__ float read(int i) const { return pending == nullptr ? x[i] : x[i] + pending[i]; }
  __device__ float total(int j, int i) const {  // x + pending
    if constexpr (held > 0) {
      return v[j];
    } else {
      return read(i);
    }
  }
  __device__ float normed(int j, int i) const {
    return fmaf((total(j, i) - mean) * inverse_deviation, norm.weight[i], norm.bias[i]);
  }

  // All threads of the block. shared: 64 floats that no other call uses without a barrier between.
  __device__ void moments(float* shared) {
    const float n = static_cast<float>(norm.n);
    float sum = 0;
    each([&](int j, int i) { sum += total(j, i); });
    mean = block_sum(sum, shared) / n;
    float squares = 0;
    each([&](int j, int i) {
      const float d = total(j, i) - mean;
      squares = fmaf(d, d, squares);
    });
    inverse_deviation = 1.0f / sqrtf(block_sum(squares, shared + 32) / n + norm.eps);
  }

  __device__ void store_sum(int row) const {
    if (norm.sum.p == nullptr) return;
    float* sum = norm.sum.p + row * norm.sum.stride;
    each([&](int j, int i) { sum[i] = total(j, i); });
  }
};

template <int held>
__global__ void __launch_bounds__(most_threads) add_norm_rows(AddNorm norm, OutRows h) {
  __shared__ float shared[64];
  const int row = static_cast<int>(blockIdx.x);
  NormedRow<held> now(norm, row);
  now.moments(shared);
  now.store_sum(row);
  float* out = h.p + row * h.stride;
  now.each([&](int j, int i) { out[i] = now.normed(j, i); });
}

// Row t needs the norm of row t - 1, and computes it again. Only the block of a sequence's first row reads
// the old state, and it writes the new one: an element is read and written by the same thread.
template <int held>
__global__ void __launch_bounds__(most_threads) norm_mix_rows(StepView step, NormMix m) {
  __shared__ float shared[64], shared_before[64];
  const int row = static_cast<int>(blockIdx.x);
  const DeviceSequence sequence = step.sequence[step.sequence_of_row[row]];
  NormedRow<held> now(m.norm, row);
  now.moments(shared);
  now.store_sum(row);
  const auto mix = [&](int j, int i, float previous) {
    const float h = now.normed(j, i), d = previous - h;
    for (int c = 0; c < m.count; ++c) m.out[c].p[row * m.out[c].stride + i] = fmaf(d, m.mix[c][i], h);
    if (m.h.p != nullptr) m.h.p[row * m.h.stride + i] = h;
    if (m.dx.p != nullptr) m.dx.p[row * m.dx.stride + i] = d;
  };
  if (row > sequence.begin) {
    NormedRow<held> before(m.norm, row - 1);
    before.moments(shared_before);
    now.each([&](int j, int i) { mix(j, i, before.normed(j, i)); });
    return;
  }
  float* state = step.slots[sequence.slot] + m.block;
  now.each([&](int j, int i) { mix(j, i, state[i]); });
  if (sequence.count == 1) {
    now.each([&](int j, int i) { state[i] = now.normed(j, i); });
  } else {
    NormedRow<held> last(m.norm, sequence.begin + sequence.count - 1);
    last.moments(shared_before);
    last.each([&](int j, int i) { state[i] = last.normed(j, i); });
  }
}

// The launch for rows of n: run(held, threads).
template <class F>
void by_length(int n, F run) {
  const int threads = std::min(most_threads, (n + 31) / 32 * 32);
  const int each = (n + threads - 1) / threads;
  const dim3 block(static_cast<unsigned>(threads));
  if (each <= 2) return run(std::integral_constant<int, 2>(), block);
  if (each <= 4) return run(std::integral_constant<int, 4>(), block);
  if (each <= 8) return run(std::integral_constant<int, 8>(), block);
  run(std::integral_constant<int, 0>(), block);
}

__global__ void __launch_bounds__(lerp_threads) data_mix_rows(DataMixOut m) {
  const int row = static_cast<int>(blockIdx.y), i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= m.n) return;
  const float h = m.h.p[row * m.h.stride + i], dx = m.dx.p[row * m.dx.stride + i];
  FR_UNROLL
  for (int c = 0; c < 5; ++c) {
    const float weight = m.maa[c][i] + m.part[c].p[row * m.part[c].stride + i];
    m.out[c].p[row * m.out[c].stride + i] = fmaf(dx, weight, h);
  }
}

__global__ void __launch_bounds__(lerp_threads) lerp_rows(int n, Rows a, Rows b, Rows t, OutRows y) {
  const int row = static_cast<int>(blockIdx.y), i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= n) return;
  const float from = a.p[row * a.stride + i];
  y.p[row * y.stride + i] = fmaf(b.p[row * b.stride + i] - from, t.p[row * t.stride + i], from);
}

dim3 columns(int n, int rows) {
  return dim3(static_cast<unsigned>((n + lerp_threads - 1) / lerp_threads), static_cast<unsigned>(rows));
}

}  // namespace

void add_norm(Stream stream, int rows, const AddNorm& norm, OutRows h) {
  by_length(norm.n, [&](auto held, dim3 threads) {
    launch(&add_norm_rows<decltype(held)::value>, dim3(static_cast<unsigned>(rows)), threads, 0, stream, norm,
           h);
  });
}

void norm_mix(Stream stream, const StepView& step, const NormMix& m) {
  by_length(m.norm.n, [&](auto held, dim3 threads) {
    launch(&norm_mix_rows<decltype(held)::value>, dim3(static_cast<unsigned>(step.rows)), threads, 0, stream,
           step, m);
  });
}

void data_mix(Stream stream, int rows, const DataMixOut& m) {
  launch(&data_mix_rows, columns(m.n, rows), dim3(lerp_threads), 0, stream, m);
}

void lerp(Stream stream, int rows, int n, Rows a, Rows b, Rows t, OutRows y) {
  launch(&lerp_rows, columns(n, rows), dim3(lerp_threads), 0, stream, n, a, b, t, y);
}

}  // namespace fr::cuda
