// The vocabulary of dot_avx2.h for 16 columns at a time: AVX512-VNNI.
#pragma once
#include "backends/cpu/vec_avx512.h"

namespace fr::cpu {
namespace {

inline constexpr int dot_rows = 8, dot_vecs = 2;  // rows and vectors of columns whose sums stay in registers

using Ints = __m512i;
inline Ints load_ints(const char* p) { return _mm512_loadu_si512(p); }
inline void store_ints(char* p, Ints a) { _mm512_storeu_si512(p, a); }
inline F32 to_float(Ints words) { return {_mm512_cvtepi32_ps(words)}; }

inline void settle(Ints& x) {
#ifndef FR_EMULATED_AVX512
  asm("" : "+v"(x));
#else
  (void)x;
#endif
}

inline Ints minus_shifted(Ints a, int bits) {  // -(a * 2^bits)
  return _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(a, static_cast<unsigned>(bits)));
}
// Four codes, or a number of 32 bits, in every word.
inline Ints repeated(const char* x) {
  int32_t word;
  __builtin_memcpy(&word, x, sizeof word);
  return _mm512_set1_epi32(word);
}

// The instruction takes unsigned times signed bytes: weights are moved up by 128, and sums begin with what
// that adds.
struct Bytes {
  Bytes() = default;
  explicit Bytes(Ints words) : above(_mm512_xor_si512(words, _mm512_set1_epi8(static_cast<char>(-128)))) {}
  Ints above;
};
struct ByteSum {
  ByteSum() = default;
  explicit ByteSum(Ints codes) : total(minus_shifted(codes, 7)) {}
  void add(const Bytes& b, const char* x) { total = _mm512_dpbusd_epi32(total, b.above, repeated(x)); }
  void settle() { cpu::settle(total); }
  Ints words() const { return total; }
  Ints total;
};

struct Nibbles {
  Nibbles() = default;
  explicit Nibbles(Ints w)
      : low(_mm512_and_si512(w, _mm512_set1_epi8(15))),
        high(_mm512_and_si512(_mm512_srli_epi16(w, 4), _mm512_set1_epi8(15))) {}
  Ints low, high;
};
inline Ints joined(Ints low, Ints high) { return _mm512_or_si512(low, _mm512_slli_epi16(high, 4)); }
struct NibbleSum {
  NibbleSum() = default;
  explicit NibbleSum(Ints start) : total(start) {}
  void add(Ints nibbles, const char* x) { total = _mm512_dpbusd_epi32(total, nibbles, repeated(x)); }
  void settle() { cpu::settle(total); }
  Ints words() const { return total; }
  Ints total;
};

inline void interleave(Ints (&r)[4]) {
  const Ints a = _mm512_unpacklo_epi8(r[0], r[1]), b = _mm512_unpackhi_epi8(r[0], r[1]),
             c = _mm512_unpacklo_epi8(r[2], r[3]), d = _mm512_unpackhi_epi8(r[2], r[3]);
  r[0] = _mm512_unpacklo_epi16(a, c);
  r[1] = _mm512_unpackhi_epi16(a, c);
  r[2] = _mm512_unpacklo_epi16(b, d);
  r[3] = _mm512_unpackhi_epi16(b, d);
}
inline void in_order(Ints (&w)[4]) {  // a transposition of 4 x 4 quarters
  const Ints a = _mm512_shuffle_i32x4(w[0], w[1], 0x44), b = _mm512_shuffle_i32x4(w[2], w[3], 0x44),
             c = _mm512_shuffle_i32x4(w[0], w[1], 0xee), d = _mm512_shuffle_i32x4(w[2], w[3], 0xee);
  w[0] = _mm512_shuffle_i32x4(a, b, 0x88);
  w[1] = _mm512_shuffle_i32x4(a, b, 0xdd);
  w[2] = _mm512_shuffle_i32x4(c, d, 0x88);
  w[3] = _mm512_shuffle_i32x4(c, d, 0xdd);
}

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
