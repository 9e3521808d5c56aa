// The number format in which a matrix is stored, in one place for all backends: from the format that the
// strategy asks for, the matrix's role and shape, and what the file has.
#pragma once
#include <string>
#include <string_view>

#include "base/checkpoint.h"
#include "core/weights.h"

namespace fr {

// The formats that a strategy can ask for are fp32, fp16, bf16, and these, called by what most matrices
// become.
inline constexpr DType int8_weights = DType::q8_0, int4_weights = DType::q4_k;
// "fp32", "fp16", "bf16", "int8", "int4".
std::string_view storage_name(DType asked);

// int8 stores q8_0, int4 q4_k (q4_0 where rows are no multiple of 256 inputs) with a q8_0 head. What would
// lose by that or cannot be cut into blocks stays in 16 bits: low-rank factors, rows that are no multiple
// of 32. Blocks of a file that a backend can store are kept as they are; those of other formats become q8_0,
// which holds them nearly exactly. Never called for an embedding, which stays in the file.
DType stored_dtype(DType asked, MatRole role, const TensorView& w);

// Whether the bytes of w, row by row, are the blocks of that format.
bool has_blocks(const TensorView& w, DType stored);

// "tensor T: a number is NaN, infinite or too large for fp16 (PATH): ..."
Error cannot_store(const TensorView& w, DType stored, const Checkpoint& file);

}  // namespace fr
