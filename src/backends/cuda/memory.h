// Memory of the GPU and page-locked memory of the host as owned blocks, and what the runtime's errors mean.
#pragma once
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "base/result.h"

namespace fr::cuda {

// "cuda:0"
inline std::string device_name(int index) { return "cuda:" + std::to_string(index); }

// An error after which the device cannot be used in this process: "the GPU stopped working (cudaErrorX,
// cuda:0): ..."
Error lost_device(cudaError_t error, int index);
// "not enough GPU memory for <what>: need X MB, have Y MB (cuda:0): ..."
Error out_of_memory(const std::string& what, std::size_t bytes, int index);

// A block that is freed with its object. Device: on the current device; host: page-locked.
template <cudaError_t (*free_block)(void*)>
class Block {
 public:
  Block() = default;
  Block(void* p, std::size_t bytes) : p_(p), bytes_(bytes) {}
  Block(Block&& other) noexcept
      : p_(std::exchange(other.p_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Block& operator=(Block&& other) noexcept {
    std::swap(p_, other.p_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Block() {
    if (p_ != nullptr) free_block(p_);
  }
  template <class T = std::byte>
  T* as() const {
    return static_cast<T*>(p_);
  }
  std::size_t bytes() const { return bytes_; }

 private:
  void* p_ = nullptr;
  std::size_t bytes_ = 0;
};
inline cudaError_t free_device(void* p) { return cudaFree(p); }
inline cudaError_t free_host(void* p) { return cudaFreeHost(p); }
using DeviceBlock = Block<&free_device>;
using HostBlock = Block<&free_host>;

// Errors: out_of_memory(what), lost_device.
Result<DeviceBlock> allocate_device(std::size_t bytes, const std::string& what, int index);
Result<HostBlock> allocate_host(std::size_t bytes, const std::string& what, int index);

// The process may use several GPUs and threads: whoever calls the runtime says first which one is meant, and
// gets the thread's own choice back.
class CurrentDevice {
 public:
  explicit CurrentDevice(int index) {
    if (cudaGetDevice(&before_) != cudaSuccess) before_ = index;
    if (before_ != index) cudaSetDevice(index);
    changed_ = before_ != index;
  }
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;
  ~CurrentDevice() {
    // A thread that only computed here may not be let in on its own device: no error of this one.
    if (changed_ && cudaSetDevice(before_) != cudaSuccess) cudaGetLastError();
  }

 private:
  int before_ = 0;
  bool changed_ = false;
};

}  // namespace fr::cuda
