// The table of backends for tests of the cuda backend, which is linked in here instead of being loaded. The
// cpu backend can be asked for by name, but is not among those that tests of all backends go through.
#include <array>

#include "backends/backend.h"
#include "backends/cuda/cuda_device.h"

namespace fr {

const Backend& cpu_backend();
const Backend& reference_backend();

std::span<const Backend> backends() {
  static const std::array all{
      Backend{"cuda", cpu_backend().dtypes, &cuda::create_device, true, false, nullptr, nullptr},
      reference_backend()};
  return all;
}

Result<const Backend*> find_backend(std::string_view name) {
  for (const Backend& b : backends()) {
    if (b.name == name) return &b;
  }
  if (name == "cpu") return &cpu_backend();
  return usage_error("unknown device " + std::string(name));
}

}  // namespace fr
