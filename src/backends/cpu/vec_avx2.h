// F32 with 8 lanes: AVX2, FMA, F16C. The vocabulary that kernels-inl.h is written in.
#pragma once
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

namespace fr::cpu {
namespace {

inline constexpr int lanes = 8;
inline constexpr int max_rows = 3;  // rows that a product keeps in registers: 3 x 4 accumulators
inline constexpr int stream_ahead =
    0;  // bytes to prefetch ahead where panels stream side by side; 0: the processor does
inline constexpr float sparse_share = 0.3f;

struct F32 {
  __m256 v;
};
struct Half {
  uint16_t bits;
};
struct Bf16 {
  uint16_t bits;
};
// With more rows, a block of halves becomes float once for all, instead of in the multiplying loop.
inline constexpr int max_direct_rows = 32;

inline F32 set1(float x) { return {_mm256_set1_ps(x)}; }
inline F32 load(const float* p) { return {_mm256_loadu_ps(p)}; }
inline void store(float* p, F32 a) { _mm256_storeu_ps(p, a.v); }
// Vector v of a panel's row of weights (kernels.h says how bf16 is laid out).
inline F32 load_weights(const float* row, int v) { return load(row + v * lanes); }
inline F32 load_weights(const Half* row, int v) {
  return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row + v * lanes)))};
}
inline F32 load_weights(const Bf16* row, int v) {
  const __m256i pairs = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + v % 2 * 2 * lanes));
  const __m256i high = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
  return {_mm256_castsi256_ps(v < 2 ? _mm256_slli_epi32(pairs, 16) : _mm256_and_si256(pairs, high))};
}

// Vector v of 32 signed bytes, and of the 32 codes of 4 bits that kernels.h lays out.
inline F32 load_bytes(const char* row, int v) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(row + v * lanes));
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes))};
}
inline F32 load_nibbles(const char* row, int v) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(row + v % 2 * lanes));
  const __m256i words = _mm256_cvtepu8_epi32(bytes);
  return {_mm256_cvtepi32_ps(v < 2 ? _mm256_and_si256(words, _mm256_set1_epi32(15))
                                   : _mm256_srli_epi32(words, 4))};
}

// Of vector v of words at `row`: byte j, signed; the nibble that begins at bit `shift`.
inline F32 byte_of_words(const char* row, int v, int j) {
  const __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + v * lanes * 4));
  return {_mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(words, 24 - 8 * j), 24))};
}
inline F32 nibble_of_words(const char* row, int v, int shift) {
  const __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + v * lanes * 4));
  return {_mm256_cvtepi32_ps(_mm256_and_si256(_mm256_srli_epi32(words, shift), _mm256_set1_epi32(15)))};
}

inline __m256i lane_mask(int n) {  // all bits in the first n lanes
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline F32 load_first(const float* p, int n) { return {_mm256_maskload_ps(p, lane_mask(n))}; }
inline void store_first(float* p, F32 a, int n) { _mm256_maskstore_ps(p, lane_mask(n), a.v); }
inline F32 keep_first(F32 a, int n) { return {_mm256_and_ps(a.v, _mm256_castsi256_ps(lane_mask(n)))}; }

inline F32 operator+(F32 a, F32 b) { return {_mm256_add_ps(a.v, b.v)}; }
inline F32 operator-(F32 a, F32 b) { return {_mm256_sub_ps(a.v, b.v)}; }
inline F32 operator*(F32 a, F32 b) { return {_mm256_mul_ps(a.v, b.v)}; }
inline F32 operator/(F32 a, F32 b) { return {_mm256_div_ps(a.v, b.v)}; }
inline F32 fma(F32 a, F32 b, F32 c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
// The second operand if either is not a number.
inline F32 max(F32 a, F32 b) { return {_mm256_max_ps(a.v, b.v)}; }
inline F32 min(F32 a, F32 b) { return {_mm256_min_ps(a.v, b.v)}; }
inline F32 abs(F32 a) { return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.v)}; }
inline F32 copysign(F32 magnitude, F32 sign) {
  return {_mm256_or_ps(magnitude.v, _mm256_and_ps(_mm256_set1_ps(-0.0f), sign.v))};  // magnitude >= 0
}
inline F32 round_even(F32 a) { return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
// 2^n for whole numbers n in [-126, 127].
inline F32 pow2(F32 n) {
  const __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(n.v), _mm256_set1_epi32(127));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(biased, 23))};
}
// yes where a < b, else no.
inline F32 if_less(F32 a, F32 b, F32 yes, F32 no) {
  return {_mm256_blendv_ps(no.v, yes.v, _mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ))};
}
// Bit i is set if lane i is not zero.
inline unsigned nonzero_bits(F32 a) {
  return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(a.v, _mm256_setzero_ps(), _CMP_NEQ_UQ)));
}
inline float sum(F32 a) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
// The sums of four vectors, in every four lanes.
inline F32 four_sums(const F32 (&v)[4]) {
  const __m256 a = _mm256_add_ps(_mm256_unpacklo_ps(v[0].v, v[1].v), _mm256_unpackhi_ps(v[0].v, v[1].v)),
               b = _mm256_add_ps(_mm256_unpacklo_ps(v[2].v, v[3].v), _mm256_unpackhi_ps(v[2].v, v[3].v)),
               s = _mm256_add_ps(_mm256_shuffle_ps(a, b, 0x44), _mm256_shuffle_ps(a, b, 0xee));
  return {_mm256_add_ps(s, _mm256_permute2f128_ps(s, s, 1))};
}
template <int i>
inline F32 of_four(F32 a) {
  return {_mm256_shuffle_ps(a.v, a.v, i * 0x55)};
}
inline void store_four(float* p, F32 a) { _mm_storeu_ps(p, _mm256_castps256_ps128(a.v)); }
inline float largest(F32 a) {  // of numbers, no NaN
  __m128 m = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  m = _mm_max_ps(m, _mm_movehl_ps(m, m));
  return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}
inline void prefetch_far(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T1); }
inline void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }

}  // namespace
}  // namespace fr::cpu
