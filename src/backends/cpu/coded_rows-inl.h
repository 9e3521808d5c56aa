// Integer products over matrices in wide groups, whose inputs have rows of their own (coded-inl.h has the
// others). Four rows of bytes are put side by side on the way, as integer products take them.
#pragma once
#include "backends/cpu/coded-inl.h"

namespace fr::cpu {
namespace {

// Panels of which a vector holds one input's codes.
template <WeightType type>
inline constexpr int strip_panels = lanes * 4 / row_bytes(type, panel_cols);

// Few inputs count: the others' rows are not read
// ---------------------------------------------------------------------------------------------------------

// The rows of a block that count, filled up with rows that meet zeros; before them the block's scales, in
// pieces as long as a row, so that all is listed that is read.
struct Chosen {
  const char* const* rows() const { return memory + scales; }
  int pieces() const { return scales + count; }
  int count = 0, scales = 0;
  static constexpr int most_scales = 12;  // q4_k with those of a step; parts of a group list only some
  const char* memory[most_scales + block_inputs];
  char codes[block_inputs];
};

// One row of inputs: its list of what is not zero, and how far it is read.
struct Reading {
  Reading() = default;
  Reading(const Product& p, int row)
      : index(p.nonzero + row * p.ld_nonzero + 1),
        end(index + index[-1]),
        x(rows_from(p, row / dot_rows * dot_rows).row(row % dot_rows)) {}

  // What block b needs of a group that begins with `panel`; of rows, `bytes` bytes.
  template <class Panel>
  Chosen choose(int b, const Panel& panel, ptrdiff_t bytes) {
    Chosen c;
    const char* const begin = panel.row(b * block_inputs);
    for (const char* at = panel.header(b); at + bytes <= begin && c.scales < Chosen::most_scales; at += bytes)
      c.memory[c.scales++] = at;
    const char** const rows = c.memory + c.scales;
    for (; index < end && *index < (b + 1) * block_inputs; ++index, ++c.count) {
      rows[c.count] = panel.row(*index);
      c.codes[c.count] = x.block(b).codes(*index % block_inputs / 4)[*index % 4];
    }
    for (; c.count % 4 != 0; ++c.count) {
      rows[c.count] = rows[0];
      c.codes[c.count] = 0;
    }
    return c;
  }

  const int *index, *end;
  CodedRow x;
};

// For every column of a strip the sum of codes of weights times codes of inputs.
template <WeightType type>
struct StripSums {
  using Sum = typename Coded<type>::Sum;
  static constexpr bool bytes = Coded<type>::bytes;

  explicit StripSums(Ints start) {
#pragma GCC unroll 8
    for (Sum& sum : sums) sum = Sum(start);
  }
  void add(const char* const* rows, ptrdiff_t at, const char* codes) {  // four rows
    Ints r[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) r[j] = load_ints(rows[j] + at);
    interleave(r);
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      if constexpr (bytes) {
        sums[v].add(Bytes(r[v]), codes);
        sums[v].settle();
      } else {
        const Nibbles n(r[v]);
        sums[v].add(n.low, codes);
        sums[v + 4].add(n.high, codes);
        sums[v].settle();
        sums[v + 4].settle();
      }
    }
  }
  // f(n, v, sum) for every vector v of panel n of the strip. Of 4-bit codes, the first four vectors are the
  // panels' first halves.
  template <class F>
  void each(F f) const {
#pragma GCC unroll 2
    for (int part = 0; part < vectors; part += 4) {
      Ints words[4];
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) words[v] = sums[part + v].words();
      in_order(words);
      constexpr int each = bytes ? panel_vecs : panel_vecs / 2;  // vectors of a panel in this part
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) f(v / each, v % each + part / 4 * each, to_float(words[v]));
    }
  }

  static constexpr int vectors = bytes ? 4 : 8;
  Sum sums[vectors];
};

