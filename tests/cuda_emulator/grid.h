// Runs the blocks of one launch.
#pragma once
#include <cuda_runtime.h>

#include <functional>

namespace cuda_emulator {

// body: what one thread does. `shared` bytes of dynamic shared memory.
void run_grid(const dim3& grid, const dim3& threads, std::size_t shared, const std::function<void()>& body);

}  // namespace cuda_emulator
