// The backends of this build, listed by hand, fastest first.
#include <algorithm>
#include <array>

#include "backends/backend.h"

namespace fr {

const Backend& cuda_backend();       // cuda/
const Backend& cpu_backend();        // cpu/
const Backend& reference_backend();  // reference/

std::span<const Backend> backends() {
  static const std::array all{cuda_backend(),
#ifdef FR_HAVE_CPU
                              cpu_backend(),
#endif
                              reference_backend()};
  return all;
}

const GraphRunner& ncnn_runner();  // ncnn/
const GraphRunner& onnx_runner();  // onnx/

std::span<const GraphRunner> runners() {
  static const std::vector<GraphRunner> all{
#ifdef FR_HAVE_NCNN
      ncnn_runner(),
#endif
#ifdef FR_HAVE_ONNX
      onnx_runner(),
#endif
  };
  return all;
}

const GraphRunner* find_runner(std::string_view name) {
  const auto all = runners();
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const GraphRunner& r) { return r.name == name; });
  return found == all.end() ? nullptr : &*found;
}

Result<const Backend*> find_backend(std::string_view name) {
  std::string known;
  for (const Backend& backend : backends()) {
    if (backend.name == name) return &backend;
    known += (known.empty() ? "" : ", ") + std::string(backend.name);
  }
  if (name == "ncnn" || name == "onnx") {
    return usage_error(std::string(name) +
                       " runs exported models only (strategy): export the model first, `frwkv export " +
                       std::string(name) + " MODEL OUT`, and give OUT as the model");
  }
  return usage_error("unknown device " + std::string(name) + " (strategy): this build has " + known);
}

}  // namespace fr
