#include "backends/cuda/plugin.h"

#include <cuda_runtime.h>

#include <memory>
#include <utility>

#include "backends/cuda/cuda_device.h"
#include "backends/cuda/driver.h"

namespace fr::cuda {
namespace {

int told(const Error& error, std::string& message) {
  message = error.message;
  return static_cast<int>(error.code);
}

int create(const DeviceOptions& options, Device*& device, std::string& message) {
  Result<std::unique_ptr<Device>> made = create_device(options);
  if (!made) return told(made.error(), message);
  device = std::move(made).value().release();
  return 0;
}

int available(std::string& message) {
  const Status usable = check_driver();
  return usable ? 0 : told(usable.error(), message);
}

std::int64_t free_memory(int index) {
  if (!check_driver()) return 0;
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || index < 0 || index >= count) return 0;
  const CurrentDevice current(index);
  std::size_t free = 0, total = 0;
  if (cudaMemGetInfo(&free, &total) != cudaSuccess) return 0;
  return static_cast<std::int64_t>(free);
}

}  // namespace
}  // namespace fr::cuda

extern "C" __attribute__((visibility("default"))) const fr::cuda::Plugin* fr_cuda_plugin();
const fr::cuda::Plugin* fr_cuda_plugin() {
  static const fr::cuda::Plugin plugin{FR_CUDA_ABI, &fr::cuda::create, &fr::cuda::available,
                                       &fr::cuda::free_memory};
  return &plugin;
}