// y row t (+)= block b of a row of inputs, x, times panels [first, last) of one group. Strips jump from row
// to row, which processors do not foresee: what the next block needs comes into the second-level cache
// meanwhile, a whole row at a time.
template <WeightType type>
inline void row_block(const Product& p, const CodedRow& x, const Chosen& c, const Chosen& next, int b,
                      int first, int last, int t) {
  constexpr int each = strip_panels<type>;
  constexpr int width = each * row_bytes(type, panel_cols);
  const int strips = (last - first + each - 1) / each;
  const auto block = BlockPanel<type, true>(p, first).open(b * block_inputs);
  const int steps = strips * (c.count / 4);
  for (int s = 0, fetched = 0, due = 0; s < strips; ++s) {
    StripSums<type> sums(Coded<type>::start(x));
    for (int i = 0; i < c.count; i += 4) {
      // Of what the next block needs, as large a part as this is of this one.
      for (due += next.pieces(); due >= steps; due -= steps, ++fetched) {
        for (ptrdiff_t line = 0; line < strips * width; line += cache_line)
          prefetch_far(next.memory[fetched] + line);
      }
      sums.add(c.rows() + i, s * width, c.codes + i);
    }
    sums.each([&](int n, int v, F32 sum) {
      const int i = s * each + n;
      if (i >= last - first) return;
      const auto here = block.beside(i);
      float* const to = p.y + t * p.ldy + (first + i) * panel_cols + v * lanes;
      F32 total = b > 0 ? load(to) : set1(0.0f);
      total = fma(sum, here.scale(v) * set1(x.scale()), total);
      if constexpr (type == WeightType::q4_k) total = fma(here.offset(v), set1(x.scaled_sum()), total);
      store(to, total);
    });
  }
}

// Up to `most_rows` rows of inputs and panels [first, last) of one group, block after block.
inline constexpr int most_rows = 16;
template <WeightType type>
inline void rows_of_group(const Product& p, int t0, int rows, int first, int last) {
  const BlockPanel<type, true> panel(p, first);
  const ptrdiff_t bytes = (last - first) * row_bytes(type, panel_cols);
  const int blocks = p.in / block_inputs;
  Reading inputs[most_rows];
  Chosen chosen[2][most_rows];
  for (int t = 0; t < rows; ++t) {
    inputs[t] = Reading(p, t0 + t);
    chosen[0][t] = inputs[t].choose(0, panel, bytes);
  }
  for (int b = 0; b < blocks; ++b) {
    for (int t = 0; t < rows; ++t) {
      const Chosen& here = chosen[b % 2][t];
      Chosen& next = chosen[(b + 1) % 2][t];
      if (b + 1 < blocks) {
        next = inputs[t].choose(b + 1, panel, bytes);
      } else {
        next.count = next.scales = 0;
      }
      if (here.count > 0 || b == 0)
        row_block<type>(p, inputs[t].x.block(b), here, next, b, first, last, t0 + t);
    }
  }
}

// Many inputs count: all rows are read
// ---------------------------------------------------------------------------------------------------------

// A panel whose codes, from block `first` on, became words.
template <WeightType type>
struct UnpackedPanel : Coded<type> {
  static constexpr ptrdiff_t size = Coded<type>::words * word_row;  // of a block
  UnpackedPanel(const BlockPanel<type, true>& panel, const char* words, int first)
      : packed(panel), unpacked(words), first_block(first) {}
  struct Block : BlockPanel<type, true>::Reader {
    const char* codes;
  };
  Block open(int b) const { return {packed.open(b * block_inputs), unpacked + (b - first_block) * size}; }

  BlockPanel<type, true> packed;
  const char* unpacked;
  int first_block;
};

