// Matrix products over packed panels. Every output is one accumulator that adds its inputs in order - of
// weights with scales, the scaled sums of its blocks, each added up in order - whatever the number of rows
// and whichever path is taken, so that a row's result does not depend on the rows beside it.
#pragma once

namespace fr::cpu {
namespace {

// What a block prefetches while it multiplies: at weight row k, line k * rate / 256 of those `step` bytes
// apart.
struct Ahead {
  const char* from;
  ptrdiff_t rate, step;
};

// The sum of a block's inputs, in every lane.
inline F32 block_sum(const float* x) {
  F32 total = load(x);
  for (int i = lanes; i < block_inputs; i += lanes) total = total + load(x + i);
  return set1(sum(total));
}

// Of one vector of columns of a block: total + sum over the block of weights times inputs, from the sum of
// codes times inputs and the sum of the inputs.
template <class P>
struct Scales {
  template <class Reader>
  Scales(const Reader& from, int v) : scale(from.scale(v)) {
    if constexpr (P::has_offsets) offset = from.offset(v);
  }
  F32 add(F32 total, F32 sum, F32 inputs) const {
    total = fma(scale, sum, total);
    if constexpr (P::has_offsets) total = fma(offset, inputs, total);
    return total;
  }
  F32 scale, offset;
};

// y[R][N panels] (+)= x[R][count] * weight rows [begin, begin + count) of N panels of one kind; x points at
// the first of these inputs.
template <int R, int N, class P>
inline void block(const float* x, ptrdiff_t ldx, const P* panels, int begin, int count, float* y,
                  ptrdiff_t ldy, bool resume, Ahead ahead) {
  constexpr int V = N * panel_vecs;
  for (int k = 0; k < count;) {
    const bool fresh = !resume && k == 0;
    F32 sums[R][V];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 32
      for (int v = 0; v < V; ++v)
        sums[r][v] = P::scaled || fresh ? set1(0.0f) : load(y + r * ldy + v * lanes);
    }
    typename P::Reader readers[N];
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) readers[n] = panels[n].open(begin + k);
    const int first = k, end = count - k < P::block ? count : k + P::block;
    for (int j = 0; k < end; ++j, ++k) {
      if (N == 1) prefetch(ahead.from + (k * ahead.rate >> 8) * ahead.step);
      F32 input[R];
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) input[r] = set1(x[r * ldx + k]);
#pragma GCC unroll 32
      for (int v = 0; v < V; ++v) {
        const auto& w = readers[v / panel_vecs];
        if constexpr (N > 1 && stream_ahead > 0) {
          if (v % panel_vecs == 0) prefetch_far(w.row(j) + stream_ahead);
        }
        const F32 weight = w.weights(j, v % panel_vecs);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) sums[r][v] = fma(input[r], weight, sums[r][v]);
      }
    }
    F32 inputs[R];
    for (int r = 0; r < R && P::has_offsets; ++r) inputs[r] = block_sum(x + r * ldx + first);
#pragma GCC unroll 32
    for (int v = 0; v < V; ++v) {
      float* out = y + v * lanes;
      if constexpr (P::scaled) {
        const Scales<P> scales(readers[v / panel_vecs], v % panel_vecs);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
          const F32 total = fresh ? set1(0.0f) : load(out + r * ldy);
          store(out + r * ldy, scales.add(total, sums[r][v], inputs[r]));
        }
      } else {
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) store(out + r * ldy, sums[r][v]);
      }
    }
  }
}

// block<rows> for 1 <= rows <= R.
template <int R, class P>
inline void rows_block(int rows, const float* x, ptrdiff_t ldx, const P& panel, int begin, int count,
                       float* y, ptrdiff_t ldy, bool resume, Ahead ahead) {
  if constexpr (R > 1) {
    if (rows < R) return rows_block<R - 1>(rows, x, ldx, panel, begin, count, y, ldy, resume, ahead);
  }
  block<R, 1>(x, ldx, &panel, begin, count, y, ldy, resume, ahead);
}

// Inputs [k0, k0 + count) of all rows, a few rows at a time, times a block of weights, whose first row is
// weight row `begin` of the panel. The lines of the block after it are prefetched evenly over the passes, so
// that memory is never idle.
template <class P>
inline void all_rows(const Product& p, int k0, int count, const P& panel, int begin, float* y, Ahead next) {
  const int passes = (p.rows + max_rows - 1) / max_rows, rows = (p.rows + passes - 1) / passes;
  next.rate /= passes;
  for (int t = 0; t < p.rows; t += rows, next.from += (count * next.rate >> 8) * next.step) {
    rows_block<max_rows>(p.rows - t < rows ? p.rows - t : rows, p.x + t * p.ldx + k0, p.ldx, panel, begin,
                         count, y + t * p.ldy, p.ldy, k0 > 0, next);
  }
}

