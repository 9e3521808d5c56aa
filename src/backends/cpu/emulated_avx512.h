// Tests only: AVX-512 intrinsics on SIMDe's portable ones, so that machines without AVX-512 check the very
// sources of its kernels too. What SIMDe 0.7.4 lacks is spelled out here.
#pragma once
#define SIMDE_ENABLE_NATIVE_ALIASES
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wfloat-conversion"
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#pragma GCC diagnostic pop

#include <math.h>

namespace {

struct Lanes16 {
  float v[16];
};
inline simde__m512 to_vector(const Lanes16& l) { return simde_mm512_loadu_ps(l.v); }
inline Lanes16 to_lanes(simde__m512 v) {
  Lanes16 l;
  simde_mm512_storeu_ps(l.v, v);
  return l;
}

inline simde__m512 cvtph(simde__m256i halves) {
  const simde__m128i low = simde_mm256_castsi256_si128(halves),
                     high = simde_mm256_extracti128_si256(halves, 1);
  Lanes16 l;
  simde_mm256_storeu_ps(l.v, simde_mm256_cvtph_ps(low));
  simde_mm256_storeu_ps(l.v + 8, simde_mm256_cvtph_ps(high));
  return to_vector(l);
}
inline simde__m512i cvtps(simde__m512 v) {
  const Lanes16 l = to_lanes(v);
  int32_t to[16];
  for (int i = 0; i < 16; ++i) to[i] = isnan(l.v[i]) ? INT32_MIN : static_cast<int32_t>(lrintf(l.v[i]));
  return simde_mm512_loadu_si512(to);
}
inline simde__m512i widened(simde__m128i bytes) {
  int8_t from[16];
  int32_t to[16];
  simde_mm_storeu_si128(from, bytes);
  for (int i = 0; i < 16; ++i) to[i] = from[i];
  return simde_mm512_loadu_si512(to);
}
inline simde__m512 to_floats(simde__m512i v) {
  int32_t from[16];
  Lanes16 l;
  simde_mm512_storeu_si512(from, v);
  for (int i = 0; i < 16; ++i) l.v[i] = static_cast<float>(from[i]);
  return to_vector(l);
}
inline simde__m512 load_masked(simde__mmask16 mask, const float* p) {
  Lanes16 l{};
  for (int i = 0; i < 16; ++i) {
    if ((mask >> i & 1) != 0) l.v[i] = p[i];
  }
  return to_vector(l);
}
inline void store_masked(float* p, simde__mmask16 mask, simde__m512 v) {
  const Lanes16 l = to_lanes(v);
  for (int i = 0; i < 16; ++i) {
    if ((mask >> i & 1) != 0) p[i] = l.v[i];
  }
}
inline simde__m512i shifted_right(simde__m512i v, unsigned count) {
  int32_t words[16];
  simde_mm512_storeu_si512(words, v);
  for (int32_t& w : words) w >>= count;
  return simde_mm512_loadu_si512(words);
}
inline float most(simde__m512 v) {
  const Lanes16 l = to_lanes(v);
  float top = l.v[0];
  for (const float x : l.v) top = x > top ? x : top;
  return top;
}
inline float reduce(simde__m512 v) {
  Lanes16 l = to_lanes(v);
  for (int width = 8; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) l.v[i] += l.v[i + width];
  }
  return l.v[0];
}
inline int32_t sum_of_words(simde__m512i v) {
  int32_t words[16], total = 0;
  simde_mm512_storeu_si512(words, v);
  for (const int32_t w : words) total += w;
  return total;
}
inline simde__m256i truncated(simde__m512i v) {
  int32_t words[16];
  int16_t low[16];
  simde_mm512_storeu_si512(words, v);
  for (int i = 0; i < 16; ++i) low[i] = static_cast<int16_t>(words[i]);
  return simde_mm256_loadu_si256(low);
}
// Unsigned times signed bytes, four to a word.
inline simde__m512i dot_of_bytes(simde__m512i total, simde__m512i a, simde__m512i b) {
  int32_t words[16];
  uint8_t x[64];
  int8_t y[64];
  simde_mm512_storeu_si512(words, total);
  simde_mm512_storeu_si512(x, a);
  simde_mm512_storeu_si512(y, b);
  for (int i = 0; i < 64; ++i) words[i / 4] += x[i] * y[i];
  return simde_mm512_loadu_si512(words);
}
// Pairs of bf16 numbers, a pair to a word.
inline simde__m512 dot_of_pairs(simde__m512 total, simde__m512i a, simde__m512i b) {
  Lanes16 sum = to_lanes(total);
  uint32_t x[16], y[16];
  simde_mm512_storeu_si512(x, a);
  simde_mm512_storeu_si512(y, b);
  const auto number = [](uint32_t bits) { return __builtin_bit_cast(float, bits); };
  for (int i = 0; i < 16; ++i) {
    sum.v[i] = fmaf(number(x[i] & 0xffff0000u), number(y[i] & 0xffff0000u), sum.v[i]);
    sum.v[i] = fmaf(number(x[i] << 16), number(y[i] << 16), sum.v[i]);
  }
  return to_vector(sum);
}
// Fused as the instruction is; SIMDe without FMA rounds twice.
inline simde__m512 fused(simde__m512 a, simde__m512 b, simde__m512 c) {
  const Lanes16 x = to_lanes(a), y = to_lanes(b);
  Lanes16 z = to_lanes(c);
  for (int i = 0; i < 16; ++i) z.v[i] = fmaf(x.v[i], y.v[i], z.v[i]);
  return to_vector(z);
}

}  // namespace

#define _mm512_cvtph_ps cvtph
#define _mm512_cvtps_epi32 cvtps
#define _mm512_cvtepi8_epi32 widened
#define _mm512_cvtepi32_ps to_floats
#define _mm512_maskz_loadu_ps load_masked
#define _mm512_mask_storeu_ps store_masked
#define _mm512_reduce_add_ps reduce
#define _mm512_reduce_max_ps most
#define _mm512_reduce_add_epi32 sum_of_words
#define _mm512_cvtepi32_epi16 truncated
#undef _mm512_dpbusd_epi32
#define _mm512_dpbusd_epi32 dot_of_bytes
#define _mm512_srai_epi32 shifted_right
#define _mm512_shuffle_f32x4(a, b, order) \
  simde_mm512_castsi512_ps(               \
      simde_mm512_shuffle_i32x4(simde_mm512_castps_si512(a), simde_mm512_castps_si512(b), order))
#undef _mm512_dpbf16_ps
#define _mm512_dpbf16_ps dot_of_pairs
#define __m512bh simde__m512i
#undef _mm512_fmadd_ps
#define _mm512_fmadd_ps fused

#ifndef _MM_FROUND_NO_EXC
#define _MM_FROUND_NO_EXC SIMDE_MM_FROUND_NO_EXC
#endif
#ifndef _MM_FROUND_TO_NEAREST_INT
#define _MM_FROUND_TO_NEAREST_INT SIMDE_MM_FROUND_TO_NEAREST_INT
#endif

#define FR_EMULATED_AVX512
