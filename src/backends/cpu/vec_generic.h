// F32 with 4 lanes in the vector extension of GCC and clang: SSE2 on x86-64, NEON on arm64, plain code
// elsewhere.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace fr::cpu {
namespace {

inline constexpr int lanes = 4;
inline constexpr int max_rows = 1;  // rows that a product keeps in registers: 1 x 8 accumulators
inline constexpr int stream_ahead =
    0;  // bytes to prefetch ahead where panels stream side by side; 0: the processor does
inline constexpr float sparse_share = 0.2f;

typedef float Floats __attribute__((vector_size(16)));
typedef int32_t Ints __attribute__((vector_size(16)));
typedef uint32_t Words __attribute__((vector_size(16)));
typedef signed char Bytes __attribute__((vector_size(4)));
typedef uint16_t Shorts __attribute__((vector_size(8)));

struct F32 {
  Floats v;
};
struct Half {
  uint16_t bits;
};
struct Bf16 {
  uint16_t bits;
};
// With more rows, a block of halves becomes float once for all, instead of in the multiplying loop.
inline constexpr int max_direct_rows = 1;

template <class T, class P>
inline T load_as(const P* p) {
  T v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

inline F32 set1(float x) { return {Floats{x, x, x, x}}; }
inline F32 load(const float* p) { return {load_as<Floats>(p)}; }
inline void store(float* p, F32 a) { __builtin_memcpy(p, &a.v, sizeof a.v); }
// Vector v of a panel's row of weights (kernels.h says how bf16 is laid out).
inline F32 load_weights(const float* row, int v) { return load(row + v * lanes); }
// The bits of a half, moved to a float's places, are the value times 2^-112, subnormals included; infinity
// and NaN need their exponent widened.
inline F32 load_weights(const Half* row, int v) {
  const Words h = __builtin_convertvector(load_as<Shorts>(row + v * lanes), Words);
  const Floats scaled = (Floats)((h & 0x7fffu) << 13) * 0x1p112f;
  const Words special = (Words)((h & 0x7c00u) == 0x7c00u) & 0x7f800000u;
  return {(Floats)((Words)scaled | special | ((h & 0x8000u) << 16))};
}
inline F32 load_weights(const Bf16* row, int v) {
  const Words pairs = load_as<Words>(row + v % 4 * 2 * lanes);
  return {(Floats)(v < 4 ? pairs << 16 : pairs & 0xffff0000u)};
}

// Vector v of 32 signed bytes, and of the 32 codes of 4 bits that kernels.h lays out.
inline F32 load_bytes(const char* row, int v) {
  return {__builtin_convertvector(load_as<Bytes>(row + v * lanes), Floats)};
}
inline F32 load_nibbles(const char* row, int v) {
  const Ints words = __builtin_convertvector(load_as<Bytes>(row + v % 4 * lanes), Ints);
  return {__builtin_convertvector((v < 4 ? words : words >> 4) & 15, Floats)};
}

// Of vector v of words at `row`: byte j, signed; the nibble that begins at bit `shift`.
inline F32 byte_of_words(const char* row, int v, int j) {
  return {__builtin_convertvector(load_as<Ints>(row + v * lanes * 4) << (24 - 8 * j) >> 24, Floats)};
}
inline F32 nibble_of_words(const char* row, int v, int shift) {
  return {__builtin_convertvector((Ints)(load_as<Words>(row + v * lanes * 4) >> shift & 15u), Floats)};
}

inline F32 load_first(const float* p, int n) {
  Floats v{};
  __builtin_memcpy(&v, p, static_cast<size_t>(n) * sizeof(float));
  return {v};
}
inline void store_first(float* p, F32 a, int n) {
  __builtin_memcpy(p, &a.v, static_cast<size_t>(n) * sizeof(float));
}
inline F32 keep_first(F32 a, int n) { return {(Floats)((Ints)a.v & (Ints{0, 1, 2, 3} < n))}; }

inline F32 operator+(F32 a, F32 b) { return {a.v + b.v}; }
inline F32 operator-(F32 a, F32 b) { return {a.v - b.v}; }
inline F32 operator*(F32 a, F32 b) { return {a.v * b.v}; }
inline F32 operator/(F32 a, F32 b) { return {a.v / b.v}; }
inline F32 fma(F32 a, F32 b, F32 c) { return {a.v * b.v + c.v}; }
// yes where a < b, else no.
inline F32 if_less(F32 a, F32 b, F32 yes, F32 no) {
  const Ints less = a.v < b.v;
  return {(Floats)(((Ints)yes.v & less) | ((Ints)no.v & ~less))};
}
// The second operand if either is not a number.
inline F32 max(F32 a, F32 b) { return if_less(b, a, a, b); }
inline F32 min(F32 a, F32 b) { return if_less(a, b, a, b); }
inline F32 abs(F32 a) { return {(Floats)((Ints)a.v & 0x7fffffff)}; }
inline F32 copysign(F32 magnitude, F32 sign) {
  return {(Floats)((Words)magnitude.v | ((Words)sign.v & 0x80000000u))};  // magnitude >= 0
}
// For |a| < 2^22: the sum has no bits left for a fraction.
inline F32 round_even(F32 a) { return {(a.v + 0x1.8p23f) - 0x1.8p23f}; }
// 2^n for whole numbers n in [-126, 127].
inline F32 pow2(F32 n) { return {(Floats)((__builtin_convertvector(n.v, Ints) + 127) << 23)}; }
// Bit i is set if lane i is not zero.
inline unsigned nonzero_bits(F32 a) {
  unsigned bits = 0;
  for (int i = 0; i < lanes; ++i) bits |= static_cast<unsigned>(a.v[i] != 0) << i;
  return bits;
}
inline float sum(F32 a) { return (a.v[0] + a.v[2]) + (a.v[1] + a.v[3]); }
// The sums of four vectors.
inline F32 four_sums(const F32 (&v)[4]) { return {Floats{sum(v[0]), sum(v[1]), sum(v[2]), sum(v[3])}}; }
template <int i>
inline F32 of_four(F32 a) {
  return set1(a.v[i]);
}
inline void store_four(float* p, F32 a) { store(p, a); }
inline void prefetch_far(const void* p) { __builtin_prefetch(p, 0, 2); }
inline void prefetch(const void* p) { __builtin_prefetch(p); }

}  // namespace
}  // namespace fr::cpu
