#include "backends/cuda/memory.h"

namespace fr::cuda {
namespace {

std::string megabytes(std::size_t bytes) { return std::to_string((bytes + (1 << 20) - 1) >> 20) + " MB"; }

}  // namespace

Error lost_device(cudaError_t error, int index) {
  return runtime_error("the GPU stopped working (" + std::string(cudaGetErrorName(error)) + ", " +
                       device_name(index) +
                       "): restart the program; if it happens again, try another driver or GPU");
}

Error out_of_memory(const std::string& what, std::size_t bytes, int index) {
  std::size_t free = 0, total = 0;
  if (cudaMemGetInfo(&free, &total) != cudaSuccess) free = 0;
  return runtime_error("not enough GPU memory for " + what + ": need " + megabytes(bytes) + ", have " +
                       megabytes(free) + " (" + device_name(index) +
                       "): try int8, int4, or leave layers on the cpu");
}

Result<DeviceBlock> allocate_device(std::size_t bytes, const std::string& what, int index) {
  void* p = nullptr;
  const cudaError_t error = cudaMalloc(&p, bytes);
  if (error == cudaSuccess) return DeviceBlock(p, bytes);
  cudaGetLastError();  // it is told here: nobody else shall find it
  return error == cudaErrorMemoryAllocation ? out_of_memory(what, bytes, index) : lost_device(error, index);
}

Result<HostBlock> allocate_host(std::size_t bytes, const std::string& what, int index) {
  void* p = nullptr;
  const cudaError_t error = cudaMallocHost(&p, bytes);
  if (error == cudaSuccess) return HostBlock(p, bytes);
  cudaGetLastError();
  if (error != cudaErrorMemoryAllocation) return lost_device(error, index);
  return runtime_error("not enough page-locked memory for " + what + " (" + megabytes(bytes) +
                       "): close other programs, or raise the limit of locked memory");
}

}  // namespace fr::cuda
