// The backends of this build, listed by hand, fastest first.
#include <array>

#include "backends/backend.h"

namespace fr {

const Backend& cpu_backend();        // cpu/
const Backend& reference_backend();  // reference/

std::span<const Backend> backends() {
  static const std::array all{
#ifdef FR_HAVE_CPU
      cpu_backend(),
#endif
      reference_backend()};
  return all;
}

Result<const Backend*> find_backend(std::string_view name) {
  std::string known;
  for (const Backend& backend : backends()) {
    if (backend.name == name) return &backend;
    known += (known.empty() ? "" : ", ") + std::string(backend.name);
  }
  return usage_error("unknown device " + std::string(name) + " (strategy): this build has " + known);
}

}  // namespace fr
