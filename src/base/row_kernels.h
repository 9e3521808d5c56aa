// What is done to long rows of numbers, once per instruction set, with the same bits. For base/quant.h and
// base/rows.h, and their tests: everybody else calls these.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace fr {

struct RowKernels {
  // n numbers from or to 16 bits. to_*: false if one is then not finite.
  void (*from_half)(const void* from, size_t n, float* to);
  void (*from_bf16)(const void* from, size_t n, float* to);
  bool (*to_half)(const float* from, size_t n, void* to);
  bool (*to_bf16)(const float* from, size_t n, void* to);
  // One block. False if a number is not finite or too large.
  bool (*q8_0)(const float* from, uint8_t* block);
  bool (*q4_0)(const float* from, uint8_t* block);
  bool (*q4_k)(const float* from, uint8_t* block);
};

extern const RowKernels row_kernels_generic;
extern const RowKernels row_kernels_avx2;  // x86-64 only

}  // namespace fr
