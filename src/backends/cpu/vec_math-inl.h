// exp, tanh and sigmoid on F32: polynomials of our own (minimax fits), at most 2 units in the last place off,
// right for every argument (infinities, NaN, results that are subnormal). Included by kernels-inl.h after a
// vec header.
#pragma once

namespace fr::cpu {
namespace {

// x = n ln 2 + r with |r| <= ln(2)/2; e^x = 2^n (1 + r + r^2 q(r)). 2^n is applied in two steps: the first
// cannot leave the normal range, the second rounds once.
inline F32 exp(F32 x) {
  x = min(set1(89.0f), max(set1(-104.0f), x));  // beyond: infinity and zero anyway
  const F32 n = round_even(x * set1(1.44269504f));
  // ln 2 in two parts; n times the first is exact.
  const F32 r = fma(n, set1(2.12194440e-4f), fma(n, set1(-0.693359375f), x));
  F32 q = set1(1.381446718e-3f);
  q = fma(q, r, set1(8.368780402e-3f));
  q = fma(q, r, set1(4.166839421e-2f));
  q = fma(q, r, set1(1.666652011e-1f));
  q = fma(q, r, set1(4.999999341e-1f));
  const F32 e = fma(q, r * r, r) + set1(1.0f);
  const F32 half = round_even(n * set1(0.5f));
  return e * pow2(half) * pow2(n - half);
}

// Through e^-|x|, which cannot overflow.
inline F32 sigmoid(F32 x) {
  const F32 e = exp(set1(0.0f) - abs(x));
  const F32 s = set1(1.0f) / (set1(1.0f) + e);
  return if_less(x, set1(0.0f), e * s, s);
}

inline F32 tanh(F32 x) {
  const F32 a = abs(x), z = x * x;
  F32 p = set1(-5.704987619e-3f);
  p = fma(p, z, set1(2.063908785e-2f));
  p = fma(p, z, set1(-5.373971529e-2f));
  p = fma(p, z, set1(1.333144220e-1f));
  p = fma(p, z, set1(-3.333328194e-1f));
  const F32 near = fma(p * z, x, x);
  const F32 far = set1(1.0f) - set1(2.0f) / (exp(a + a) + set1(1.0f));
  return if_less(a, set1(0.625f), near, copysign(far, x));
}

inline F32 relu2(F32 x) {
  const F32 positive = max(set1(0.0f), x);
  return positive * positive;
}

inline F32 apply(Epilogue act, F32 x) {
  switch (act) {
    case Epilogue::none:
      return x;
    case Epilogue::tanh:
      return tanh(x);
    case Epilogue::sigmoid:
      return sigmoid(x);
    case Epilogue::exp:
      return exp(x);
    case Epilogue::silu:
      return x * sigmoid(x);
    case Epilogue::relu2:
      return relu2(x);
    case Epilogue::decay6:
      return exp(set1(0.0f) - exp(x));
    case Epilogue::decay7:
      return exp(set1(-0.606531f) * sigmoid(x));
  }
  return x;
}

}  // namespace
}  // namespace fr::cpu
