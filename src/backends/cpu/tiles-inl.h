// Products of many rows in bf16 (TileKernels), whatever multiplies: any format of weights becomes bf16, a
// block of a panel at a time, and is multiplied by many rows of inputs in bf16. An input may have two parts,
// itself rounded and what rounding left. fp16 weights have two parts too; the second is skipped where it is
// zero (bf16 files that were stored as fp16).
#pragma once
#define FR_VEC_HEADER "backends/cpu/vec_avx512.h"
#include FR_VEC_HEADER

#include "backends/cpu/kernels.h"

// After the vectors:
#include "backends/cpu/finish-inl.h"
#include "backends/cpu/panels-inl.h"

namespace fr::cpu {
namespace {

// A tile holds 16 rows of 64 bytes: 16 rows of 32 inputs; or, of weights, 16 pairs of inputs for 16 columns.
inline constexpr int tile_inputs = 32, tile_height = 16;
inline constexpr ptrdiff_t tile_row = 64, tile_bytes = tile_height * tile_row;
// Inputs of a panel that are multiplied at a time: their weights, in one part, take 32 KB of the nearest
// caches.
inline constexpr int block_depth = 512;
static_assert(tile_scratch_floats * 4 == 2 * block_depth * panel_cols * 2);

// The upper halves of floats, rounded to the nearest, as bf16: in place.
inline __m512i rounded(F32 a) {
  const __m512i bits = _mm512_castps_si512(a.v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i nearest = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  // The sum of a NaN may overflow: it stays as it is, but quiet.
  const __m512i nan = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
  const __m512i up = _mm512_mask_mov_epi32(nearest, _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q), nan);
  return _mm512_and_si512(up, _mm512_set1_epi32(static_cast<int>(0xffff0000u)));
}
inline F32 as_floats(__m512i bits) { return {_mm512_castsi512_ps(bits)}; }
inline __m512i pair(__m512i even, __m512i odd) { return _mm512_or_si512(_mm512_srli_epi32(even, 16), odd); }

// 16 numbers as bf16, in order.
inline void store_bf16(char* to, __m512i upper_halves) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                      _mm512_cvtepi32_epi16(_mm512_srli_epi32(upper_halves, 16)));
}

// rows <= 16. For each part, for each 32 inputs a tile of `rows` rows.
void prepare(const float* x, ptrdiff_t ldx, int rows, int in, int parts, char* to) {
  const int tiles = (in + tile_inputs - 1) / tile_inputs;
  for (int k = 0; k < tiles * tile_inputs; k += lanes) {
    char* const column = to + k / tile_inputs * rows * tile_row + k % tile_inputs * 2;
    for (int t = 0; t < rows; ++t) {
      const float* from = x + t * ldx + k;
      const F32 value = in - k >= lanes ? load(from) : in > k ? load_first(from, in - k) : set1(0.0f);
      const __m512i high = rounded(value);
      store_bf16(column + t * tile_row, high);
      if (parts == 2) {
        store_bf16(column + (ptrdiff_t{tiles} * rows + t) * tile_row, rounded(value - as_floats(high)));
      }
    }
  }
}

