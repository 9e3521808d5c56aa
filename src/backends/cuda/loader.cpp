// The cuda backend as the program sees it: the device library is looked for and loaded when somebody asks for
// the device, so that one program serves machines with and without a GPU.
#include <dlfcn.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "backends/backend.h"
#include "backends/cuda/plugin.h"
#include "core/storage.h"

namespace fr {

const Backend& cuda_backend();

namespace cuda {
namespace {

constexpr const char* library_name = "libfaster_rwkv_cuda.so";

namespace fs = std::filesystem;

// The folders of the library or program that this code is in, and of the program that runs.
std::vector<fs::path> own_folders() {
  std::vector<fs::path> folders;
  Dl_info here{};
  if (::dladdr(reinterpret_cast<const void*>(&cuda_backend), &here) != 0 && here.dli_fname != nullptr &&
      std::string_view(here.dli_fname).find('/') != std::string_view::npos) {
    folders.push_back(fs::path(here.dli_fname).parent_path());
  }
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  if (!error) folders.push_back(program.parent_path());
  return folders;
}

// The library that the user chose, which stands for itself alone; empty: none.
std::string named_library() {
  const char* const named = std::getenv("FRWKV_CUDA_LIBRARY");
  return named != nullptr ? named : "";
}

// Where the library may be, in the order of the search.
std::vector<std::string> places() {
  if (const std::string named = named_library(); !named.empty()) return {named};
  std::vector<std::string> all;
  for (const fs::path& folder : own_folders()) {
    all.push_back(folder / library_name);
    all.push_back(folder / ".." / "lib" / library_name);
  }
  all.push_back(library_name);
  return all;
}

// What dlopen says when the file is not there (and not when something the file needs is missing).
bool is_absent(std::string_view problem, const std::string& path) {
  return problem.starts_with(path + ": cannot open shared object file");
}

Result<const Plugin*> load() {
  for (const std::string& path : places()) {
    void* const library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      const char* const problem = ::dlerror();
      const std::string_view text = problem != nullptr ? problem : "";
      if (is_absent(text, path) && named_library().empty()) continue;
      return runtime_error("the CUDA device library cannot be loaded (" + std::string(text) +
                           "): install what it needs, or build it again");
    }
    // Never unloaded: the driver may have threads, and devices live as long as they like.
    const auto entry = reinterpret_cast<PluginEntry>(::dlsym(library, plugin_symbol));
    const Plugin* const plugin = entry != nullptr ? entry() : nullptr;
    if (plugin == nullptr) {
      return runtime_error("no CUDA device library (" + path + "): it does not have " + plugin_symbol);
    }
    if (std::string_view(plugin->abi) != FR_CUDA_ABI) {
      return runtime_error("the CUDA device library is of another build (" + path + " is \"" + plugin->abi +
                           "\", the program \"" + FR_CUDA_ABI + "\"): build both together");
    }
    return plugin;
  }
  return runtime_error(std::string("this program has no CUDA device library (") + library_name +
                       " beside it): build with -DFR_ENABLE_CUDA=ON");
}

// Found once; what is missing is looked for again.
Result<const Plugin*> plugin() {
  static std::atomic<const Plugin*> found{nullptr};
  if (found == nullptr) {
    FR_TRY(found, load());
  }
  return found.load();
}

Error error_of(int code, std::string message) { return {static_cast<ErrorCode>(code), std::move(message)}; }

Result<std::unique_ptr<Device>> create(const DeviceOptions& options) {
  FR_TRY(const Plugin* library, plugin());
  Device* device = nullptr;
  std::string message;
  if (const int code = library->create(options, device, message); code != 0)
    return error_of(code, std::move(message));
  return std::unique_ptr<Device>(device);
}

Status available() {
  FR_TRY(const Plugin* library, plugin());
  std::string message;
  const int code = library->available(message);
  return code == 0 ? Status{} : Status(error_of(code, std::move(message)));
}

std::int64_t free_memory(int index) {
  const Result<const Plugin*> library = plugin();
  return library ? (*library)->free_memory(index) : 0;
}

}  // namespace
}  // namespace cuda

const Backend& cuda_backend() {
  static const Backend backend{"cuda",
                               {DType::f32, DType::f16, DType::bf16, int8_weights, int4_weights},
                               &cuda::create,
                               true,
                               false,
                               &cuda::available,
                               &cuda::free_memory};
  return backend;
}

}  // namespace fr
