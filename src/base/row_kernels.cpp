// The generic row kernels, the choice of those that run, and what others call: quantise(), read_row(),
// write_row().
#include "base/row_kernels.h"

#include <cstring>

#include "base/cpu_info.h"
#include "base/quant.h"
#include "base/result.h"
#include "base/row_kernels-inl.h"
#include "base/rows.h"

namespace fr {
namespace {

const RowKernels& kernels() {
#if defined(__x86_64__)
  static const RowKernels& chosen = cpu_features().avx2 ? row_kernels_avx2 : row_kernels_generic;
  return chosen;
#else
  return row_kernels_generic;
#endif
}

}  // namespace

const RowKernels row_kernels_generic = row_kernels;

bool quantise(DType type, std::span<const float> values, std::byte* blocks) {
  FR_CHECK(can_quantise(type) && values.size() % static_cast<std::size_t>(block_size(type)) == 0);
  const RowKernels& k = kernels();
  const auto write = type == DType::q8_0 ? k.q8_0 : type == DType::q4_0 ? k.q4_0 : k.q4_k;
  auto* b = reinterpret_cast<std::uint8_t*>(blocks);
  bool held = true;
  for (std::size_t i = 0; i < values.size(); i += static_cast<std::size_t>(block_size(type))) {
    held = write(values.data() + i, b) && held;
    b += dtype_size(type);
  }
  return held;
}

void read_row(DType type, const std::byte* from, std::span<float> to) {
  FR_CHECK(is_float_dtype(type));
  if (type == DType::f32) {
    if (!to.empty()) std::memcpy(to.data(), from, to.size_bytes());
  } else {
    (type == DType::f16 ? kernels().from_half : kernels().from_bf16)(from, to.size(), to.data());
  }
}

bool write_row(DType type, std::span<const float> from, std::byte* to) {
  FR_CHECK(is_float_dtype(type));
  if (type == DType::f32) {
    if (!from.empty()) std::memcpy(to, from.data(), from.size_bytes());
    return true;
  }
  return (type == DType::f16 ? kernels().to_half : kernels().to_bf16)(from.data(), from.size(), to);
}

}  // namespace fr
