// The inner loops of the cpu backend, once per instruction set. This header and what the kernel files include
// must hold no inline function of external linkage (so nothing of std): the linker would keep one copy of it
// for the whole program, perhaps the one that was compiled for a newer processor.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace fr::cpu {

inline constexpr int panel_cols = 32;  // outputs per panel of a packed matrix
inline constexpr int tile_rows = 128;  // inputs per block when a panel is unpacked to float
inline constexpr int tile_floats =
    tile_rows * panel_cols * 17 / 16;  // with two floats of scales for 32 inputs

// How a packed matrix stores its weights: plain floats, or the blocks of 32 inputs that base/quant.h
// describes.
enum class WeightType : uint8_t { f32, f16, bf16, q8_0, q4_0, q4_k };
// Same order as Act (checked in dispatch.cpp).
enum class Epilogue : uint8_t { none, tanh, sigmoid, exp, silu, relu2, decay6, decay7 };

// Where column c of a panel lies in the panel's row. bf16 stores columns c and c + 16 as the halves of one
// 32-bit word: a shift and a mask make floats of them, in order, for vectors of any length.
constexpr int stored_column(WeightType type, int c) {
  return type != WeightType::bf16 ? c : c < panel_cols / 2 ? 2 * c : 2 * (c - panel_cols / 2) + 1;
}

// Bytes of one input's row of `cols` columns, a multiple of 32: numbers, or codes.
//
// Codes lie in one of two orders. In groups of one panel, which integer products read, four inputs (of 4-bit
// codes: eight) stand together: for every column a 32-bit word, byte j of which has input j, or as its low
// half input j and as its high half input 4 + j. In wider groups every input has a row of its own, so that it
// can be left out; of 4-bit codes, byte c of a panel's 16 has column c and, as its high half, column 16 + c.
static constexpr ptrdiff_t row_bytes(WeightType t, ptrdiff_t cols) {
  switch (t) {
    case WeightType::f32:
      return 4 * cols;
    case WeightType::f16:
    case WeightType::bf16:
      return 2 * cols;
    case WeightType::q8_0:
      return cols;
    default:
      return cols / 2;
  }
}
// Blocks: before the 32 rows of codes stand the scales of the columns, as halves; q4_k has a byte for the
// scale of each column and then a byte for each min. Before every eighth block of q4_k stand the halves that
// these bytes count: for the scales of all columns, then for the mins.
inline constexpr int block_inputs = 32, blocks_per_step = 8;
static constexpr ptrdiff_t scale_bytes(WeightType, ptrdiff_t cols) { return 2 * cols; }
static constexpr ptrdiff_t step_bytes(WeightType t, ptrdiff_t cols) {
  return t == WeightType::q4_k ? 4 * cols : 0;
}
static constexpr int inputs_per_word(WeightType t) { return t == WeightType::q8_0 ? 4 : 8; }
// Where block b begins, its scales first.
static constexpr ptrdiff_t block_offset(WeightType t, ptrdiff_t cols, ptrdiff_t b) {
  return b * (scale_bytes(t, cols) + block_inputs * row_bytes(t, cols)) +
         (b / blocks_per_step + 1) * step_bytes(t, cols);
}
// All bytes of `cols` columns of `in` inputs; of block types, whole blocks (q4_k: whole steps).
static constexpr ptrdiff_t group_bytes(WeightType t, ptrdiff_t cols, ptrdiff_t in) {
  if (t <= WeightType::bf16) return in * row_bytes(t, cols);
  return block_offset(t, cols, in / block_inputs) - step_bytes(t, cols);
}
// Bytes from a full group of panels to the next: an odd number of cache lines, so that panels that are read
// side by side do not fall into the same cache sets and memory banks.
static constexpr ptrdiff_t group_step(WeightType t, ptrdiff_t group, ptrdiff_t in) {
  constexpr ptrdiff_t line = 64;
  return ((group_bytes(t, group * panel_cols, in) + line - 1) / line | 1) * line;
}
// With room for a vector that is read at the last byte: rows are read in pieces of vectors.
static constexpr ptrdiff_t packed_bytes(WeightType t, ptrdiff_t panels, ptrdiff_t group, ptrdiff_t in) {
  constexpr ptrdiff_t vector = 64;
  const ptrdiff_t full = (panels - 1) / group;
  return full * group_step(t, group, in) + group_bytes(t, (panels - full * group) * panel_cols, in) + vector;
}

// Inputs in 8 bits, which products of blocks and integers take. Up to CodedKernels::height rows stand side by
// side: of every block of 32 inputs first the codes, -127 to 127, four of the first row, of the second, and
// so on; then for each row the scale (float), then the sum of its codes (int32), then the scale times that
// sum (float).
inline constexpr ptrdiff_t coded_block_bytes = block_inputs + 12;  // of one row
static constexpr ptrdiff_t coded_bytes(ptrdiff_t in) { return in / block_inputs * coded_block_bytes; }

// y = epilogue(x W^T + bias) * gate. Panels are stored in groups (the last may be smaller): everything of the
// first group, then of the second; a row of a group holds 32 columns of each of its panels. Rows of y, bias
// and gate are padded to whole panels. rows >= 1, in >= 1.
struct Product {
  WeightType type;
  const void* w;
  int panels, group, in;
  const float* x;  // products of codes and tiles: not looked at
  ptrdiff_t ldx;
  int rows;
  const float* bias;  // null: none
  Epilogue act;
  const float* gate;  // null: none
  ptrdiff_t ld_gate;
  float* y;
  ptrdiff_t ldy;
  float* tile;  // scratch, 64-byte aligned: tile_floats, of TileKernels tile_scratch_floats
  // Where rows are left out: for every row its list of inputs that are not zero, count first.
  const int* nonzero;
  ptrdiff_t ld_nonzero;
  // Of CodedKernels and TileKernels: the inputs, rows `ld_codes` bytes apart; what holds several rows begins
  // where its first row does.
  const char* codes = nullptr;
  ptrdiff_t ld_codes = 0;
};

