#include "tools_core/build_info.h"

#include <algorithm>

#include "backends/backend.h"
#include "core/storage.h"

namespace fr {

std::string build_info() {
#if defined(__clang__)
  std::string out =
      "compiler: clang " + std::to_string(__clang_major__) + "." + std::to_string(__clang_minor__);
#else
  std::string out = "compiler: gcc " + std::to_string(__GNUC__) + "." + std::to_string(__GNUC_MINOR__);
#endif
  out += ", " FR_BUILD_TYPE;
  for (const Backend& backend : backends()) {
    out += '\n';
    out += backend.name;
    out += ':';
    for (const DType dtype : backend.dtypes) {
      out += ' ';
      out += storage_name(dtype);
    }
    const auto device = backend.create({});
    if (!device.ok()) {
      out.append("; ").append(device.error().message);
      continue;
    }
    const std::string description = (*device)->description();  // "cpu fp32, 8 threads, avx512"
    out.append(description, std::min(description.find(','), description.size()));
  }
  for (const GraphRunner& runner : runners())
    out.append("\n").append(runner.name).append(": exported models");
  return out;
}

}  // namespace fr
