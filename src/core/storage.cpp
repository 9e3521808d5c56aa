#include "core/storage.h"

#include "base/quant.h"

namespace fr {

std::string_view storage_name(DType asked) {
  return asked == int8_weights ? "int8" : asked == int4_weights ? "int4" : dtype_name(asked);
}

bool has_blocks(const TensorView& w, DType stored) {
  return is_block_dtype(stored) && w.dtype == stored && !w.delta && w.row_gap == 0 && w.stride[1] == 1;
}

DType stored_dtype(DType asked, MatRole role, const TensorView& w) {
  if (is_float_dtype(asked)) return asked;
  if (can_quantise(w.dtype) && has_blocks(w, w.dtype)) return w.dtype;
  const std::int64_t in = w.shape[1];
  if (role == MatRole::low_rank || in % block_size(DType::q8_0) != 0)
    return w.dtype == DType::bf16 ? DType::bf16 : DType::f16;
  if (asked == int8_weights || role == MatRole::head || is_block_dtype(w.dtype)) return DType::q8_0;
  return in % block_size(DType::q4_k) == 0 ? DType::q4_k : DType::q4_0;
}

Error cannot_store(const TensorView& w, DType stored, const Checkpoint& file) {
  return file_error("tensor " + w.name + ": a number is NaN, infinite or too large for " +
                    std::string(dtype_name(stored)) + " (" + file.path +
                    "): the file is damaged, or needs the strategy fp32 or bf16");
}

}  // namespace fr
