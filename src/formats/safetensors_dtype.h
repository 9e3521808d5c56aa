// Names of number formats in safetensors headers, for reader and writer.
#pragma once
#include <optional>
#include <string_view>

#include "base/dtype.h"

namespace fr {

// In the order of DType.
inline constexpr std::string_view safetensors_dtypes[] = {"F32", "F16", "BF16", "F64", "I64",
                                                          "I32", "I16", "I8",   "U8",  "BOOL"};

// Nothing for formats that we do not have (8-bit floats, unsigned 16 to 64 bit, complex).
constexpr std::optional<DType> safetensors_dtype(std::string_view name) {
  for (std::size_t i = 0; i < std::size(safetensors_dtypes); ++i) {
    if (safetensors_dtypes[i] == name) return static_cast<DType>(i);
  }
  return std::nullopt;
}
constexpr std::string_view safetensors_name(DType dtype) {
  return safetensors_dtypes[static_cast<std::size_t>(dtype)];
}

}  // namespace fr
