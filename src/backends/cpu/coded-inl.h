// Products of integers (CodedKernels), written once over the vocabulary of FR_DOT_HEADER. The sum over a
// block of 32 inputs is exact; an output adds its blocks' sums, times the scales of weights and inputs, in
// order.
#pragma once
#include FR_DOT_HEADER

#include "backends/cpu/kernels.h"

// After the vectors:
#include "backends/cpu/finish-inl.h"
#include "backends/cpu/panels-inl.h"

namespace fr::cpu {
namespace {

inline constexpr ptrdiff_t word_row = panel_cols * 4;  // bytes: one word for every column of a panel

// A block of inputs in 8 bits.
struct CodedBlock {
  explicit CodedBlock(const float* x) {
    constexpr int vecs = block_inputs / lanes;
    F32 v[vecs], top = set1(0.0f), check = top;
    for (int i = 0; i < vecs; ++i) {
      v[i] = load(x + i * lanes);
      top = max(top, abs(v[i]));
      check = fma(v[i], set1(0.0f), check);  // NaN if an input is NaN or infinite: the scale then is NaN
    }
    const float most = largest(top), bad = cpu::sum(check);
    const bool coded = most > 1e-36f && bad == 0;  // else the scale alone says what the inputs are: 0 or NaN
    const F32 inverse = set1(coded ? 127.0f / most : 0.0f);
    for (int i = 0; i < vecs; ++i) v[i] = coded ? v[i] * inverse : set1(0.0f);
    scale = (coded ? most / 127.0f : 0.0f) + bad;
    sum = store_codes(v, codes);
    scaled_sum = scale * static_cast<float>(sum);
  }
  char codes[block_inputs];
  float scale;
  int32_t sum;
  float scaled_sum;
};
static_assert(sizeof(CodedBlock) == coded_block_bytes);

// Up to dot_rows rows of inputs in 8 bits, or one of them, from some block on: where its codes of inputs 4 g
// to 4 g + 3 stand, and its other numbers.
struct CodedRow {
  const char* codes(int g) const { return at + g * together * 4; }
  float scale() const { return *reinterpret_cast<const float*>(codes(block_inputs / 4)); }
  const char* sum() const { return codes(block_inputs / 4 + 1); }  // an int32_t
  float scaled_sum() const { return *reinterpret_cast<const float*>(codes(block_inputs / 4 + 2)); }
  CodedRow row(int r) const { return {at + r * 4, together}; }
  CodedRow block(int b) const { return {at + b * together * coded_block_bytes, together}; }
  const char* at;
  ptrdiff_t together;  // rows
};
// The rows of a product's inputs that stand side by side with row t, the first of them.
inline CodedRow rows_from(const Product& p, int t) {
  return {p.codes + t * p.ld_codes, p.rows - t < dot_rows ? p.rows - t : dot_rows};
}

void encode(const float* x, ptrdiff_t ldx, int rows, int n, char* to) {
  for (int b = 0; b < n / block_inputs; ++b, to += rows * coded_block_bytes) {
    for (int r = 0; r < rows; ++r) {
      const CodedBlock block(x + r * ldx + b * block_inputs);
      const char* const words = reinterpret_cast<const char*>(&block);
      for (int i = 0; i < coded_block_bytes / 4; ++i)
        __builtin_memcpy(to + (i * rows + r) * 4, words + i * 4, 4);
    }
  }
}

template <WeightType type_>
struct Coded {
  static constexpr WeightType type = type_;
  static constexpr bool bytes = type == WeightType::q8_0;
  static constexpr int words = block_inputs / inputs_per_word(type);  // word rows of a block
  using Weights = typename Choose<bytes, Bytes, Nibbles>::Type;
  using Sum = typename Choose<bytes, ByteSum, NibbleSum>::Type;
  // What the sum of a block begins with, from the sum of the inputs' codes: q4_0's codes stand for what is 8
  // below.
  static Ints start(const CodedRow& x) {
    const Ints codes = repeated(x.sum());
    return type == WeightType::q8_0 ? codes : type == WeightType::q4_0 ? minus_shifted(codes, 3) : Ints{};
  }
};

// One panel of a matrix in groups of one.
template <WeightType type>
struct CodedPanel : Coded<type> {
  CodedPanel() = default;
  CodedPanel(const Product& p, int panel)
      : begin(static_cast<const char*>(p.w) + panel * group_step(type, 1, p.in)) {}
  const char* scales(int b) const { return begin + block_offset(type, panel_cols, b); }
  struct Block {
    F32 scale(int v) const {
      if constexpr (type == WeightType::q4_k) return halves(step, v) * load_bytes(scales, v);
      return halves(scales, v);
    }
    F32 offset(int v) const {  // of q4_k
      return set1(0.0f) - halves(step + 2 * panel_cols, v) * load_bytes(scales + panel_cols, v);
    }
    static F32 halves(const char* row, int v) { return load_weights(reinterpret_cast<const Half*>(row), v); }
    const char *scales, *step, *codes;
  };
  Block open(int b) const {
    const char* const at = scales(b);
    return {at, scales(b & -blocks_per_step) - step_bytes(type, panel_cols),
            at + scale_bytes(type, panel_cols)};
  }

