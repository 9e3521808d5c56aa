// Matrix products over packed panels. Every output is one accumulator that adds its inputs in order, whatever
// the number of rows and whichever path is taken, so that a row's result does not depend on the rows beside
// it.
#pragma once

namespace fr::cpu {
namespace {

inline constexpr int panel_vecs = panel_cols / lanes;
inline constexpr ptrdiff_t cache_line = 64;

// Where a panel's weights begin, and the distance between its rows.
template <class W>
struct Panel {
  const W* w;
  ptrdiff_t ld;
};
template <class W>
inline Panel<W> locate(const Product& p, int panel) {
  const int first = panel / p.group * p.group, left = p.panels - first;  // of its group
  return {static_cast<const W*>(p.w) + ptrdiff_t{first} * p.in * panel_cols + (panel - first) * panel_cols,
          ptrdiff_t{left < p.group ? left : p.group} * panel_cols};
}

// f(begin, end) for the parts of panels [first, last) that lie in one group.
template <class F>
inline void each_group(const Product& p, int first, int last, F f) {
  for (int begin = first, end = 0; begin < last; begin = end) {
    end = (begin / p.group + 1) * p.group;
    if (end > last) end = last;
    f(begin, end);
  }
}

// What a block prefetches while it multiplies: at weight row k, line k * rate / 256 of those `step` bytes
// apart.
struct Ahead {
  const char* from;
  ptrdiff_t rate, step;
};

// y[R][N panels] (+)= x[R][in] * w[in][N panels]; the panels lie `stride` weights apart.
template <int R, int N, class W>
inline void block(const float* x, ptrdiff_t ldx, Panel<W> panel, ptrdiff_t stride, int in, float* y,
                  ptrdiff_t ldy, bool resume, Ahead ahead) {
  constexpr int V = N * panel_vecs;
  F32 sums[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 32
    for (int v = 0; v < V; ++v) sums[r][v] = resume ? load(y + r * ldy + v * lanes) : set1(0.0f);
  }
  for (int k = 0; k < in; ++k) {
    if (N == 1) prefetch(ahead.from + (k * ahead.rate >> 8) * ahead.step);
    F32 input[R];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) input[r] = set1(x[r * ldx + k]);
#pragma GCC unroll 32
    for (int v = 0; v < V; ++v) {
      const W* w = panel.w + v / panel_vecs * stride + k * panel.ld;
      if (N > 1 && stream_ahead > 0 && v % panel_vecs == 0)
        prefetch(reinterpret_cast<const char*>(w) + stream_ahead);
      const F32 weight = load_weights(w, v % panel_vecs);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) sums[r][v] = fma(input[r], weight, sums[r][v]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 32
    for (int v = 0; v < V; ++v) store(y + r * ldy + v * lanes, sums[r][v]);
  }
}

// block<rows> for 1 <= rows <= R.
template <int R, class W>
inline void rows_block(int rows, const float* x, ptrdiff_t ldx, Panel<W> panel, int in, float* y,
                       ptrdiff_t ldy, bool resume, Ahead ahead) {
  if constexpr (R > 1) {
    if (rows < R) return rows_block<R - 1>(rows, x, ldx, panel, in, y, ldy, resume, ahead);
  }
  block<R, 1>(x, ldx, panel, 0, in, y, ldy, resume, ahead);
}

// Inputs [k0, k0 + k) of all rows, a few rows at a time, times a block of weights: panel begins at weight row
// k0. The lines of the block after it are prefetched evenly over the passes, so that memory is never idle.
template <class W>
inline void all_rows(const Product& p, int k0, int k, Panel<W> panel, float* y, Ahead next) {
  const int passes = (p.rows + max_rows - 1) / max_rows, rows = (p.rows + passes - 1) / passes;
  next.rate /= passes;
  for (int t = 0; t < p.rows; t += rows, next.from += (k * next.rate >> 8) * next.step) {
    rows_block<max_rows>(p.rows - t < rows ? p.rows - t : rows, p.x + t * p.ldx + k0, p.ldx, panel, k,
                         y + t * p.ldy, p.ldy, k0 > 0, next);
  }
}

// Panels of one group, in blocks of inputs that stay in the first-level cache. With many rows a block is
// converted to float once.
template <class W>
inline void blocked_panels(const Product& p, int first, int last) {
  const bool direct = p.rows <= max_direct_rows(static_cast<const W*>(p.w));
  const int step = direct ? tile_rows * static_cast<int>(sizeof(float) / sizeof(W)) : tile_rows;
  for (int k0 = 0; k0 < p.in; k0 += step) {
    const int k = p.in - k0 < step ? p.in - k0 : step;
    for (int i = first; i < last; ++i) {
      const Panel<W> panel = locate<W>(p, i), here{panel.w + k0 * panel.ld, panel.ld};
      float* y = p.y + i * panel_cols;
      Ahead next{reinterpret_cast<const char*>(here.w + k * panel.ld), 256, panel.ld * ptrdiff_t{sizeof(W)}};
      if (panel.ld == panel_cols) next = {next.from, 256 * next.step / cache_line, cache_line};
      if (direct) {
        all_rows(p, k0, k, here, y, next);
      } else {
        for (int j = 0; j < k; ++j) {
#pragma GCC unroll 8
          for (int v = 0; v < panel_vecs; ++v) {
            store(p.tile + j * panel_cols + v * lanes, load_weights(here.w + j * panel.ld, v));
          }
        }
        all_rows(p, k0, k, Panel<float>{p.tile, panel_cols}, y, next);
      }
    }
  }
}

// Bias, activation and gate of panels [first, last).
inline void finish(const Product& p, int first, int last) {
  if (p.bias == nullptr && p.gate == nullptr && p.act == Epilogue::none) return;
  for (int t = 0; t < p.rows; ++t) {
    float* y = p.y + t * p.ldy;
    for (int c = first * panel_cols; c < last * panel_cols; c += lanes) {
      F32 value = load(y + c);
      if (p.bias != nullptr) value = value + load(p.bias + c);
      value = apply(p.act, value);
      if (p.gate != nullptr) value = value * load(p.gate + t * p.ld_gate + c);
      store(y + c, value);
    }
  }
}

// At most R rows of a matrix with groups of one: panels stream from memory once, through all rows, several
// panels side by side as far as the registers go (one stream alone does not use the whole bandwidth).
template <int R, class W>
inline void streamed_panels(const Product& p, int first, int last) {
  if constexpr (R > 1) {
    if (p.rows < R) return streamed_panels<R - 1, W>(p, first, last);
  }
  constexpr int N = R < 4 ? 4 / R : 1;
  const ptrdiff_t stride = ptrdiff_t{p.in} * panel_cols;
  for (int i = first; i < last;) {
    const Panel<W> panel = locate<W>(p, i);
    float* y = p.y + i * panel_cols;
    if (N > 1 && i + N <= last) {
      block<R, N>(p.x, p.ldx, panel, stride, p.in, y, p.ldy, false, {});
      i += N;
    } else {
      const Ahead ahead{reinterpret_cast<const char*>(panel.w) + 2048, sizeof(W) == 2 ? 256 : 0, cache_line};
      block<R, 1>(p.x, p.ldx, panel, stride, p.in, y, p.ldy, false, ahead);
      ++i;
    }
  }
  finish(p, first, last);
}

template <class W>
inline void typed_product(const Product& p, int first, int last) {
  if (p.rows <= max_rows && p.group == 1) return streamed_panels<max_rows, W>(p, first, last);
  each_group(p, first, last, [&](int begin, int end) {
    blocked_panels<W>(p, begin, end);
    finish(p, begin, end);
  });
}

void product(const Product& p, int first, int last) {
  switch (p.type) {
    case WeightType::f32:
      return typed_product<float>(p, first, last);
    case WeightType::f16:
      return typed_product<Half>(p, first, last);
    case WeightType::bf16:
      return typed_product<Bf16>(p, first, last);
  }
}

// y += x[index[i]] * (weight row index[i]), for i in [i, end), R rows at a time while the next R are on their
// way. Returns how far it got.
template <int R, class W>
inline int add_weight_rows(const float* x, const int* index, int i, int end, Panel<W> panel, int cols,
                           float* y) {
  constexpr int line = static_cast<int>(cache_line / sizeof(W));
  for (; i + R <= end; i += R) {
    const W *from[R], *next[R];
    F32 input[R];
    for (int r = 0; r < R; ++r) {
      from[r] = panel.w + index[i + r] * panel.ld;
      next[r] = panel.w + index[i + R + r < end ? i + R + r : end - 1] * panel.ld;
      input[r] = set1(x[index[i + r]]);
    }
    for (int c = 0; c < cols; c += panel_cols) {
      for (int r = 0; r < R; ++r) {
        for (int l = 0; l < panel_cols; l += line) prefetch(next[r] + c + l);
      }
#pragma GCC unroll 8
      for (int v = 0; v < panel_vecs; ++v) {
        F32 value = load(y + c + v * lanes);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) value = fma(input[r], load_weights(from[r] + c, v), value);
        store(y + c + v * lanes, value);
      }
    }
  }
  return i;
}

// Up to `most` rows, each with its own list, for panels [first, last) of one group. Several rows go through
// the weights together, in blocks that stay in the second-level cache.
inline constexpr int most_sparse_rows = 64;
template <class W>
inline void sparse_rows(const Product& p, int t0, int rows, int first, int last) {
  constexpr int block_bytes = 256 << 10;
  const Panel<W> panel = locate<W>(p, first);
  const int cols = (last - first) * panel_cols, step = block_bytes / (cols * static_cast<int>(sizeof(W)));
  int at[most_sparse_rows] = {};
  for (int k0 = 0; k0 < p.in; k0 += step) {
    const bool to_the_end = rows == 1 || p.in - k0 <= step;
    for (int i = 0; i < rows; ++i) {
      const int *list = p.nonzero + (t0 + i) * p.ld_nonzero, *index = list + 1;
      const float* x = p.x + (t0 + i) * p.ldx;
      float* y = p.y + (t0 + i) * p.ldy + first * panel_cols;
      if (k0 == 0) {
        for (int c = 0; c < cols; c += lanes) store(y + c, set1(0.0f));
      }
      int end = to_the_end ? *list : at[i];
      while (end < *list && index[end] < k0 + step) ++end;
      const int done = add_weight_rows<4>(x, index, at[i], end, panel, cols, y);
      at[i] = add_weight_rows<1>(x, index, done, end, panel, cols, y);
    }
    if (to_the_end) return;
  }
}

template <class W>
inline void typed_sparse_product(const Product& p, int first, int last) {
  each_group(p, first, last, [&](int begin, int end) {
    for (int t = 0; t < p.rows; t += most_sparse_rows) {
      sparse_rows<W>(p, t, p.rows - t < most_sparse_rows ? p.rows - t : most_sparse_rows, begin, end);
    }
    finish(p, begin, end);
  });
}

void sparse_product(const Product& p, int first, int last) {
  switch (p.type) {
    case WeightType::f32:
      return typed_sparse_product<float>(p, first, last);
    case WeightType::f16:
      return typed_sparse_product<Half>(p, first, last);
    case WeightType::bf16:
      return typed_sparse_product<Bf16>(p, first, last);
  }
}

void nonzero(const float* x, int n, int* list) {
  int* end = list + 1;
  each(n, [&](int i, auto some) {
    for (unsigned bits = nonzero_bits(some.load(x + i)); bits != 0; bits &= bits - 1)
      *end++ = i + __builtin_ctz(bits);
  });
  *list = static_cast<int>(end - list) - 1;
}

}  // namespace
}  // namespace fr::cpu
