// 16-bit floats of the emulated CUDA: conversions only.
#pragma once
#include <cuda_runtime.h>

#include "base/dtype.h"

struct __half {
  std::uint16_t bits;
};
struct alignas(4) __half2 {
  __half x, y;
};
using half = __half;
using half2 = __half2;
struct __half_raw {
  std::uint16_t x;
};

inline float __half2float(__half h) { return fr::half_to_float(h.bits); }
inline __half __float2half(float f) { return {fr::float_to_half(f)}; }
inline __half __float2half_rn(float f) { return {fr::float_to_half(f)}; }
inline __half2 __floats2half2_rn(float a, float b) { return {__float2half_rn(a), __float2half_rn(b)}; }
inline __half2 __float22half2_rn(float2 f) { return __floats2half2_rn(f.x, f.y); }
inline float2 __half22float2(__half2 h) { return {__half2float(h.x), __half2float(h.y)}; }
inline float __low2float(__half2 h) { return __half2float(h.x); }
inline float __high2float(__half2 h) { return __half2float(h.y); }
inline __half __ushort_as_half(unsigned short bits) { return {bits}; }
inline unsigned short __half_as_ushort(__half h) { return h.bits; }
