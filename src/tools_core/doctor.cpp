#include "tools_core/doctor.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "backends/backend.h"
#include "base/cpu_info.h"
#include "engine/file_info.h"
#include "engine/locate.h"
#include "tools_core/build_info.h"
#include "tools_core/gpu_info.h"

namespace fr {
namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

Json bytes_or_null(std::int64_t n) {
  return n == std::numeric_limits<std::int64_t>::max() ? Json() : Json(n);
}

// "madvise" of "always [madvise] never".
std::string huge_pages() {
  std::ifstream file("/sys/kernel/mm/transparent_hugepage/enabled");
  for (std::string word; file >> word;) {
    if (word.size() > 2 && word.front() == '[') return word.substr(1, word.size() - 2);
  }
  return "unknown";
}

void look_at_cpu(Json& out, Json& advice) {
  const AmxPermission amx = amx_permission();
  out["cpu"] = {{"model", cpu_name()},
                {"processors", available_cpus()},
                {"cores", available_cores()},
                {"found", instruction_sets()},
                {"amx", amx == AmxPermission::no_amx    ? "absent"
                        : amx == AmxPermission::granted ? "granted"
                                                        : "refused"}};
  if (amx == AmxPermission::refused)
    advice.push_back(
        "the kernel does not let programs use AMX: Linux 5.16 or newer does, in a container the host "
        "decides");
#if defined(__x86_64__)
  if (!cpu_features().avx2)
    advice.push_back(
        "the processor has no AVX2, or the system hides it: in a virtual machine choose the CPU type "
        "\"host\"");
#endif
}

void look_at_gpu(Json& out, Json& advice) {
  const GpuInfo gpu = gpu_info();
  Json devices = Json::array();
  for (const auto& d : gpu.devices) devices.push_back({{"name", d.name}, {"memory", d.memory}});
  out["gpu"] = {{"driver", gpu.driver.empty() ? Json() : Json(gpu.driver)},
                {"cuda", gpu.cuda == 0 ? Json()
                                       : Json(std::to_string(gpu.cuda / 1000) + "." +
                                              std::to_string(gpu.cuda % 1000 / 10))},
                {"devices", devices},
                {"problem", gpu.problem.empty() ? Json() : Json(gpu.problem)}};
  if (!gpu.problem.empty())
    advice.push_back("the NVIDIA driver does not work (" + gpu.problem +
                     "): install or restart it; in a container, pass the GPU in");
  const Result<const Backend*> cuda = find_backend("cuda");
  if (gpu.devices.empty() || !cuda) return;
  if (const Status usable = (*cuda)->available(); !usable.ok())
    advice.push_back("there is a GPU that is not used: " + usable.error().message);
}

void look_at_memory(Json& out, Json& advice) {
  const MemoryInfo m = memory_info();
  out["memory"] = {{"total", bytes_or_null(m.total)},
                   {"limit", bytes_or_null(m.limit)},
                   {"available", bytes_or_null(m.available)}};
  out["huge_pages"] = huge_pages();
  if (m.available < m.total / 10)
    advice.push_back("less than a tenth of the memory is free: close other programs");
  if (out["huge_pages"] == "never")
    advice.push_back(
        "huge pages are off: as root, echo madvise > /sys/kernel/mm/transparent_hugepage/enabled");
}

void look_at_disk(const std::string& cache, Json& out, Json& advice) {
  fs::path folder = cache;  // or the nearest that exists
  std::error_code ignored;
  while (!fs::exists(folder, ignored) && folder.has_relative_path()) folder = folder.parent_path();
  struct statvfs disk {};
  if (cache.empty() || ::statvfs(folder.c_str(), &disk) != 0) {
    out["cache"] = {{"path", cache}, {"free", Json()}, {"total", Json()}};
    return;
  }
  const std::uint64_t unused = std::uint64_t{disk.f_bavail} * disk.f_frsize;
  out["cache"] = {{"path", cache}, {"free", unused}, {"total", std::uint64_t{disk.f_blocks} * disk.f_frsize}};
  if (unused < std::uint64_t{2} << 30)
    advice.push_back(
        "less than 2 GiB of disk are free for downloads: free some, or name another folder in HF_HUB_CACHE");
}

struct WeightFormat {
  const char* dtype;
  double bytes_per_number;
};
// int8 is Q8_0, 34 bytes for 32 numbers; int4 is Q4_K, 144 bytes for 256.
constexpr WeightFormat weight_formats[] = {
    {"fp32", 4}, {"fp16", 2}, {"int8", 34.0 / 32}, {"int4", 144.0 / 256}};

// Matrices have the named format, everything small is fp32.
double weight_bytes(const Json& tensors, double bytes_per_number) {
  double sum = 0;
  for (const Json& tensor : tensors) {
    double size = 1, smallest = std::numeric_limits<double>::infinity();
    int long_axes = 0;
    for (const Json& n : tensor["shape"]) {
      const double length = n.get<double>();
      size *= length;
      if (length > 1) {
        ++long_axes;
        smallest = std::min(smallest, length);
      }
    }
    constexpr double small = 64;
    sum += size * (long_axes >= 2 && smallest >= small ? bytes_per_number : 4);
  }
  return sum;
}

Status look_at_model(const std::string& path, Json& out, Json& advice) {
  FR_TRY(const std::string text, file_info_json(path, false));
  const Json file = Json::parse(text, nullptr, false);
  if (file.value("kind", "") != "model")
    return file_error("this is no model (" + path + "): name a model file");
  if (!file.contains("tensors")) {
    return file_error("this is an exported model, whose number format is fixed (" + path +
                      "): name the model that it was exported from");
  }
  const auto available = static_cast<double>(memory_info().available);
  constexpr double comfortable = 0.7;
  Json weights = Json::array();
  bool any = false;
  for (const WeightFormat& format : weight_formats) {
    const double need = weight_bytes(file["tensors"], format.bytes_per_number);
    const bool fits = need <= available;
    any |= fits;
    weights.push_back({{"dtype", format.dtype},
                       {"bytes", static_cast<std::int64_t>(std::ceil(need))},
                       {"verdict", !fits                             ? "too large"
                                   : need <= comfortable * available ? "fits"
                                                                     : "tight"}});
  }
  out["model"] = {{"path", path}, {"n_parameters", file["n_parameters"]}, {"weights", weights}};
  if (!any)
    advice.push_back(
        "the model is too large for the free memory in every format: free some, or take a smaller model");
  return {};
}

}  // namespace

Result<std::string> doctor_json(const DoctorOptions& options) {
  Json out, advice = Json::array();
  std::istringstream build(build_info());
  std::string line;
  std::getline(build, line);
  out["build"] = line;
  look_at_cpu(out, advice);
  out["backends"] = Json::array();
  while (std::getline(build, line)) out["backends"].push_back(line);
  look_at_gpu(out, advice);
  look_at_memory(out, advice);
  look_at_disk(options.cache, out, advice);
  const auto shipped = shipped_model();
  out["shipped_model"] = shipped.ok() ? Json(*shipped) : Json();
  if (!shipped.ok()) advice.push_back(shipped.error().message);
  if (!options.model.empty()) FR_OK(look_at_model(options.model, out, advice));
  out["advice"] = std::move(advice);
  return out.dump(2, ' ', false, Json::error_handler_t::replace);
}

}  // namespace fr
