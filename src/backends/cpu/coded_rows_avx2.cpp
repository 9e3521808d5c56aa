// The product of CodedKernels over matrices in wide groups, whose inputs have rows of their own: only rows
// that meet an input that is not zero are read. Codes of 4 (of bytes) or 8 (of nibbles) rows are put side by
// side on the way.
#define FR_VEC_HEADER "backends/cpu/vec_avx2.h"
#include FR_VEC_HEADER

#include "backends/cpu/kernels.h"

// After the vectors:
#include "backends/cpu/finish-inl.h"
#include "backends/cpu/panels-inl.h"

namespace fr::cpu {
namespace {

// The rows of a block that count, filled up with rows that meet zeros.
struct Chosen {
  int count = 0;
  const char* rows[block_inputs];  // of the first panel
  char codes[block_inputs];
};

inline __m256i four_columns(const __m256i (&r)[4], int v) {  // of words: 4 v to 4 v + 3 of both halves
  const __m256i a = v < 2 ? _mm256_unpacklo_epi8(r[0], r[1]) : _mm256_unpackhi_epi8(r[0], r[1]);
  const __m256i b = v < 2 ? _mm256_unpacklo_epi8(r[2], r[3]) : _mm256_unpackhi_epi8(r[2], r[3]);
  return v % 2 == 0 ? _mm256_unpacklo_epi16(a, b) : _mm256_unpackhi_epi16(a, b);
}
inline __m256i codes_at(const Chosen& c, int i) {
  int32_t word;
  __builtin_memcpy(&word, c.codes + i, sizeof word);
  return _mm256_set1_epi32(word);
}
inline __m256i pair_sums(__m256i pairs) { return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)); }

// Sums of codes of weights times codes of inputs for the 32 columns of a panel, `at` bytes into the rows.
struct ByteRows {
  static constexpr int rows = 4;
  static inline void sum(const Chosen& c, ptrdiff_t at, __m256i (&sums)[4]) {
    __m256i total[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(),
                        _mm256_setzero_si256()};
    for (int i = 0; i < c.count; i += rows) {
      __m256i r[4];
#pragma GCC unroll 8
      for (int j = 0; j < 4; ++j)
        r[j] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(c.rows[i + j] + at));
      const __m256i x = codes_at(c, i);
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) {  // |w| times x with the sign of w, as in dot_avx2.h
        const __m256i w = four_columns(r, v);
        const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
        total[v] = _mm256_add_epi32(total[v], pair_sums(pairs));
      }
    }
    // The lower halves are columns 0 to 15, the upper ones 16 to 31.
#pragma GCC unroll 8
    for (int v = 0; v < 2; ++v) {
      sums[v] = _mm256_permute2x128_si256(total[2 * v], total[2 * v + 1], 0x20);
      sums[v + 2] = _mm256_permute2x128_si256(total[2 * v], total[2 * v + 1], 0x31);
    }
  }
};

// Lower halves of vectors hold the first four rows, upper halves the others. A block's pairs stay below 2^15.
struct NibbleRows {
  static constexpr int rows = 8;
  static inline void sum(const Chosen& c, ptrdiff_t at, __m256i (&sums)[4]) {
    __m256i pairs[8];
#pragma GCC unroll 8
    for (__m256i& p : pairs) p = _mm256_setzero_si256();
    for (int i = 0; i < c.count; i += rows) {
      __m256i low[4], high[4];
#pragma GCC unroll 8
      for (int j = 0; j < 4; ++j) {
        const __m256i both = _mm256_loadu2_m128i(reinterpret_cast<const __m128i*>(c.rows[i + 4 + j] + at),
                                                 reinterpret_cast<const __m128i*>(c.rows[i + j] + at));
        low[j] = _mm256_and_si256(both, _mm256_set1_epi8(15));
        high[j] = _mm256_and_si256(_mm256_srli_epi16(both, 4), _mm256_set1_epi8(15));
      }
      const __m256i x = _mm256_permute2x128_si256(codes_at(c, i), codes_at(c, i + 4), 0x20);
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) {
        pairs[v] = _mm256_add_epi16(pairs[v], _mm256_maddubs_epi16(four_columns(low, v), x));
        pairs[v + 4] = _mm256_add_epi16(pairs[v + 4], _mm256_maddubs_epi16(four_columns(high, v), x));
      }
    }
#pragma GCC unroll 8
    for (int v = 0; v < 4; ++v) {
      const __m256i a = pair_sums(pairs[2 * v]), b = pair_sums(pairs[2 * v + 1]);
      sums[v] =
          _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31));
    }
  }
};

