// Products on AMX tiles (TileKernels): any format of weights becomes bf16, a block of a panel at a time, and
// is multiplied by many rows of inputs in bf16. An input may have two parts, itself rounded and what rounding
// left. fp16 weights have two parts too; the second is skipped where it is zero (bf16 files that were stored
// as fp16).
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
// Inputs of a panel that are multiplied at a time: their weights, in one part, take two thirds of the
// first-level cache.
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
        const __m512i even_high = rounded(even), odd_high = rounded(odd);
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

// Tiles 0 to 3: sums of 2 x 16 rows by 2 x 16 columns; 4 and 5: inputs; 6 and 7: weights.
struct alignas(64) Configuration {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};
// For `top` rows above and `bottom` below, which may be none.
inline void configure(int top, int bottom) {
  Configuration c;
  for (int i = 0; i < 8; ++i) {
    c.row_bytes[i] = tile_row;
    const bool lower = i == 2 || i == 3 || i == 5;
    c.rows[i] = static_cast<uint8_t>(i >= 6 ? tile_height : !lower ? top : bottom > 0 ? bottom : 1);
  }
  __asm__ volatile("" ::"r"(&c) : "memory");  // GCC 12 takes the instruction to read 8 bytes only
  _tile_loadconfig(&c);
}

// One part of the inputs of up to 32 rows times one part of the weights, added to the sums in tiles.
struct Operands {
  const char *top, *bottom, *weights;  // first tiles
  ptrdiff_t top_step, bottom_step;     // bytes from tile to tile
  int depth;                           // tiles
};
template <bool both>
inline void multiply(const Operands& o) {
  for (int i = 0; i < o.depth; ++i) {
    _tile_loadd(6, o.weights + i * 2 * tile_bytes, tile_row);
    _tile_loadd(7, o.weights + (i * 2 + 1) * tile_bytes, tile_row);
    _tile_loadd(4, o.top + i * o.top_step, tile_row);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    if constexpr (both) {
      _tile_loadd(5, o.bottom + i * o.bottom_step, tile_row);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
}

// The rows of a product from row t on, up to 32, times the block of weights in p.tile.
struct RowPair {
  RowPair(const Product& p, int parts, int t)
      : top(p.rows - t < tile_height ? p.rows - t : tile_height),
        bottom(p.rows - t - top < tile_height ? p.rows - t - top : tile_height),
        inputs(p.codes + t * p.ld_codes),
        ld(p.ld_codes),
        tiles((p.in + tile_inputs - 1) / tile_inputs),
        all_parts(parts) {}
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
  template <bool both>
  void run(int k, int depth, const char* weights, bool second, float* y, ptrdiff_t ldy, bool resume) const {
    const ptrdiff_t bytes = ldy * ptrdiff_t{sizeof(float)};
    float *const right = y + tile_height, *const below = y + tile_height * ldy,
                 *const last = below + tile_height;
    if (resume) {
      _tile_loadd(0, y, bytes);
      _tile_loadd(1, right, bytes);
      if constexpr (both) {
        _tile_loadd(2, below, bytes);
        _tile_loadd(3, last, bytes);
      }
    } else {
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
    }
    for (int part = 0; part < all_parts; ++part) multiply<both>(operands(part, k, depth, weights));
    if (second) multiply<both>(operands(0, k, depth, weights + ptrdiff_t{block_depth} * panel_cols * 2));
    _tile_stored(0, y, bytes);
    _tile_stored(1, right, bytes);
    if constexpr (both) {
      _tile_stored(2, below, bytes);
      _tile_stored(3, last, bytes);
    }
  }

  int top, bottom;
  const char* inputs;
  ptrdiff_t ld;
  int tiles, all_parts;
};

template <int parts, class P>
inline void tiled_panels(const Product& p, int first, int last) {
  char* const weights = reinterpret_cast<char*>(p.tile);
  int configured = 0;
  for (int i = first; i < last; ++i) {
    const P panel(p, i);
    for (int k0 = 0; k0 < p.in; k0 += block_depth) {
      const int count = p.in - k0 < block_depth ? p.in - k0 : block_depth;
      const int depth = (count + tile_inputs - 1) / tile_inputs;
      const bool second = expand<parts>(panel, k0, depth * tile_inputs, p.in, weights);
      for (int t = 0; t < p.rows; t += 2 * tile_height) {
        const RowPair rows(p, parts, t);
        float* const y = p.y + t * p.ldy + i * panel_cols;
        if (configured != rows.top + rows.bottom) configure(rows.top, rows.bottom);
        configured = rows.top + rows.bottom;
        if (rows.bottom > 0) {
          rows.template run<true>(k0 / tile_inputs, depth, weights, second, y, p.ldy, k0 > 0);
        } else {
          rows.template run<false>(k0 / tile_inputs, depth, weights, second, y, p.ldy, k0 > 0);
        }
      }
    }
  }
  _tile_release();
  finish(p, first, last);
}

void tile_product(const Product& p, int first, int last) {
  with_panels(p.type, p.group, [&](auto type) {
    using Panel = typename decltype(type)::Panel;
    tiled_panels<input_parts(Panel::type), Panel>(p, first, last);
  });
}

}  // namespace

#ifdef FR_EMULATED_AVX512
extern const TileKernels tiles_amx_emulated;
const TileKernels tiles_amx_emulated{&prepare, &tile_product};
#else
const TileKernels tiles_amx{&prepare, &tile_product};
#endif

}  // namespace fr::cpu
