// Matrix products over packed panels. Every output is one accumulator that adds its inputs in order, whatever the
// number of rows and whichever path is taken, so that a row's result does not depend on the rows beside it.
#pragma once

namespace fr::cpu {
namespace {

inline constexpr int panel_vecs = panel_cols / lanes;
inline constexpr int cache_line = 64;
inline constexpr ptrdiff_t prefetch_bytes = 2048;  // how far ahead a streamed panel is asked for

// Where a block prefetches, one line per weight row it multiplies.
struct Ahead {
  const char* from;
  ptrdiff_t step;
};

// y[R][panel] (+)= x[R][in] * w[in][panel].
template <int R, class W>
inline void block(const float* x, ptrdiff_t ldx, const W* w, ptrdiff_t ld, int in, float* y, ptrdiff_t ldy, bool resume,
                  Ahead ahead) {
  F32 sums[R][panel_vecs];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < panel_vecs; ++v) sums[r][v] = resume ? load(y + r * ldy + v * lanes) : set1(0.0f);
  }
  for (int k = 0; k < in; ++k) {
    prefetch(ahead.from + k * ahead.step);
    F32 input[R];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) input[r] = set1(x[r * ldx + k]);
#pragma GCC unroll 8
    for (int v = 0; v < panel_vecs; ++v) {
      const F32 weight = load(w + k * ld + v * lanes);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) sums[r][v] = fma(input[r], weight, sums[r][v]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < panel_vecs; ++v) store(y + r * ldy + v * lanes, sums[r][v]);
  }
}

// block<rows> for 1 <= rows <= R.
template <int R, class W>
inline void rows_block(int rows, const float* x, ptrdiff_t ldx, const W* w, ptrdiff_t ld, int in, float* y,
                       ptrdiff_t ldy, bool resume, Ahead ahead) {
  if constexpr (R > 1) {
    if (rows < R) return rows_block<R - 1>(rows, x, ldx, w, ld, in, y, ldy, resume, ahead);
  }
  block<R>(x, ldx, w, ld, in, y, ldy, resume, ahead);
}

// Rows [k0, k0 + k) of a panel as floats, or those that p.index names.
template <class W>
inline void fill_tile(const Product& p, const W* w, int k0, int k) {
  const auto source = [&](int i) { return w + (p.index != nullptr ? p.index[i] : i) * p.ld; };
  for (int i = 0; i < k; ++i) {
    if (p.index != nullptr) prefetch(source(k0 + (i + 16 < k ? i + 16 : k - 1)));
    const W* from = source(k0 + i);
    for (int v = 0; v < panel_vecs; ++v) store(p.tile + i * panel_cols + v * lanes, load(from + v * lanes));
  }
}

// One block of inputs, [k0, k0 + k), of one panel times all rows, a few rows at a time. w points at weight row k0.
template <class W>
inline void rows_blocks(const Product& p, int k0, int k, const W* w, ptrdiff_t ld, float* y, Ahead ahead) {
  const int blocks = (p.rows + max_rows - 1) / max_rows, rows = (p.rows + blocks - 1) / blocks;
  for (int t = 0; t < p.rows; t += rows) {
    rows_block<max_rows>(p.rows - t < rows ? p.rows - t : rows, p.x + t * p.ldx + k0, p.ldx, w, ld, k, y + t * p.ldy,
                         p.ldy, k0 > 0, ahead);
    ahead.step = 0;  // the next block's weights are on their way
  }
}

// One panel times more rows than a block holds, in blocks of inputs that stay in the first-level cache. With many
// rows a block is converted to float once.
template <class W>
inline void blocked_panel(const Product& p, const W* w, float* y) {
  const bool direct = p.index == nullptr && (sizeof(W) == sizeof(float) || p.rows <= max_direct_rows);
  const int step = direct ? tile_rows * static_cast<int>(sizeof(float) / sizeof(W)) : tile_rows;
  for (int k0 = 0; k0 < p.in; k0 += step) {
    const int k = p.in - k0 < step ? p.in - k0 : step;
    const W* next = k0 + k < p.in ? w + (k0 + k) * p.ld : w + p.panel_stride;
    const Ahead ahead{reinterpret_cast<const char*>(next), p.index != nullptr ? 0 : p.ld * ptrdiff_t{sizeof(W)}};
    if (direct) {
      rows_blocks(p, k0, k, w + k0 * p.ld, p.ld, y, ahead);
    } else {
      fill_tile(p, w, k0, k);
      rows_blocks(p, k0, k, static_cast<const float*>(p.tile), panel_cols, y, ahead);
    }
  }
}

