// Sums of products of weights and inputs in 8 bits, 8 columns at a time: AVX2. The vocabulary of coded-inl.h
// beside vec_avx2.h.
//   Ints                 a vector of integers
//   Bytes, Nibbles       a vector of words of weights: 4 inputs of a column each, or 8
//   ByteSum, NibbleSum   for every column the sum over a block of weight times input, from what the codes
//                        demand (Coded::start): add() takes four inputs' codes, words() is exact
//   settle               the sum is made here: or GCC puts all that a sum consists of where the sum is used,
//                        each addition waits for the one before, and the codes of all words wait in memory
//   interleave           four rows of bytes to words of one byte of each, in the order that `in_order` undoes
#pragma once
#include "backends/cpu/vec_avx2.h"

namespace fr::cpu {
namespace {

inline constexpr int dot_rows = 4, dot_vecs = 2;  // rows and vectors of columns whose sums stay in registers

using Ints = __m256i;
inline Ints load_ints(const char* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
inline void store_ints(char* p, Ints a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a); }
inline F32 to_float(Ints words) { return {_mm256_cvtepi32_ps(words)}; }

inline void settle(Ints& x) { asm("" : "+x"(x)); }

inline Ints minus_shifted(Ints a, int bits) {  // -(a * 2^bits)
  return _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_slli_epi32(a, bits));
}
// Four codes, or a number of 32 bits, in every word.
inline Ints repeated(const char* x) {
  int32_t word;
  __builtin_memcpy(&word, x, sizeof word);
  return _mm256_set1_epi32(word);
}

// The multiplication takes unsigned times signed bytes: |w| times x with the sign of w. Two of these
// products, of at most 128 x 127 each, fit into 16 bits.
struct Bytes {
  Bytes() = default;
  explicit Bytes(Ints words) : w(words), magnitude(_mm256_abs_epi8(w)) {}
  Ints w, magnitude;
};
struct ByteSum {
  ByteSum() = default;
  explicit ByteSum(Ints) : total(_mm256_setzero_si256()) {}
  void add(const Bytes& b, const char* x) {
    const __m256i pairs = _mm256_maddubs_epi16(b.magnitude, _mm256_sign_epi8(repeated(x), b.w));
    total = _mm256_add_epi32(total, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  void settle() { cpu::settle(total); }
  Ints words() const { return total; }
  Ints total;
};

// A block's sum of pairs stays below 8 x 2 x 15 x 127 = 30480: it fits into 16 bits until the end.
struct Nibbles {
  Nibbles() = default;
  explicit Nibbles(Ints w)
      : low(_mm256_and_si256(w, _mm256_set1_epi8(15))),
        high(_mm256_and_si256(_mm256_srli_epi16(w, 4), _mm256_set1_epi8(15))) {}
  Ints low, high;
};
inline Ints joined(Ints low, Ints high) { return _mm256_or_si256(low, _mm256_slli_epi16(high, 4)); }
struct NibbleSum {
  NibbleSum() = default;
  explicit NibbleSum(Ints start) : first(start), pairs(_mm256_setzero_si256()) {}
  void add(Ints nibbles, const char* x) {
    pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(nibbles, repeated(x)));
  }
  void settle() { cpu::settle(pairs); }
  Ints words() const { return _mm256_add_epi32(first, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))); }
  Ints first, pairs;
};

inline void interleave(Ints (&r)[4]) {
  const Ints a = _mm256_unpacklo_epi8(r[0], r[1]), b = _mm256_unpackhi_epi8(r[0], r[1]),
             c = _mm256_unpacklo_epi8(r[2], r[3]), d = _mm256_unpackhi_epi8(r[2], r[3]);
  r[0] = _mm256_unpacklo_epi16(a, c);
  r[1] = _mm256_unpackhi_epi16(a, c);
  r[2] = _mm256_unpacklo_epi16(b, d);
  r[3] = _mm256_unpackhi_epi16(b, d);
}
inline void in_order(Ints (&w)[4]) {
  const Ints a = w[0], b = w[1], c = w[2], d = w[3];
  w[0] = _mm256_permute2x128_si256(a, b, 0x20);
  w[1] = _mm256_permute2x128_si256(c, d, 0x20);
  w[2] = _mm256_permute2x128_si256(a, b, 0x31);
  w[3] = _mm256_permute2x128_si256(c, d, 0x31);
}

// 32 inputs, already scaled, as codes; returns their sum.
inline int store_codes(const F32* scaled, char* to) {
  Ints c[4], total = _mm256_setzero_si256();
  for (int i = 0; i < 4; ++i) {
    c[i] = _mm256_cvtps_epi32(scaled[i].v);
    total = _mm256_add_epi32(total, c[i]);
  }
  const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(c[0], c[1]), _mm256_packs_epi32(c[2], c[3]));
  const __m256i in_order = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), in_order);
  __m128i s = _mm_add_epi32(_mm256_castsi256_si128(total), _mm256_extracti128_si256(total, 1));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

}  // namespace
}  // namespace fr::cpu
