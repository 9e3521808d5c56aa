// What tests may change of the emulated GPU, and ask about it.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>
#include <string>

namespace cuda_emulator {

struct Settings {
  int devices = 1;
  int driver = 13000;        // CUDA version of the driver
  int major = 9, minor = 0;  // compute capability
  std::size_t memory = std::size_t{1} << 30;
  bool kernel_images = true;  // false: every launch fails with cudaErrorNoKernelImageForDevice
};
Settings& settings();
void reset();  // the defaults, no errors pending; allocations stay

// The call number `after` (0: the next) of the named function ("cudaMalloc", "launch", "" for any) fails. A
// sticky error stays: every later call fails too, until reset().
void fail(const std::string& function, cudaError_t error, int after = 0, bool sticky = false);

struct Counts {
  std::int64_t allocations = 0, host_allocations = 0, launches = 0, graph_launches = 0, captures = 0;
  std::size_t allocated = 0;  // bytes of device memory in use
};
const Counts& counts();

}  // namespace cuda_emulator
