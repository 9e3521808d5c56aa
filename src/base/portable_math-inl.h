// The arithmetic of portable_exp, for every compiler that must give its bits: also that of a GPU. Who
// includes this is compiled so that no product and sum are joined into one rounding (-ffp-contract=off,
// --fmad=false).
#pragma once
#include <cfloat>
#include <cstdint>

#ifdef __FAST_MATH__
#error "this file needs IEEE arithmetic: compile it without -ffast-math"
#endif
static_assert(FLT_EVAL_METHOD == 0, "double arithmetic must not carry excess precision");

#ifdef __CUDACC__
#define FR_PORTABLE_INLINE __host__ __device__ inline
#else
#define FR_PORTABLE_INLINE inline
#endif

namespace fr {
namespace {  // a file's own: nobody shall get what another file's compiler options made of it

// e^x for x <= 709, by a Taylor series after range reduction: x = k ln 2 + r. Free of branches, so that loops
// over it become vector code.
FR_PORTABLE_INLINE double exp_inline(double x) {
  // ln 2 as a sum: the first part has 21 trailing zero bits, so that k * ln2_high is exact for |k| < 2^21.
  constexpr double ln2_high = 0x1.62e42feep-1, ln2_low = 0x1.a39ef35793c76p-33;
  constexpr double round = 0x1.8p52;  // adding it leaves the nearest integer in the low bits
  const double clamped = x < -708.0 ? -708.0 : x;
  const double shifted = clamped * 1.4426950408889634 + round;
  const double k = shifted - round;
  const double r = (clamped - k * ln2_high) - k * ln2_low;  // |r| <= ln(2) / 2
  double p = 1.0 / 6227020800.0;                            // 1 / 13!
  p = p * r + 1.0 / 479001600.0;
  p = p * r + 1.0 / 39916800.0;
  p = p * r + 1.0 / 3628800.0;
  p = p * r + 1.0 / 362880.0;
  p = p * r + 1.0 / 40320.0;
  p = p * r + 1.0 / 5040.0;
  p = p * r + 1.0 / 720.0;
  p = p * r + 1.0 / 120.0;
  p = p * r + 1.0 / 24.0;
  p = p * r + 1.0 / 6.0;
  p = p * r + 0.5;
  p = 1.0 + (r + (r * r) * p);  // the largest terms last: only their sum is rounded noticeably
  const double scale = __builtin_bit_cast(double, (__builtin_bit_cast(std::uint64_t, shifted) + 1023u) << 52);
  return x < -708.0 ? 0.0 : p * scale;
}

}  // namespace
}  // namespace fr

#undef FR_PORTABLE_INLINE
