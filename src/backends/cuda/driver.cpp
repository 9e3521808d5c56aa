#include "backends/cuda/driver.h"

#include <cuda_runtime.h>

#include <string>

#include "backends/cuda/kernels.h"
#include "backends/cuda/memory.h"

#ifndef FR_CUDA_ARCHITECTURES  // "sm_80, sm_90a": what the build has kernels for
#define FR_CUDA_ARCHITECTURES "none"
#endif

namespace fr::cuda {
namespace {

std::string version_string(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

Error no_driver() { return runtime_error("no NVIDIA driver (cuda): install it, or use the cpu"); }
Error no_gpu() {
  return runtime_error(
      "no NVIDIA GPU is visible (cuda): see nvidia-smi and CUDA_VISIBLE_DEVICES, or use the cpu");
}
Error old_driver(int driver, int runtime) {
  return runtime_error("the driver runs CUDA " + version_string(driver) + ", this build needs " +
                       version_string(runtime / 1000 * 1000) + " or newer (cuda): update the driver");
}

}  // namespace

Status check_driver() {
  int driver = 0, runtime = 0, count = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
    cudaGetLastError();
    return no_driver();
  }
  cudaRuntimeGetVersion(&runtime);
  if (driver / 1000 < runtime / 1000) return old_driver(driver, runtime);  // within a major version all fit
  const cudaError_t error = cudaGetDeviceCount(&count);
  cudaGetLastError();
  if (error == cudaErrorInsufficientDriver) return old_driver(driver, runtime);
  if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0)) return no_gpu();
  if (error != cudaSuccess) {
    return runtime_error("the NVIDIA driver does not answer (" + std::string(cudaGetErrorName(error)) +
                         ", cuda): see nvidia-smi, or restart the machine after a driver update");
  }
  return {};
}

Status check_device(int index) {
  FR_OK(check_driver());
  int count = 0;
  cudaGetDeviceCount(&count);
  if (index < 0 || index >= count) {
    return usage_error("there is no " + device_name(index) + " (strategy): this machine has cuda:0" +
                       (count > 1 ? " to " + device_name(count - 1) : ""));
  }
  cudaDeviceProp gpu{};
  cudaError_t error = cudaSetDevice(index);
  if (error == cudaSuccess) error = cudaGetDeviceProperties(&gpu, index);
  const std::string name = error == cudaSuccess ? "sm_" + std::to_string(gpu.major * 10 + gpu.minor) : "";
  if (error == cudaSuccess) error = static_cast<cudaError_t>(find_kernels());
  cudaGetLastError();
  if (error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidDeviceFunction ||
      error == cudaErrorUnsupportedPtxVersion) {
    const std::string what = gpu.major < 8 ? "cards from sm_80 on are supported, use the cpu"
                                           : "build with -DCMAKE_CUDA_ARCHITECTURES=native";
    return runtime_error("no kernel for this card (" + name + ", " + device_name(index) +
                         "): this build has " + FR_CUDA_ARCHITECTURES + ", " + what);
  }
  if (error == cudaErrorMemoryAllocation) return out_of_memory("the program itself", 0, index);
  if (error != cudaSuccess) {
    return runtime_error("the GPU cannot be used (" + std::string(cudaGetErrorName(error)) + ", " +
                         device_name(index) + "): see nvidia-smi whether another program holds it");
  }
  return {};
}

}  // namespace fr::cuda