// The strip that begins with `panel`, block b: the words of its panel n go to `to` + n `step`.
template <WeightType type>
inline void unpack_strip(const BlockPanel<type, true>& panel, int b, char* to, ptrdiff_t step) {
  const auto block = panel.open(b * block_inputs);
  const auto put = [&](Ints(&words)[4], int half, int row) {
    in_order(words);
    constexpr int columns = Coded<type>::bytes ? panel_cols : panel_cols / 2;
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      const int column = v * lanes % columns + half * columns, n = v * lanes / columns;
      store_ints(to + n * step + row * word_row + column * 4, words[v]);
    }
  };
  for (int row = 0; row < Coded<type>::words; ++row) {
    Ints r[4];
    const auto four_rows = [&](int k) {
      for (int j = 0; j < 4; ++j) r[j] = load_ints(block.row(k + j));
      interleave(r);
    };
    if constexpr (Coded<type>::bytes) {
      four_rows(4 * row);
      put(r, 0, row);
    } else {
      Ints low[4], high[4];
      four_rows(8 * row);
      for (int v = 0; v < 4; ++v) {
        const Nibbles n(r[v]);
        low[v] = n.low;
        high[v] = n.high;
      }
      four_rows(8 * row + 4);
      for (int v = 0; v < 4; ++v) {
        const Nibbles n(r[v]);
        low[v] = joined(low[v], n.low);
        high[v] = joined(high[v], n.high);
      }
      put(low, 0, row);
      put(high, 1, row);
    }
  }
}

// Panels [first, last) of one group. A part of all of them is read in the order of memory, by prefetching it
// while the part before is multiplied.
template <WeightType type>
inline void unpacked_group(const Product& p, int first, int last) {
  using Panel = UnpackedPanel<type>;
  constexpr int part = 8;  // blocks
  constexpr ptrdiff_t step = part * Panel::size;
  static_assert(strip_panels<type> * step <= ptrdiff_t{tile_floats} * 4);
  char* const words = reinterpret_cast<char*>(p.tile);
  const BlockPanel<type, true> group(p, first);
  const int blocks = p.in / block_inputs;
  for (int b0 = 0; b0 < blocks; b0 += part) {
    const int b1 = blocks - b0 < part ? blocks : b0 + part, next = blocks - b1 < part ? blocks : b1 + part;
    const char* ahead = group.header(b1);
    const int lines = static_cast<int>((group.header(next) - ahead) / cache_line / (last - first));
    for (int begin = first; begin < last; begin += strip_panels<type>) {
      const int end = last - begin < strip_panels<type> ? last : begin + strip_panels<type>;
      const BlockPanel<type, true> packed = group.beside(begin - first);
      for (int b = b0; b < b1; ++b) unpack_strip<type>(packed, b, words + (b - b0) * Panel::size, step);
      const auto panel = [&](int i) {
        return Panel(packed.beside(i - begin), words + (i - begin) * step, b0);
      };
      multiply(p, begin, end, panel, b0, b1, Soon{ahead, lines * cache_line, lines});
      ahead += (end - begin) * lines * cache_line;
    }
  }
}

// Of CodedKernels
// ---------------------------------------------------------------------------------------------------------

template <WeightType type_>
struct OfType {
  static constexpr WeightType type = type_;
};
template <class F>
inline void with_type(WeightType type, F f) {
  switch (type) {
    case WeightType::q8_0:
      return f(OfType<WeightType::q8_0>{});
    case WeightType::q4_0:
      return f(OfType<WeightType::q4_0>{});
    case WeightType::q4_k:
      return f(OfType<WeightType::q4_k>{});
    default:
      return;  // plain numbers are never coded
  }
}

void coded_product(const Product& p, int first, int last) {
  with_type(p.type, [&](auto of) {
    constexpr WeightType type = decltype(of)::type;
    if (p.group == 1) return coded_panels<CodedPanel<type>>(p, first, last);
    each_group(p, first, last, [&](int begin, int end) { unpacked_group<type>(p, begin, end); });
  });
  finish(p, first, last);
}
void rows_product(const Product& p, int first, int last) {
  with_type(p.type, [&](auto of) {
    each_group(p, first, last, [&](int begin, int end) {
      for (int t = 0; t < p.rows; t += most_rows)
        rows_of_group<decltype(of)::type>(p, t, p.rows - t < most_rows ? p.rows - t : most_rows, begin, end);
    });
  });
  finish(p, first, last);
}

}  // namespace
}  // namespace fr::cpu