// One token of one head, vectors of n floats.
struct Wkv7Token {
  const float *r, *w, *k, *v, *a, *b;
  float* y;
};

// What follows a recurrence, for one token and head: vectors of n floats.
struct HeadOut {
  const float *y, *weight, *bias;
  const float* gate;             // null: none
  const float *r, *k, *v, *r_k;  // v7's bonus; r null: none
  float* out;
};

// A if first, else B.
template <bool first, class A, class B>
struct Choose {
  using Type = A;
};
template <class A, class B>
struct Choose<false, A, B> {
  using Type = B;
};

// Products of integers: weights in blocks times inputs in 8 bits. The sums of blocks
// are exact, and scaled in order: results have the same bits for any number of rows.
struct CodedKernels {
  int height;  // rows of inputs that stand side by side
  // 1 to `height` rows of x[n], a multiple of 32, to coded_bytes(n) bytes each; each block of a row is scaled
  // to its largest magnitude.
  void (*encode)(const float* x, ptrdiff_t ldx, int rows, int n, char* to);
  // Panels [first, last).
  void (*product)(const Product& p, int first, int last);
  // The same, in groups of several: reads only the rows that p.nonzero lists.
  void (*rows_product)(const Product& p, int first, int last);
};
// Products of bf16 numbers, with float sums, for many rows; results depend on how many. Not for f32 weights,
// nor for those whose number of rows is `never`.
inline constexpr int never = 1 << 30;
struct TileKernels {
  int most_rows;  // of a batch at a time: weights are converted once for them
  // Rows from which on they pay, by the type of the weights; and of those of which rows may be left out.
  int least_bf16, least_f16, least_blocks, least_sparse;
  // Up to 16 rows of x as tiles, of as many bytes as rows times tiled_bytes(type, in); parts:
  // input_parts(type).
  void (*prepare)(const float* x, ptrdiff_t ldx, int rows, int in, int parts, char* to);
  // Panels [first, last). Blocks of 16 rows of inputs are 16 p.ld_codes bytes apart.
  void (*product)(const Product& p, int first, int last);
};
// An input of fp16 weights stays exact to 16 bits, as two numbers; with other weights it is rounded to bf16.
constexpr int input_parts(WeightType t) { return t == WeightType::f16 ? 2 : 1; }
constexpr ptrdiff_t tiled_bytes(WeightType t, ptrdiff_t in) { return (in + 31) / 32 * 64 * input_parts(t); }
inline constexpr int tile_scratch_floats = 16384;  // Product::tile for TileKernels
extern const TileKernels tiles_amx;                // x86-64 only
extern const TileKernels dots_bf16;                // x86-64 only
extern const CodedKernels coded_avx2;              // x86-64 only
extern const CodedKernels coded_vnni;              // x86-64 only

// Every function gives the same bits whatever the number of rows, the order of calls and the thread: sums
// over the inputs of a product run in order, one accumulator per output.
struct Kernels {
  const char* name;

  // With a smaller share of inputs that are not zero, sparse_product is faster.
  float sparse_share;

  // Panels [first, last) of a product.
  void (*product)(const Product& p, int first, int last);
  // The same, reading only the weight rows that meet a nonzero input.
  void (*sparse_product)(const Product& p, int first, int last);
  // How many of x's n numbers are not zero; which goes to `list`, ascending, unless it is null.
  int (*nonzero)(const float* x, int n, int* list);

  void (*activate)(Epilogue act, const float* x, float* y, int n);
  // sum = x + pending (if there is one; sum may be null), h = layer_norm(x + pending) * weight + bias.
  void (*add_norm)(const float* x, const float* pending, const float* weight, const float* bias, float eps,
                   int n, float* sum, float* h);
  // out[i] = h + (previous - h) mix[i] for i < count; dx = previous - h if dx is not null.
  void (*mix)(const float* h, const float* previous, const float* const* mix, int count, int n,
              float* const* out, float* dx);
  // out = h + dx (maa + part)
  void (*data_mix)(const float* h, const float* dx, const float* maa, const float* part, int n, float* out);
  void (*lerp)(const float* a, const float* b, const float* t, int n, float* out);  // a + (b - a) t

  // Recurrences (core/fused_wkv.h), one token. State: wkv4 three rows of n channels, the others [n][n].
  void (*wkv4)(const float* k, const float* v, const float* decay, const float* bonus, int n, float* aa,
               float* bb, float* pp, float* y);
  void (*wkv56)(const float* r, const float* k, const float* v, const float* w, const float* u, int n,
                float* s, float* y);
  void (*wkv7)(const Wkv7Token& t, int n, float* s);
  // kk = l2_norm(k k_k); key = k (1 + (a - 1) k_a); erase = -kk; write = kk a.
  void (*wkv7_keys)(const float* k, const float* a, const float* k_k, const float* k_a, float eps, int n,
                    float* key, float* erase, float* write);
  // out = (group_norm(y) + (r . (k r_k)) v) * gate
  void (*head_out)(const HeadOut& h, float eps, int n);

  const CodedKernels* coded;  // null: none, inputs stay floats
  const TileKernels* tiles;   // null: none
};

extern const Kernels kernels_generic;
extern const Kernels kernels_avx2;    // x86-64 only
extern const Kernels kernels_avx512;  // x86-64 only

}  // namespace fr::cpu
