// How weights are read from a packed panel: one type P per WeightType, all of one form.
//
//   block         inputs that share scales; a range of inputs begins at a multiple of it
//
//   scaled        whether there are scales: what weights() gives are codes q that mean scale(v) q + offset(v)
//
//   has_offsets   whether offsets are not zero
//
//   P(p, i)       panel i of a product
//
//   beside(n)     the panel n further in the same group
//
//   row(k)        where weight row k begins
//
//   open(k)       a reader of rows k to k + block: weights(j, v) is vector v of row k + j
#pragma once

namespace fr::cpu {
namespace {

inline constexpr int panel_vecs = panel_cols / lanes;
inline constexpr ptrdiff_t cache_line = 64;

// f(begin, end) for the parts of panels [first, last) that lie in one group.
template <class F>
inline void each_group(const Product& p, int first, int last, F f) {
  for (int begin = first, end = 0; begin < last; begin = end) {
    end = (begin / p.group + 1) * p.group;
    if (end > last) end = last;
    f(begin, end);
  }
}

// Brings `bytes` of each of some rows into the cache, a line at a time, in the order of memory: processors
// bring what follows by themselves then, even where the rows are read side by side.
struct Fetch {
  void lines(int n) {
    for (; n > 0 && count > 0; --n) {
      prefetch(*rows + at);
      at += cache_line;
      if (at < bytes) continue;
      at = 0;
      ++rows;
      --count;
    }
  }
  const char* const* rows;
  int count;
  ptrdiff_t bytes;
  ptrdiff_t at = 0;
};

// A panel's place: its group's memory and columns, and which of the group's panels it is.
struct Place {
  Place() = default;
  Place(const Product& p, int panel) {
    const int first = panel / p.group * p.group, left = p.panels - first;
    begin = static_cast<const char*>(p.w) + panel / p.group * group_step(p.type, p.group, p.in);
    cols = ptrdiff_t{left < p.group ? left : p.group} * panel_cols;
    number = panel - first;
  }
  const char* begin;
  ptrdiff_t cols;
  int number;
};

template <WeightType type_, class W>
struct FloatPanel {
  static constexpr WeightType type = type_;
  static constexpr int block = 1 << 30;
  static constexpr bool scaled = false;
  static constexpr bool has_offsets = false;
  // Rows with which one pass over the weights, converted while they are multiplied, is faster than a copy in
  // floats; and panels that are read side by side with R rows.
  static constexpr int direct_rows = sizeof(W) == sizeof(float) ? 1 << 30 : max_direct_rows;
  template <int R>
  static constexpr int side_by_side = R < 4 ? 4 / R : 1;
  using Reader = FloatPanel;

  FloatPanel() = default;
  FloatPanel(const W* weights, ptrdiff_t row_length) : w(weights), ld(row_length) {}
  FloatPanel(const Product& p, int panel) {
    const Place at(p, panel);
    w = reinterpret_cast<const W*>(at.begin) + at.number * panel_cols;
    ld = at.cols;
  }
  FloatPanel beside(int n) const { return {w + n * panel_cols, ld}; }
  const char* row(int k) const { return reinterpret_cast<const char*>(w + k * ld); }
  ptrdiff_t row_step() const { return ld * ptrdiff_t{sizeof(W)}; }
  FloatPanel open(int k) const { return {w + k * ld, ld}; }
  F32 weights(int k, int v) const { return load_weights(w + k * ld, v); }

  const W* w;
  ptrdiff_t ld;
};

// by_rows: a row of codes for every input; else words of several inputs (kernels.h).
template <WeightType type_, bool by_rows>
struct BlockPanel {
  static constexpr WeightType type = type_;
  static constexpr int block = block_inputs;
  static constexpr bool scaled = true;
  static constexpr bool has_offsets = type != WeightType::q8_0;
  static constexpr int direct_rows = type == WeightType::q8_0 ? 4 * max_rows : max_rows + 1;
  template <int R>
  static constexpr int side_by_side = R < 2 ? 2 : 1;