// Bias, activation and gate of one panel.
inline void finish_panel(const Product& p, int panel) {
  if (p.bias == nullptr && p.gate == nullptr && p.act == Epilogue::none) return;
  const int begin = panel * panel_cols;
  for (int t = 0; t < p.rows; ++t) {
    float* y = p.y + t * p.ldy;
    for (int c = begin; c < begin + panel_cols; c += lanes) {
      F32 value = load(y + c);
      if (p.bias != nullptr) value = value + load(p.bias + c);
      value = apply(p.act, value);
      if (p.gate != nullptr) value = value * load(p.gate + t * p.ld_gate + c);
      store(y + c, value);
    }
  }
}

template <class W>
inline void typed_product(const Product& p, int first, int last) {
  for (int panel = first; panel < last; ++panel) {
    const W* w = static_cast<const W*>(p.w) + panel * p.panel_stride;
    float* y = p.y + panel * panel_cols;
    if (p.in == 0) {
      for (int t = 0; t < p.rows; ++t) {
        for (int c = 0; c < panel_cols; ++c) y[t * p.ldy + c] = 0;
      }
    } else if (p.rows <= max_rows && p.index == nullptr) {
      const Ahead ahead{reinterpret_cast<const char*>(w) + prefetch_bytes, p.ld * ptrdiff_t{sizeof(W)}};
      rows_block<max_rows>(p.rows, p.x, p.ldx, w, p.ld, p.in, y, p.ldy, false, ahead);
    } else {
      blocked_panel(p, w, y);
    }
    finish_panel(p, panel);
  }
}

void product(const Product& p, int first, int last) {
  switch (p.type) {
    case WeightType::f32: return typed_product<float>(p, first, last);
    case WeightType::f16: return typed_product<Half>(p, first, last);
    case WeightType::bf16: return typed_product<Bf16>(p, first, last);
  }
}

// R weight rows at a time onto columns [begin, end) of y, while the next R are on their way.
template <int R, class W>
inline int add_rows(const Product& p, int i, int begin, int end) {
  constexpr int line = cache_line / static_cast<int>(sizeof(W));
  const W* w = static_cast<const W*>(p.w);
  for (; i + R <= p.in; i += R) {
    const W *from[R], *next[R];
    F32 input[R];
    for (int r = 0; r < R; ++r) {
      from[r] = w + p.index[i + r] * p.ld;
      next[r] = w + p.index[i + R + r < p.in ? i + R + r : p.in - 1] * p.ld;
      input[r] = set1(p.x[i + r]);
    }
    for (int c = begin; c < end; c += line) {
      for (int r = 0; r < R; ++r) prefetch(next[r] + c);
      for (int b = c; b < c + line; b += lanes) {
        F32 value = load(p.y + b);
        for (int r = 0; r < R; ++r) value = fma(input[r], load(from[r] + b), value);
        store(p.y + b, value);
      }
    }
  }
  return i;
}

template <class W>
inline void typed_sparse_row(const Product& p, int first, int last) {
  const int begin = first * panel_cols, end = last * panel_cols;
  for (int c = begin; c < end; c += lanes) store(p.y + c, set1(0.0f));
  const int done = add_rows<4, W>(p, 0, begin, end);
  add_rows<1, W>(p, done, begin, end);
  for (int panel = first; panel < last; ++panel) finish_panel(p, panel);
}

void sparse_row(const Product& p, int first, int last) {
  switch (p.type) {
    case WeightType::f32: return typed_sparse_row<float>(p, first, last);
    case WeightType::f16: return typed_sparse_row<Half>(p, first, last);
    case WeightType::bf16: return typed_sparse_row<Bf16>(p, first, last);
  }
}

int nonzero(const float* x, ptrdiff_t ldx, int rows, int cols, int* index) {
  int count = 0;
  each(cols, [&](int i, auto some) {
    unsigned bits = 0;
    for (int t = 0; t < rows; ++t) bits |= nonzero_bits(some.load(x + t * ldx + i));
    for (; bits != 0; bits &= bits - 1) index[count++] = i + __builtin_ctz(bits);
  });
  return count;
}

}  // namespace
}  // namespace fr::cpu