// Weight rows [k0, k0 + count) of a panel as floats, with their scales.
template <class P>
inline TilePanel<P> expand(const P& panel, int k0, int count, float* memory) {
  const TilePanel<P> tile{memory, k0};
  for (int k = 0; k < count;) {
    const auto reader = panel.open(k0 + k);
    float *codes = tile.codes_at(k0 + k), *scales = tile.scales_at(k0 + k);
    const int rows = count - k < P::block ? count - k : P::block;
#pragma GCC unroll 8
    for (int v = 0; v < panel_vecs; ++v) {
      for (int j = 0; j < rows; ++j) store(codes + j * panel_cols + v * lanes, reader.weights(j, v));
      if constexpr (P::scaled) store(scales + v * lanes, reader.scale(v));
      if constexpr (P::has_offsets) store(scales + panel_cols + v * lanes, reader.offset(v));
    }
    k += rows;
  }
  return tile;
}

// Panels of one group, in blocks of inputs that stay in the first-level cache. With many rows a block is
// converted to float once.
template <class P>
inline void blocked_panels(const Product& p, int first, int last) {
  const bool direct = p.rows <= P::direct_rows;
  constexpr int floats = tile_rows * panel_cols * static_cast<int>(sizeof(float));
  const int step = direct ? floats / static_cast<int>(row_bytes(P::type, panel_cols)) : tile_rows;
  for (int k0 = 0; k0 < p.in; k0 += step) {
    const int k = p.in - k0 < step ? p.in - k0 : step;
    for (int i = first; i < last; ++i) {
      const P panel(p, i);
      float* y = p.y + i * panel_cols;
      Ahead next{panel.row(k0 + k), 256, panel.row_step()};
      if (p.group == 1) next = {next.from, 256 * next.step / cache_line, cache_line};
      if (direct) {
        all_rows(p, k0, k, panel, k0, y, next);
      } else {
        all_rows(p, k0, k, expand(panel, k0, k, p.tile), k0, y, next);
      }
    }
  }
}

// At most R rows of a matrix with groups of one: panels stream from memory once, through all rows, several
// panels side by side as far as the registers go (one stream alone does not use the whole bandwidth).
template <int R, class P>
inline void streamed_panels(const Product& p, int first, int last) {
  if constexpr (R > 1) {
    if (p.rows < R) return streamed_panels<R - 1, P>(p, first, last);
  }
  constexpr int N = P::template side_by_side<R>;
  for (int i = first; i < last;) {
    float* y = p.y + i * panel_cols;
    if (N > 1 && i + N <= last) {
      P panels[N];
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) panels[n] = P(p, i + n);
      block<R, N>(p.x, p.ldx, panels, 0, p.in, y, p.ldy, false, {});
      i += N;
    } else {
      const P panel(p, i);
      const Ahead ahead{panel.row(0) + 2048,
                        P::type == WeightType::f32 ? 0 : 256 * panel.row_step() / cache_line, cache_line};
      block<R, 1>(p.x, p.ldx, &panel, 0, p.in, y, p.ldy, false, ahead);
      ++i;
    }
  }
  finish(p, first, last);
}

template <class P>
inline void typed_product(const Product& p, int first, int last) {
  if (p.rows <= max_rows && p.group == 1) return streamed_panels<max_rows, P>(p, first, last);
  each_group(p, first, last, [&](int begin, int end) {
    blocked_panels<P>(p, begin, end);
    finish(p, begin, end);
  });
}

void product(const Product& p, int first, int last) {
  with_panels(p.type, p.group,
              [&](auto type) { typed_product<typename decltype(type)::Panel>(p, first, last); });
}

// y += x[index[i]] * (weight row index[i]) over `cols` columns, for i in [i, end), R rows at a time while the
// next R are on their way. Returns how far it got.
template <int R, class P>
inline int add_few_rows(const float* x, const int* index, int i, int end, const P& panel, int cols,
                        float* y) {
  constexpr ptrdiff_t bytes = row_bytes(P::type, panel_cols);
  for (; i + R <= end; i += R) {
    const char* next[R];
    F32 input[R];
    for (int r = 0; r < R; ++r) {
      next[r] = panel.row(index[i + R + r < end ? i + R + r : end - 1]);
      input[r] = set1(x[index[i + r]]);
    }
    Fetch fetch{next, R, cols / panel_cols * bytes};
    for (int c = 0; c < cols / panel_cols; ++c) {
      fetch.lines(R * static_cast<int>(bytes) / static_cast<int>(cache_line));
      const P here = panel.beside(c);
      float* out = y + c * panel_cols;
#pragma GCC unroll 8
      for (int v = 0; v < panel_vecs; ++v) {
        F32 value = load(out + v * lanes);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) value = fma(input[r], here.weights(index[i + r], v), value);
        store(out + v * lanes, value);
      }
    }
  }
  return i;
}

