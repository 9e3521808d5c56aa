// F32 with 16 lanes: AVX-512 F, BW, DQ, VL. Only intrinsics that Debian's SIMDe can emulate too (the tests
// run these kernels on machines without AVX-512), or that the test defines itself.
#pragma once
#ifndef FR_EMULATED_AVX512
#include <immintrin.h>
#endif
#include <stddef.h>
#include <stdint.h>

namespace fr::cpu {
namespace {

inline constexpr int lanes = 16;
inline constexpr int max_rows = 12;  // rows that a product keeps in registers: 12 x 2 accumulators
inline constexpr int stream_ahead =
    1088;  // bytes to prefetch ahead where panels stream side by side; 0: the processor does
inline constexpr float sparse_share = 0.25f;

struct F32 {
  __m512 v;
};
struct Half {
  uint16_t bits;
};
struct Bf16 {
  uint16_t bits;
};
// With more rows, a block of halves becomes float once for all, instead of in the multiplying loop.
inline constexpr int max_direct_rows = 24;

inline F32 set1(float x) { return {_mm512_set1_ps(x)}; }
inline F32 load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline void store(float* p, F32 a) { _mm512_storeu_ps(p, a.v); }
// Vector v of a panel's row of weights (kernels.h says how bf16 is laid out).
inline F32 load_weights(const float* row, int v) { return load(row + v * lanes); }
inline F32 load_weights(const Half* row, int v) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + v * lanes)))};
}
inline F32 load_weights(const Bf16* row, int v) {
  const __m512i pairs = _mm512_loadu_si512(row);
  const __m512i high = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
  return {_mm512_castsi512_ps(v < 1 ? _mm512_slli_epi32(pairs, 16) : _mm512_and_si512(pairs, high))};
}

// Vector v of 32 signed bytes, and of the 32 codes of 4 bits that kernels.h lays out.
inline F32 load_bytes(const char* row, int v) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + v * lanes));
  return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes))};
}
inline F32 load_nibbles(const char* row, int v) {
  const __m512i words = _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row)));
  return {_mm512_cvtepi32_ps(
      _mm512_and_si512(v < 1 ? words : _mm512_srli_epi32(words, 4), _mm512_set1_epi32(15)))};
}

// Of vector v of words at `row`: byte j, signed; the nibble that begins at bit `shift`.
inline F32 byte_of_words(const char* row, int v, int j) {
  const __m512i words = _mm512_loadu_si512(row + v * lanes * 4);
  return {_mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_sllv_epi32(words, _mm512_set1_epi32(24 - 8 * j)), 24))};
}
inline F32 nibble_of_words(const char* row, int v, int shift) {
  const __m512i words = _mm512_loadu_si512(row + v * lanes * 4);
  return {_mm512_cvtepi32_ps(
      _mm512_and_si512(_mm512_srlv_epi32(words, _mm512_set1_epi32(shift)), _mm512_set1_epi32(15)))};
}

inline uint16_t lane_mask(int n) { return static_cast<uint16_t>((1u << n) - 1); }
inline F32 load_first(const float* p, int n) { return {_mm512_maskz_loadu_ps(lane_mask(n), p)}; }
inline void store_first(float* p, F32 a, int n) { _mm512_mask_storeu_ps(p, lane_mask(n), a.v); }
inline F32 keep_first(F32 a, int n) { return {_mm512_maskz_mov_ps(lane_mask(n), a.v)}; }

inline F32 operator+(F32 a, F32 b) { return {_mm512_add_ps(a.v, b.v)}; }
inline F32 operator-(F32 a, F32 b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline F32 operator*(F32 a, F32 b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline F32 operator/(F32 a, F32 b) { return {_mm512_div_ps(a.v, b.v)}; }
inline F32 fma(F32 a, F32 b, F32 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
// The second operand if either is not a number.
inline F32 max(F32 a, F32 b) { return {_mm512_max_ps(a.v, b.v)}; }
inline F32 min(F32 a, F32 b) { return {_mm512_min_ps(a.v, b.v)}; }
inline F32 abs(F32 a) { return {_mm512_andnot_ps(_mm512_set1_ps(-0.0f), a.v)}; }
inline F32 copysign(F32 magnitude, F32 sign) {
  return {_mm512_or_ps(magnitude.v, _mm512_and_ps(_mm512_set1_ps(-0.0f), sign.v))};  // magnitude >= 0
}
inline F32 round_even(F32 a) {
  return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
// 2^n for whole numbers n in [-126, 127].
inline F32 pow2(F32 n) {
  const __m512i biased = _mm512_add_epi32(_mm512_cvtps_epi32(n.v), _mm512_set1_epi32(127));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(biased, 23))};
}
// yes where a < b, else no.
inline F32 if_less(F32 a, F32 b, F32 yes, F32 no) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ), no.v, yes.v)};
}
// Bit i is set if lane i is not zero.
inline unsigned nonzero_bits(F32 a) { return _mm512_cmp_ps_mask(a.v, _mm512_setzero_ps(), _CMP_NEQ_UQ); }
inline float sum(F32 a) { return _mm512_reduce_add_ps(a.v); }
// The sums of four vectors, in every four lanes.
inline F32 four_sums(const F32 (&v)[4]) {
  const __m512 a = _mm512_add_ps(_mm512_unpacklo_ps(v[0].v, v[1].v), _mm512_unpackhi_ps(v[0].v, v[1].v)),
               b = _mm512_add_ps(_mm512_unpacklo_ps(v[2].v, v[3].v), _mm512_unpackhi_ps(v[2].v, v[3].v)),
               s = _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xee)),
               t = _mm512_add_ps(s, _mm512_shuffle_f32x4(s, s, 0x4e));
  return {_mm512_add_ps(t, _mm512_shuffle_f32x4(t, t, 0xb1))};
}
template <int i>
inline F32 of_four(F32 a) {
  return {_mm512_shuffle_ps(a.v, a.v, i * 0x55)};
}
inline void store_four(float* p, F32 a) { _mm_storeu_ps(p, _mm512_castps512_ps128(a.v)); }
inline float largest(F32 a) { return _mm512_reduce_max_ps(a.v); }  // of numbers, no NaN
inline void prefetch_far(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T1); }
inline void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }

}  // namespace
}  // namespace fr::cpu
