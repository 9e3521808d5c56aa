// Products of bf16 numbers by AVX512-BF16, for bf16 weights: twice as many at a time as floats, where the
// processor takes them as fast (AMD from Zen 4 on; Intel's take half as many instructions).
#include "backends/cpu/tiles-inl.h"

namespace fr::cpu {
namespace {

class DotSums {
 public:
  void begin(const RowPair& rows, float* y, ptrdiff_t ldy, bool resume) {
    top_ = rows.top;
    bottom_ = rows.bottom;
    y_ = y;
    ldy_ = ldy;
    resume_ = resume;
  }
  void add(const Operands& o) {
    add_tile(o.top, o.top_step, top_, o, y_);
    add_tile(o.bottom, o.bottom_step, bottom_, o, y_ + tile_height * ldy_);
    resume_ = true;
  }
  void end() {}

 private:
  static constexpr int most = 8;  // rows of two vectors whose sums stay in registers

  void add_tile(const char* inputs, ptrdiff_t step, int rows, const Operands& o, float* y) const {
    for (int r = 0; r < rows; r += most)
      add_rows<most>(rows - r < most ? rows - r : most, inputs + r * tile_row, step, o, y + r * ldy_);
  }
  // 1 <= rows <= R.
  template <int R>
  void add_rows(int rows, const char* inputs, ptrdiff_t step, const Operands& o, float* y) const {
    if constexpr (R > 1) {
      if (rows < R) return add_rows<R - 1>(rows, inputs, step, o, y);
    }
    F32 sums[R][2];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v) sums[r][v] = resume_ ? load(y + r * ldy_ + v * lanes) : set1(0.0f);
    }
    for (int i = 0; i < o.depth; ++i, inputs += step) {
      const char* const weights = o.weights + i * 2 * tile_bytes;
#pragma GCC unroll 4
      for (int j = 0; j < tile_height; ++j) {
        const __m512i left = _mm512_loadu_si512(weights + j * tile_row),
                      right = _mm512_loadu_si512(weights + tile_bytes + j * tile_row);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
          int32_t pair;
          __builtin_memcpy(&pair, inputs + r * tile_row + j * 4, sizeof pair);
          const __m512i input = _mm512_set1_epi32(pair);
          sums[r][0] = dot(sums[r][0], input, left);
          sums[r][1] = dot(sums[r][1], input, right);
        }
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v) store(y + r * ldy_ + v * lanes, sums[r][v]);
    }
  }
  static F32 dot(F32 sum, __m512i a, __m512i b) {
    return {_mm512_dpbf16_ps(sum.v, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b))};
  }

  int top_ = 0, bottom_ = 0;
  float* y_ = nullptr;
  ptrdiff_t ldy_ = 0;
  bool resume_ = false;
};

void dot_product(const Product& p, int first, int last) {
  constexpr WeightType bf16 = WeightType::bf16;
  tiled_panels<1, DotSums, FloatPanel<bf16, Bf16>>(p, first, last);
  finish(p, first, last);
}

}  // namespace

// Numbers of rows measured on Zen 4.
#ifdef FR_EMULATED_AVX512
extern const TileKernels dots_bf16_emulated;
const TileKernels dots_bf16_emulated{256, 12, never, never, 16, &prepare, &dot_product};
#else
const TileKernels dots_bf16{256, 12, never, never, 16, &prepare, &dot_product};
#endif

}  // namespace fr::cpu
