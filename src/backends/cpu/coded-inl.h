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

void encode(const float* x, int n, char* to) {
  auto* scales = reinterpret_cast<float*>(to + n);
  auto* sums = reinterpret_cast<int32_t*>(scales + n / block_inputs);
  auto* scaled_sums = reinterpret_cast<float*>(sums + n / block_inputs);
  for (int b = 0; b < n / block_inputs; ++b) {
    constexpr int vecs = block_inputs / lanes;
    F32 v[vecs], top = set1(0.0f), check = top;
    for (int i = 0; i < vecs; ++i) {
      v[i] = load(x + b * block_inputs + i * lanes);
      top = max(top, abs(v[i]));
      check = fma(v[i], set1(0.0f), check);  // NaN if an input is NaN or infinite: the scale then is NaN
    }
    const float most = largest(top), bad = sum(check);
    const bool codes = most > 1e-36f && bad == 0;  // else the scale alone says what the inputs are: 0 or NaN
    const F32 inverse = set1(codes ? 127.0f / most : 0.0f);
    for (int i = 0; i < vecs; ++i) v[i] = codes ? v[i] * inverse : set1(0.0f);
    scales[b] = (codes ? most / 127.0f : 0.0f) + bad;
    sums[b] = store_codes(v, to + b * block_inputs);
    scaled_sums[b] = scales[b] * static_cast<float>(sums[b]);
  }
}

template <WeightType type_>
struct Coded {
  static constexpr WeightType type = type_;
  static constexpr bool bytes = type == WeightType::q8_0;
  static constexpr int words = block_inputs / inputs_per_word(type);  // word rows of a block
  using Weights = typename Choose<bytes, Bytes, Nibbles>::Type;
  using Sum = typename Choose<bytes, ByteSum, NibbleSum>::Type;
  // What the sum of a block begins with: q4_0's codes stand for what is 8 below.
  static int start(int codes) { return type == WeightType::q4_0 ? -8 * codes : bytes ? codes : 0; }
};

// One panel of a matrix in groups of one.
template <WeightType type>
struct CodedPanel : Coded<type> {
  CodedPanel() = default;
  CodedPanel(const Product& p, int panel)
      : begin(static_cast<const char*>(p.w) + panel * group_step(type, 1, p.in)) {}
  const char* scales(int b) const { return begin + block_offset(type, panel_cols, b); }
  const char* codes(int b) const { return scales(b) + scale_bytes(type, panel_cols); }
  static F32 halves(const char* row, int v) { return load_weights(reinterpret_cast<const Half*>(row), v); }
  const char* step(int b) const {
    return scales(b / blocks_per_step * blocks_per_step) - step_bytes(type, panel_cols);
  }
  F32 scale(int b, int v) const {
    if constexpr (type == WeightType::q4_k) return halves(step(b), v) * load_bytes(scales(b), v);
    return halves(scales(b), v);
  }
  F32 offset(int b, int v) const {  // of q4_k
    return set1(0.0f) - halves(step(b) + 2 * panel_cols, v) * load_bytes(scales(b) + panel_cols, v);
  }

  const char* begin;
};

// Inputs of a row in 8 bits.
struct CodedRow {
  CodedRow() = default;
  CodedRow(const char* row, int in)
      : codes(row),
        scales(reinterpret_cast<const float*>(row + in)),
        sums(reinterpret_cast<const int32_t*>(scales + in / block_inputs)),
        scaled_sums(reinterpret_cast<const float*>(sums + in / block_inputs)) {}
  const char* codes = nullptr;
  const float* scales = nullptr;
  const int32_t* sums = nullptr;
  const float* scaled_sums = nullptr;
};

// y[R][vectors [v0, v0 + V) of N panels] (+)= block b of the inputs of R rows times the panels'. What lies
// `ahead` bytes further is prefetched, unless it is 0.
template <int R, int V, int N, class P>
inline void dot_block(const CodedRow* x, const P* panels, int b, int v0, float* y, ptrdiff_t ldy,
                      ptrdiff_t ahead) {
  typename P::Sum sums[R][N * V];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int i = 0; i < N * V; ++i) sums[r][i] = typename P::Sum(P::start(x[r].sums[b]));
  }
