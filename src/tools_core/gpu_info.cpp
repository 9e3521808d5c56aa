#include "tools_core/gpu_info.h"

#include <dlfcn.h>

#include <array>
#include <fstream>
#include <memory>

namespace fr {
namespace {

// The driver API of CUDA, as far as it is used here. Results: 0 is success.
struct Driver {
  int (*init)(unsigned) = nullptr;
  int (*version)(int*) = nullptr;
  int (*count)(int*) = nullptr;
  int (*device)(int*, int) = nullptr;
  int (*name)(char*, int, int) = nullptr;
  int (*memory)(std::size_t*, int) = nullptr;
};

template <class F>
bool find(void* library, const char* name, F& function) {
  function = reinterpret_cast<F>(::dlsym(library, name));
  return function != nullptr;
}

bool find_all(void* library, Driver& d) {
  return find(library, "cuInit", d.init) && find(library, "cuDriverGetVersion", d.version) &&
         find(library, "cuDeviceGetCount", d.count) && find(library, "cuDeviceGet", d.device) &&
         find(library, "cuDeviceGetName", d.name) && find(library, "cuDeviceTotalMem_v2", d.memory);
}

// "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  ..." -> "550.54.15"
std::string kernel_driver() {
  std::ifstream file("/proc/driver/nvidia/version");
  if (!file) return "";
  for (std::string word; file >> word;) {
    if (word.find_first_not_of("0123456789.") == std::string::npos && word.find('.') != std::string::npos)
      return word;
  }
  return "unknown";
}

}  // namespace

GpuInfo gpu_info(const char* library) {
  GpuInfo info;
  info.driver = kernel_driver();
  // Never unloaded: the driver may have threads.
  void* handle = ::dlopen(library, RTLD_NOW | RTLD_LOCAL);
  Driver d;
  if (handle == nullptr || !find_all(handle, d)) {
    if (!info.driver.empty()) info.problem = std::string(library) + " is missing";
    return info;
  }
  d.version(&info.cuda);
  int count = 0;
  if (const int code = d.init(0); code != 0) {
    info.problem = "cuInit fails with error " + std::to_string(code);
    return info;
  }
  if (d.count(&count) != 0) count = 0;
  for (int i = 0; i < count; ++i) {
    int device = 0;
    std::array<char, 256> name{};
    std::size_t memory = 0;
    if (d.device(&device, i) != 0) continue;
    d.name(name.data(), static_cast<int>(name.size()) - 1, device);
    d.memory(&memory, device);
    info.devices.push_back({name.data(), memory});
  }
  if (info.devices.empty()) info.problem = "the driver shows no GPU";
  return info;
}

}  // namespace fr
