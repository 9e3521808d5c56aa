// bfloat16 of the emulated CUDA: conversions only.
#pragma once
#include <cuda_runtime.h>

#include "base/dtype.h"

struct __nv_bfloat16 {
  std::uint16_t bits;
};
struct alignas(4) __nv_bfloat162 {
  __nv_bfloat16 x, y;
};
using nv_bfloat16 = __nv_bfloat16;
using nv_bfloat162 = __nv_bfloat162;

inline float __bfloat162float(__nv_bfloat16 h) { return fr::bf16_to_float(h.bits); }
inline __nv_bfloat16 __float2bfloat16(float f) { return {fr::float_to_bf16(f)}; }
inline __nv_bfloat16 __float2bfloat16_rn(float f) { return {fr::float_to_bf16(f)}; }
inline __nv_bfloat162 __floats2bfloat162_rn(float a, float b) {
  return {__float2bfloat16(a), __float2bfloat16(b)};
}
inline float2 __bfloat1622float2(__nv_bfloat162 h) { return {__bfloat162float(h.x), __bfloat162float(h.y)}; }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) { return {bits}; }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 h) { return h.bits; }