  const char* begin;
};

// y[R][vectors [v0, v0 + V) of N panels] (+)= block b of the inputs of R rows, where x points, times the
// panels'. stream: what lies a KB further is prefetched.
template <int R, int V, int N, bool stream, class P>
inline void dot_block(const char* x, const P* panels, int b, int v0, float* y, ptrdiff_t ldy) {
  constexpr ptrdiff_t ahead = 1088;
  const CodedRow inputs{x, R};
  typename P::Block blocks[N];
#pragma GCC unroll 4
  for (int n = 0; n < N; ++n) blocks[n] = panels[n].open(b);
  typename P::Sum sums[R][N * V];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int i = 0; i < N * V; ++i) sums[r][i] = typename P::Sum(P::start(inputs.row(r)));
  }
#pragma GCC unroll 8
  for (int g = 0; g < P::words; ++g) {
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) {
      const char* const row = blocks[n].codes + g * word_row;
      if constexpr (stream) {
        prefetch_far(row + ahead);
        prefetch_far(row + ahead + cache_line);
      }
      typename P::Weights w[V];
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) w[v] = typename P::Weights(load_ints(row + (v0 + v) * lanes * 4));
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) {
          auto& sum = sums[r][n * V + v];
          if constexpr (P::bytes) {
            sum.add(w[v], inputs.row(r).codes(g));
          } else {
            sum.add(w[v].low, inputs.row(r).codes(2 * g));
            sum.add(w[v].high, inputs.row(r).codes(2 * g + 1));
          }
          sum.settle();
        }
      }
    }
  }
#pragma GCC unroll 4
  for (int n = 0; n < N; ++n) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      const F32 scale = blocks[n].scale(v0 + v);
      F32 offset = scale;
      if constexpr (P::type == WeightType::q4_k) offset = blocks[n].offset(v0 + v);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const CodedRow from = inputs.row(r);
        float* const out = y + r * ldy + n * panel_cols + (v0 + v) * lanes;
        F32 total = b > 0 ? load(out) : set1(0.0f);
        total = fma(to_float(sums[r][n * V + v].words()), scale * set1(from.scale()), total);
        if constexpr (P::type == WeightType::q4_k) total = fma(offset, set1(from.scaled_sum()), total);
        store(out, total);
      }
    }
  }
}