#pragma GCC unroll 8
  for (int g = 0; g < P::words; ++g) {
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) {
      const char* const row = panels[n].codes(b) + g * word_row;
      if (ahead > 0) {
        prefetch_far(row + ahead);
        prefetch_far(row + ahead + cache_line);
      }
      typename P::Weights w[V];
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) w[v] = typename P::Weights(load_ints(row + (v0 + v) * lanes * 4));
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const char* const inputs = x[r].codes + b * block_inputs + g * inputs_per_word(P::type);
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) {
          sums[r][n * V + v].add(w[v], inputs);
          sums[r][n * V + v].settle();
        }
      }
    }
  }
#pragma GCC unroll 4
  for (int n = 0; n < N; ++n) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      const F32 scale = panels[n].scale(b, v0 + v);
      F32 offset = scale;
      if constexpr (P::type == WeightType::q4_k) offset = panels[n].offset(b, v0 + v);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        float* const out = y + r * ldy + n * panel_cols + (v0 + v) * lanes;
        F32 total = b > 0 ? load(out) : set1(0.0f);
        total = fma(to_float(sums[r][n * V + v].words()), scale * set1(x[r].scales[b]), total);
        if constexpr (P::type == WeightType::q4_k) total = fma(offset, set1(x[r].scaled_sums[b]), total);
        store(out, total);
      }
    }
  }
}

// dot_block for 1 <= rows <= R and all columns of N panels.
template <int R, int N, class P>
inline void dot_rows_of(int rows, const CodedRow* x, const P* panels, int b, float* y, ptrdiff_t ldy,
                        ptrdiff_t ahead) {
  if constexpr (R > 1) {
    if (rows < R) return dot_rows_of<R - 1, N>(rows, x, panels, b, y, ldy, ahead);
  }
  constexpr int V = R == 1 ? panel_vecs : dot_vecs;
#pragma GCC unroll 8
  for (int v = 0; v < panel_vecs; v += V) dot_block<R, V, N>(x, panels, b, v, y, ldy, v == 0 ? ahead : 0);
}

// Up to R rows, for which weights stream from memory: N panels side by side, line after line, since one
// stream alone does not use the whole bandwidth.
template <int R, int N, class P>
inline void streamed(const Product& p, int first, int last) {
  CodedRow x[R];
  for (int r = 0; r < p.rows; ++r) x[r] = CodedRow(p.codes + r * p.ld_codes, p.in);
  const int blocks = p.in / block_inputs;
  constexpr ptrdiff_t ahead = 1088;
  int i = first;
  for (; i + N <= last; i += N) {
    P panels[N];
    for (int n = 0; n < N; ++n) panels[n] = P(p, i + n);
    for (int b = 0; b < blocks; ++b)
      dot_rows_of<R, N>(p.rows, x, panels, b, p.y + i * panel_cols, p.ldy, ahead);
  }
  if constexpr (N > 1) {
    for (; i < last; ++i) {
      const P panel(p, i);
      for (int b = 0; b < blocks; ++b)
        dot_rows_of<R, 1>(p.rows, x, &panel, b, p.y + i * panel_cols, p.ldy, ahead);
    }
  }
}

// y (+)= blocks [b0, b1) of the inputs of all rows times those of panels [first, last), which panel(i) gives.
// A few rows at a time go through all these weights, which the first-level cache should hold. The first of
// them bring in what lies `ahead` bytes further.
template <class F>
inline void multiply(const Product& p, int first, int last, F panel, int b0, int b1, ptrdiff_t ahead) {
  for (int t = 0; t < p.rows; t += dot_rows) {
    const int rows = p.rows - t < dot_rows ? p.rows - t : dot_rows;
    CodedRow x[dot_rows];
    for (int r = 0; r < rows; ++r) x[r] = CodedRow(p.codes + (t + r) * p.ld_codes, p.in);
    for (int i = first; i < last; ++i) {
      const auto weights = panel(i);
      float* const y = p.y + t * p.ldy + i * panel_cols;
      for (int b = b0; b < b1; ++b)
        dot_rows_of<dot_rows, 1>(rows, x, &weights, b, y, p.ldy, t == 0 ? ahead : 0);
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
      for (int b = 0; b < blocks; b += part)
        multiply(p, i, end, panel, b, blocks - b < part ? blocks : b + part, part * P::words * word_row);
    }
  }
}

}  // namespace
}  // namespace fr::cpu
