// Between the program and the device library (libfaster_rwkv_cuda.so), which are one build: `abi` says of
// which, and nothing else is looked at before it agrees. No exceptions cross, and neither side asks for the
// other's types.
#pragma once
#include <cstdint>
#include <string>

#include "backends/backend.h"

namespace fr::cuda {

struct Plugin {
  const char* abi;
  // 0 and a device, or the ErrorCode and its message.
  int (*create)(const DeviceOptions& options, Device*& device, std::string& message);
  int (*available)(std::string& message);
  std::int64_t (*free_memory)(int index);
};
// The symbol that the library exports: `extern "C" const Plugin* fr_cuda_plugin()`.
inline constexpr const char* plugin_symbol = "fr_cuda_plugin";
using PluginEntry = const Plugin* (*)();

}  // namespace fr::cuda
