// Rows of fp32, fp16 and bf16 numbers to floats and back: what dtype.h does with one number, at the speed of
// memory.
#pragma once
#include <cstddef>
#include <span>

#include "base/dtype.h"

namespace fr {

// to.size() numbers of that float type, from any address.
void read_row(DType type, const std::byte* from, std::span<float> to);
// The reverse, rounded to nearest even. False if a number is not finite, or too large for the type (fp32:
// always true).
bool write_row(DType type, std::span<const float> from, std::byte* to);

}  // namespace fr