// dot_block for 1 <= rows <= R and all columns of N panels.
template <int R, int N, bool stream, class P>
inline void dot_rows_of(int rows, const CodedRow& x, const P* panels, int b, float* y, ptrdiff_t ldy) {
  if constexpr (R > 1) {
    if (rows < R) return dot_rows_of<R - 1, N, stream>(rows, x, panels, b, y, ldy);
  }
  constexpr int V = R == 1 ? panel_vecs : dot_vecs;
  dot_block<R, V, N, stream>(x.block(b).at, panels, b, 0, y, ldy);
#pragma GCC unroll 8
  for (int v = V; v < panel_vecs; v += V) dot_block<R, V, N, false>(x.block(b).at, panels, b, v, y, ldy);
}

// Up to R rows, for which weights stream from memory: N panels side by side, line after line, since one
// stream alone does not use the whole bandwidth.
template <int R, int N, class P>
inline void streamed(const Product& p, int first, int last) {
  const CodedRow x = rows_from(p, 0);
  const int blocks = p.in / block_inputs;
  int i = first;
  for (; i + N <= last; i += N) {
    P panels[N];
    for (int n = 0; n < N; ++n) panels[n] = P(p, i + n);
    for (int b = 0; b < blocks; ++b)
      dot_rows_of<R, N, true>(p.rows, x, panels, b, p.y + i * panel_cols, p.ldy);
  }
  if constexpr (N > 1) {
    for (; i < last; ++i) {
      const P panel(p, i);
      for (int b = 0; b < blocks; ++b)
        dot_rows_of<R, 1, true>(p.rows, x, &panel, b, p.y + i * panel_cols, p.ldy);
    }
  }
}

// What is multiplied next: `lines` cache lines for every panel, from panel to panel `step` bytes further.
struct Soon {
  const char* from;
  ptrdiff_t step;
  int lines;
};

// y (+)= blocks [b0, b1) of the inputs of all rows times those of panels [first, last), which panel(i) gives.
// A few rows at a time go through all these weights, which the first-level cache should hold; what comes soon
// is brought in evenly, so that memory is never idle.
template <class F>
inline void multiply(const Product& p, int first, int last, F panel, int b0, int b1, const Soon& soon) {
  const int steps = (p.rows + dot_rows - 1) / dot_rows * (b1 - b0);
  for (int t = 0, step = 0; t < p.rows; t += dot_rows, step += b1 - b0) {
    const CodedRow x = rows_from(p, t);
    for (int i = first; i < last; ++i) {
      const auto weights = panel(i);
      float* const y = p.y + t * p.ldy + i * panel_cols;
      const char* line = soon.from + (i - first) * soon.step + soon.lines * step / steps * cache_line;
      for (int b = b0, due = soon.lines * step % steps; b < b1; ++b) {
        for (due += soon.lines; due >= steps; due -= steps, line += cache_line) prefetch_far(line);
        dot_rows_of<dot_rows, 1, false>(static_cast<int>(x.together), x, &weights, b, y, p.ldy);
      }
    }
  }
}

template <class P>
inline void coded_panels(const Product& p, int first, int last) {
  if (first == last) return;
  if (p.rows == 1) {
    streamed<1, 8 / panel_vecs, P>(p, first, last);
  } else if (p.rows <= dot_rows / 2) {
    streamed<dot_rows / 2, 2, P>(p, first, last);
  } else if (p.rows <= dot_rows) {
    streamed<dot_rows, 1, P>(p, first, last);
  } else {
    constexpr int most = 16;  // blocks at a time
    const int blocks = p.in / block_inputs, width = last - first < 4 ? last - first : 4, part = most / width;
    const auto panel = [&p](int n) { return P(p, n); };
    for (int i = first; i < last; i += width) {
      const int end = last - i < width ? last : i + width;
      for (int b = 0; b < blocks; b += part) {
        const int next = blocks - b < part ? blocks : b + part;
        const Soon soon{next < blocks ? panel(i).scales(next) : panel(end).scales(0),
                        group_step(P::type, 1, p.in),
                        static_cast<int>(block_offset(P::type, panel_cols, part) / cache_line)};
        multiply(p, i, end, panel, b, next, soon);
      }
    }
  }
}

}  // namespace
}  // namespace fr::cpu