// Weights [k0, k0 + count) of a panel as tiles: for each 32 inputs one for columns 0 to 15, one for the
// others. parts 2: what rounding left, behind block_depth inputs. Returns whether there is a second part that
// is not zero. The same number of weights beyond is prefetched.
template <int parts, class P>
inline bool expand(const P& panel, int k0, int count, int in, char* to) {
  constexpr int step = P::block < block_inputs ? P::block : block_inputs;
  constexpr bool exact = P::type == WeightType::bf16;
  constexpr ptrdiff_t second = ptrdiff_t{block_depth} * panel_cols * 2;
  const ptrdiff_t next = panel.row(k0 + block_depth) - panel.row(k0);
  __m512i left = _mm512_setzero_si512();
  for (int k = 0; k < count; k += step) {
    const auto reader = panel.open(k0 + k);
    char* const tiles = to + k / tile_inputs * 2 * tile_bytes;
    for (int j = 0; j < step; ++j) prefetch_far(panel.row(k0 + k + j) + next);
    for (int v = 0; v < panel_vecs; ++v) {
      F32 scale = set1(1.0f), offset = set1(0.0f);
      if constexpr (P::scaled) scale = reader.scale(v);
      if constexpr (P::has_offsets) offset = reader.offset(v);
      const auto weight = [&](int j) {
        if (k0 + k + j >= in) return set1(0.0f);
        F32 w = reader.weights(j, v);
        if constexpr (P::has_offsets) return fma(w, scale, offset);
        if constexpr (P::scaled) return w * scale;
        return w;
      };
      for (int j = 0; j < step; j += 2) {
        const F32 even = weight(j), odd = weight(j + 1);
        const auto as_bf16 = [](F32 w) { return exact ? _mm512_castps_si512(w.v) : rounded(w); };
        const __m512i even_high = as_bf16(even), odd_high = as_bf16(odd);
        char* const row = tiles + v * tile_bytes + j / 2 * tile_row;
        _mm512_storeu_si512(row, pair(even_high, odd_high));
        if constexpr (parts == 2) {
          const __m512i low = pair(rounded(even - as_floats(even_high)), rounded(odd - as_floats(odd_high)));
          left = _mm512_or_si512(left, low);
          _mm512_storeu_si512(row + second, low);
        }
      }
    }
  }
  return parts == 2 && _mm512_test_epi32_mask(left, left) != 0;
}

// One part of the inputs of up to 32 rows times one part of the weights.
struct Operands {
  const char *top, *bottom, *weights;  // first tiles
  ptrdiff_t top_step, bottom_step;     // bytes from tile to tile
  int depth;                           // tiles
};

// The rows of a product from row t on, up to 32, in two tiles.
struct RowPair {
  RowPair(const Product& p, int t)
      : top(p.rows - t < tile_height ? p.rows - t : tile_height),
        bottom(p.rows - t - top < tile_height ? p.rows - t - top : tile_height),
        inputs(p.codes + t * p.ld_codes),
        ld(p.ld_codes),
        tiles((p.in + tile_inputs - 1) / tile_inputs) {}
  // Part `part` from tile k on.
  Operands operands(int part, int k, int depth, const char* weights) const {
    const ptrdiff_t at = ptrdiff_t{part} * tiles + k;
    return {inputs + at * top * tile_row,
            inputs + tile_height * ld + at * bottom * tile_row,
            weights,
            top * tile_row,
            bottom * tile_row,
            depth};
  }

  int top, bottom;
  const char* inputs;
  ptrdiff_t ld;
  int tiles;
};

// Sums: what adds up products of up to 32 rows by 32 columns.
//   begin(rows, y, ldy, resume)   for the rows and columns at y, from zero or from what is there
//   add(operands)
//   end()                         the sums are at y
template <int parts, class Sums, class P>
inline void tiled_panels(const Product& p, int first, int last) {
  char* const weights = reinterpret_cast<char*>(p.tile);
  Sums sums;
  for (int i = first; i < last; ++i) {
    const P panel(p, i);
    for (int k0 = 0; k0 < p.in; k0 += block_depth) {
      const int count = p.in - k0 < block_depth ? p.in - k0 : block_depth;
      const int k = k0 / tile_inputs, depth = (count + tile_inputs - 1) / tile_inputs;
      const bool second = expand<parts>(panel, k0, depth * tile_inputs, p.in, weights);
      for (int t = 0; t < p.rows; t += 2 * tile_height) {
        const RowPair rows(p, t);
        sums.begin(rows, p.y + t * p.ldy + i * panel_cols, p.ldy, k0 > 0);
        for (int part = 0; part < parts; ++part) sums.add(rows.operands(part, k, depth, weights));
        if (second) sums.add(rows.operands(0, k, depth, weights + ptrdiff_t{block_depth} * panel_cols * 2));
        sums.end();
      }
    }
  }
}

}  // namespace
}  // namespace fr::cpu
