// NVIDIA GPUs as the driver tells, without linking to it.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace fr {

struct GpuInfo {
  struct Device {
    std::string name;
    std::uint64_t memory = 0;  // bytes
  };
  std::string driver;  // of the kernel, as /proc/driver/nvidia/version says; empty: none
  int cuda = 0;        // newest CUDA that the driver runs: 12040 is 12.4; 0: libcuda is not there
  std::vector<Device> devices;
  std::string problem;  // why there are no devices although there is a driver; empty: all is well
};
// library: the name of the driver's user library; tests give their own.
GpuInfo gpu_info(const char* library = "libcuda.so.1");

}  // namespace fr