  BlockPanel() = default;
  BlockPanel(const Product& p, int panel) : at(p, panel) {}
  BlockPanel beside(int n) const {
    BlockPanel other = *this;
    other.at.number += n;
    return other;
  }
  ptrdiff_t row_step() const { return row_bytes(type, at.cols); }
  const char* scales(int b) const { return at.begin + block_offset(type, at.cols, b); }
  // Where all begins that block b brings with it.
  const char* header(int b) const {
    return scales(b) - (b % blocks_per_step == 0 ? step_bytes(type, at.cols) : 0);
  }
  const char* row(int k) const {
    const int first = by_rows ? k % block : k % block / inputs_per_word(type) * inputs_per_word(type);
    return scales(k / block) + scale_bytes(type, at.cols) + first * row_step() +
           at.number * row_bytes(type, panel_cols);
  }

  struct Reader {
    F32 weights(int k, int v) const {
      if constexpr (!by_rows) {
        constexpr int words = panel_cols * 4;  // bytes
        if constexpr (type == WeightType::q8_0) return byte_of_words(codes + k / 4 * words, v, k % 4);
        return nibble_of_words(codes + k / 8 * words, v, k % 4 * 8 + k % 8 / 4 * 4);
      }
      const char* at = codes + k * step;
      return type == WeightType::q8_0 ? load_bytes(at, v) : load_nibbles(at, v);
    }
    const char* row(int k) const { return codes + k * step; }  // for prefetching
    F32 scale(int v) const {
      if constexpr (type == WeightType::q4_k) return halves(steps, v) * load_bytes(scales, v);
      return halves(scales, v);
    }
    F32 offset(int v) const {
      if constexpr (type != WeightType::q4_k) return set1(-8.0f) * scale(v);
      return set1(0.0f) - halves(steps + 2 * cols, v) * load_bytes(scales + cols, v);
    }
    // The reader of the panel n further.
    Reader beside(int n) const {
      Reader other = *this;
      other.codes += n * row_bytes(type, panel_cols);
      other.scales += n * scale_step;
      other.steps += n * 2 * panel_cols;
      return other;
    }
    static F32 halves(const char* row, int v) { return load_weights(reinterpret_cast<const Half*>(row), v); }

    const char *codes, *scales, *steps;  // of this panel
    ptrdiff_t step, cols;                // of the group
  };
  Reader open(int k) const {
    const int b = k / block;
    return {row(k), scales(b) + at.number * scale_step,
            header(b / blocks_per_step * blocks_per_step) + at.number * 2 * panel_cols, row_step(), at.cols};
  }

  // Bytes from a panel's scales to the next one's.
  static constexpr ptrdiff_t scale_step = (type == WeightType::q4_k ? 1 : 2) * panel_cols;
  Place at;
};

// A part of a panel that was converted to floats, from weight row `first` on: codes, and behind them each
// block's scales and offsets.
template <class P>
struct TilePanel {
  static constexpr int block = P::block;
  static constexpr bool scaled = P::scaled, has_offsets = P::has_offsets;
  struct Reader {
    F32 weights(int k, int v) const { return load(codes + k * panel_cols + v * lanes); }
    F32 scale(int v) const { return load(scales + v * lanes); }
    F32 offset(int v) const { return load(scales + panel_cols + v * lanes); }
    const float *codes, *scales;
  };
  Reader open(int k) const { return {codes_at(k), scales_at(k)}; }
  float* codes_at(int k) const { return tile + (k - first) * panel_cols; }
  float* scales_at(int k) const {
    return tile + tile_rows * panel_cols + (k - first) / block_inputs * 2 * panel_cols;
  }

  float* tile;
  int first;
};

template <class P>
struct PanelType {
  using Panel = P;
};
// f(PanelType<P>) with the panels of a weight type in groups of some size.
template <WeightType type, class F>
inline void with_blocks(int group, F f) {
  if (group == 1) return f(PanelType<BlockPanel<type, false>>{});
  f(PanelType<BlockPanel<type, true>>{});
}
template <class F>
inline void with_panels(WeightType type, int group, F f) {
  switch (type) {
    case WeightType::f32:
      return f(PanelType<FloatPanel<WeightType::f32, float>>{});
    case WeightType::f16:
      return f(PanelType<FloatPanel<WeightType::f16, Half>>{});
    case WeightType::bf16:
      return f(PanelType<FloatPanel<WeightType::bf16, Bf16>>{});
    case WeightType::q8_0:
      return with_blocks<WeightType::q8_0>(group, f);
    case WeightType::q4_0:
      return with_blocks<WeightType::q4_0>(group, f);
    case WeightType::q4_k:
      return with_blocks<WeightType::q4_k>(group, f);
  }
}

}  // namespace
}  // namespace fr::cpu
