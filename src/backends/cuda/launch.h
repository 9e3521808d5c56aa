// How kernels are launched and how they get dynamic shared memory: the same source is compiled by nvcc, and
// by a host compiler for the emulator that tests it without a GPU (tests/cuda_emulator).
#pragma once
#include <cuda_runtime.h>

#include <cstddef>
#include <utility>

namespace fr::cuda {

// Errors stay with the runtime until the device asks for them (cudaGetLastError).
template <class... P, class... A>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, std::size_t shared_bytes, cudaStream_t stream,
            A&&... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  cudaLaunchKernelEx(&config, kernel, std::forward<A>(arguments)...);
}

// The block's dynamic shared memory, 16-byte aligned.
template <class T>
__device__ inline T* dynamic_shared() {
#ifdef __CUDACC__
  extern __shared__ __align__(16) unsigned char fr_dynamic_shared[];
  return reinterpret_cast<T*>(fr_dynamic_shared);
#else
  return static_cast<T*>(emulated_dynamic_shared());
#endif
}

}  // namespace fr::cuda
