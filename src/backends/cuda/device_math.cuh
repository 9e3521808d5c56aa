// What several kernels need: activations, sums over a warp and over a block.
#pragma once
#include <cuda_runtime.h>

#include <cmath>

#include "backends/cuda/kernels.h"
#include "backends/cuda/language.h"

namespace fr::cuda {

inline constexpr unsigned all_lanes = 0xffffffffu;

__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

__device__ inline float activate(Activation f, float x) {
  switch (f) {
    case Activation::none:
      return x;
    case Activation::tanh:
      return tanhf(x);
    case Activation::sigmoid:
      return sigmoid(x);
    case Activation::exp:
      return expf(x);
    case Activation::silu:
      return x * sigmoid(x);
    case Activation::relu2:
      return x > 0.0f ? x * x : 0.0f;
    case Activation::decay6:
      return expf(-expf(x));
    case Activation::decay7:
      return expf(-0.606531f * sigmoid(x));
  }
  return x;
}

// Over lanes that differ in the bits below `width` (a power of two); all of them get the sum.
template <int width = 32>
__device__ inline float warp_sum(float x) {
  FR_UNROLL
  for (int step = width / 2; step > 0; step /= 2) x += __shfl_xor_sync(all_lanes, x, step);
  return x;
}

// Over the threads of a block of whole warps; all of them get the sums. Ends with everyone past the reads of
// `shared` only by the next barrier: two calls in a row need two buffers of 32.
__device__ inline float block_sum(float x, float* shared) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int warps = static_cast<int>(blockDim.x) / 32;
  x = warp_sum(x);
  if (lane == 0) shared[warp] = x;
  __syncthreads();
  return warp_sum(lane < warps ? shared[lane] : 0.0f);
}

}  // namespace fr::cuda
