// The vocabulary of dot_avx2.h for 16 columns at a time: AVX512-VNNI.
#pragma once
#include "backends/cpu/vec_avx512.h"

namespace fr::cpu {
namespace {

inline constexpr int dot_rows = 8, dot_vecs = 2;  // rows and vectors of columns whose sums stay in registers

inline __m512i four_codes(const char* x) {
  int32_t word;
  __builtin_memcpy(&word, x, sizeof word);
  return _mm512_set1_epi32(word);
}

// The instruction takes unsigned times signed bytes: weights are moved up by 128, and sums begin with what
// that adds.
struct Bytes {
  Bytes() = default;
  explicit Bytes(const char* p)
      : above(_mm512_xor_si512(_mm512_loadu_si512(p), _mm512_set1_epi8(static_cast<char>(-128)))) {}
  __m512i above;
};
struct ByteSum {
  explicit ByteSum(int codes = 0) : total(_mm512_set1_epi32(-128 * codes)) {}
  void add(const Bytes& b, const char* x) { total = _mm512_dpbusd_epi32(total, b.above, four_codes(x)); }
  F32 value() const { return {_mm512_cvtepi32_ps(total)}; }
  __m512i total;
};

struct Nibbles {
  Nibbles() = default;
  explicit Nibbles(const char* p) {
    const __m512i w = _mm512_loadu_si512(p);
    low = _mm512_and_si512(w, _mm512_set1_epi8(15));
    high = _mm512_and_si512(_mm512_srli_epi16(w, 4), _mm512_set1_epi8(15));
  }
  __m512i low, high;
};
struct NibbleSum {
  explicit NibbleSum(int start = 0) : total(_mm512_set1_epi32(start)) {}
  void add(const Nibbles& n, const char* x) {
    total = _mm512_dpbusd_epi32(total, n.low, four_codes(x));
    total = _mm512_dpbusd_epi32(total, n.high, four_codes(x + 4));
  }
  F32 value() const { return {_mm512_cvtepi32_ps(total)}; }
  __m512i total;
};

// 32 inputs, already scaled, as codes; returns their sum.
inline int store_codes(const F32* scaled, char* to) {
  __m512i total = _mm512_setzero_si512();
  for (int i = 0; i < 2; ++i) {
    const __m512i codes = _mm512_cvtps_epi32(scaled[i].v);
    total = _mm512_add_epi32(total, codes);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i * lanes), _mm512_cvtsepi32_epi8(codes));
  }
  return _mm512_reduce_add_epi32(total);
}

}  // namespace
}  // namespace fr::cpu