template <WeightType type, class W>
inline int add_weight_rows(const float* x, const int* index, int i, int end, const FloatPanel<type, W>& panel,
                           int cols, float* y) {
  i = add_few_rows<4>(x, index, i, end, panel, cols, y);
  return add_few_rows<1>(x, index, i, end, panel, cols, y);
}

// The same for blocks, one after the other. A block of zeros would add nothing.
template <WeightType type, bool by_rows>
inline int add_weight_rows(const float* x, const int* index, int i, int end,
                           const BlockPanel<type, by_rows>& panel, int cols, float* y) {
  using Panel = BlockPanel<type, by_rows>;
  constexpr int block = Panel::block;
  constexpr ptrdiff_t bytes = row_bytes(type, panel_cols);
  const auto end_of_block = [&](int from) {
    int to = from;
    while (to < end && index[to] / block == index[from] / block) ++to;
    return to;
  };
  for (int here = end_of_block(i); i < end;) {
    const int first = index[i] / block * block, next = end_of_block(here);
    const F32 inputs = Panel::has_offsets ? block_sum(x + first) : set1(0.0f);
    for (int c = 0; c < cols / panel_cols; ++c) {
      for (int e = here; e < next; ++e) {
        if (c * bytes % cache_line == 0) prefetch(panel.row(index[e]) + c * bytes);
      }
      const auto reader = panel.beside(c).open(first);
      F32 sums[panel_vecs];
#pragma GCC unroll 8
      for (int v = 0; v < panel_vecs; ++v) sums[v] = set1(0.0f);
      for (int e = i; e < here; ++e) {
        const F32 input = set1(x[index[e]]);
#pragma GCC unroll 8
        for (int v = 0; v < panel_vecs; ++v)
          sums[v] = fma(input, reader.weights(index[e] - first, v), sums[v]);
      }
#pragma GCC unroll 8
      for (int v = 0; v < panel_vecs; ++v) {
        float* out = y + c * panel_cols + v * lanes;
        store(out, Scales<Panel>(reader, v).add(load(out), sums[v], inputs));
      }
    }
    i = here;
    here = next;
  }
  return i;
}

// Up to `most` rows, each with its own list, for panels [first, last) of one group. Several rows go through
// the weights together, in blocks that stay in the second-level cache.
inline constexpr int most_sparse_rows = 64;
template <class P>
inline void sparse_rows(const Product& p, int t0, int rows, int first, int last) {
  constexpr int cache_bytes = 256 << 10;
  const P panel(p, first);
  const int cols = (last - first) * panel_cols;
  const int step = cache_bytes / static_cast<int>(row_bytes(P::type, cols)) / block_inputs * block_inputs;
  int at[most_sparse_rows] = {};
  for (int k0 = 0; k0 < p.in; k0 += step) {
    const bool to_the_end = rows == 1 || p.in - k0 <= step;
    for (int i = 0; i < rows; ++i) {
      const int *list = p.nonzero + (t0 + i) * p.ld_nonzero, *index = list + 1;
      float* y = p.y + (t0 + i) * p.ldy + first * panel_cols;
      if (k0 == 0) {
        for (int c = 0; c < cols; c += lanes) store(y + c, set1(0.0f));
      }
      int end = to_the_end ? *list : at[i];
      while (end < *list && index[end] < k0 + step) ++end;
      at[i] = add_weight_rows(p.x + (t0 + i) * p.ldx, index, at[i], end, panel, cols, y);
    }
    if (to_the_end) return;
  }
}

template <class P>
inline void typed_sparse_product(const Product& p, int first, int last) {
  each_group(p, first, last, [&](int begin, int end) {
    for (int t = 0; t < p.rows; t += most_sparse_rows) {
      sparse_rows<P>(p, t, p.rows - t < most_sparse_rows ? p.rows - t : most_sparse_rows, begin, end);
    }
    finish(p, begin, end);
  });
}

void sparse_product(const Product& p, int first, int last) {
  with_panels(p.type, p.group,
              [&](auto type) { typed_sparse_product<typename decltype(type)::Panel>(p, first, last); });
}

int nonzero(const float* x, int n, int* list) {
  int count = 0;
  if (list == nullptr) {
    each(n, [&](int i, auto some) { count += __builtin_popcount(nonzero_bits(some.load(x + i))); });
    return count;
  }
  each(n, [&](int i, auto some) {
    for (unsigned bits = nonzero_bits(some.load(x + i)); bits != 0; bits &= bits - 1)
      list[count++] = i + __builtin_ctz(bits);
  });
  return count;
}

}  // namespace
}  // namespace fr::cpu