// One row of inputs: its list of what is not zero, and how far it is read.
struct Reading {
  const int *index, *end;
  const char* codes;
  const float *scales, *scaled_sums;
  const int32_t* sums;
};
inline Reading reading(const Product& p, int row) {
  const int* const list = p.nonzero + row * p.ld_nonzero;
  const char* const codes = p.codes + row * p.ld_codes;
  const auto* scales = reinterpret_cast<const float*>(codes + p.in);
  const auto* sums = reinterpret_cast<const int32_t*>(scales + p.in / block_inputs);
  return {
      list + 1, list + 1 + *list, codes, scales, reinterpret_cast<const float*>(sums + p.in / block_inputs),
      sums};
}

template <class Rows, class Reader>
inline Chosen choose(Reading& r, int b, const Reader& reader) {
  Chosen c;
  for (; r.index < r.end && *r.index < (b + 1) * block_inputs; ++r.index, ++c.count) {
    c.rows[c.count] = reader.row(*r.index - b * block_inputs);
    c.codes[c.count] = r.codes[*r.index];
  }
  for (; c.count % Rows::rows != 0; ++c.count) {
    c.rows[c.count] = c.rows[0];
    c.codes[c.count] = 0;
  }
  return c;
}

// Up to `most` rows of inputs and panels [first, last) of one group, block after block.
inline constexpr int most = 64;
template <WeightType type>
inline void rows_of_group(const Product& p, int t0, int rows, int first, int last) {
  using Panel = BlockPanel<type, true>;
  using Rows = typename Choose<type == WeightType::q8_0, ByteRows, NibbleRows>::Type;
  const Panel panel(p, first);
  const ptrdiff_t width = row_bytes(type, panel_cols), bytes = (last - first) * width;
  Reading inputs[most];
  for (int t = 0; t < rows; ++t) inputs[t] = reading(p, t0 + t);
  for (int b = 0; b < p.in / block_inputs; ++b) {
    const auto reader = panel.open(b * block_inputs);
    for (int t = 0; t < rows; ++t) {
      Reading& x = inputs[t];
      float* const y = p.y + (t0 + t) * p.ldy + first * panel_cols;
      const Chosen chosen = choose<Rows>(x, b, reader);
      for (const int* next = x.index; rows == 1 && next < x.end && *next < (b + 2) * block_inputs; ++next) {
        for (ptrdiff_t line = 0; line < bytes; line += cache_line) prefetch(panel.row(*next) + line);
      }
      if (chosen.count == 0 && b > 0) continue;
      for (int c = 0; c < last - first; ++c) {
        __m256i sums[panel_vecs];
        Rows::sum(chosen, c * width, sums);
        const auto here = panel.beside(c).open(b * block_inputs);
        const int32_t start = type == WeightType::q4_0 ? -8 * x.sums[b] : 0;
#pragma GCC unroll 4
        for (int v = 0; v < panel_vecs; ++v) {
          float* const out = y + c * panel_cols + v * lanes;
          const F32 sum{_mm256_cvtepi32_ps(_mm256_add_epi32(sums[v], _mm256_set1_epi32(start)))};
          F32 total = b > 0 ? load(out) : set1(0.0f);
          total = fma(sum, here.scale(v) * set1(x.scales[b]), total);
          if constexpr (type == WeightType::q4_k) total = total + here.offset(v) * set1(x.scaled_sums[b]);
          store(out, total);
        }
      }
    }
  }
}

template <WeightType type>
inline void typed_rows(const Product& p, int first, int last) {
  for (int begin = first, end = 0; begin < last; begin = end) {
    end = (begin / p.group + 1) * p.group;
    if (end > last) end = last;
    for (int t = 0; t < p.rows; t += most)
      rows_of_group<type>(p, t, p.rows - t < most ? p.rows - t : most, begin, end);
  }
  finish(p, first, last);
}

}  // namespace

void coded_rows_avx2(const Product& p, int first, int last) {
  switch (p.type) {
    case WeightType::q8_0:
      return typed_rows<WeightType::q8_0>(p, first, last);
    case WeightType::q4_0:
      return typed_rows<WeightType::q4_0>(p, first, last);
    case WeightType::q4_k:
      return typed_rows<WeightType::q4_k>(p, first, last);
    default:
      return;  // plain numbers are never coded
  }
}

}  // namespace fr::cpu
