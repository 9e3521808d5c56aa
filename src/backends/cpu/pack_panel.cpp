#include "backends/cpu/pack_panel.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "backends/cpu/transpose.h"
#include "base/quant.h"
#include "base/rows.h"
#include "core/storage.h"

namespace fr::cpu {
namespace {

using Pointers = std::array<const std::byte*, panel_cols>;

// What a column beyond the last has: numbers, or a block, of zeros.
alignas(64) constexpr std::byte zeros[Source::most * 4] = {};

int bytes_of(WeightType type) { return type == WeightType::f32 ? 4 : 2; }

// Inputs [k, k + count) of the columns, of float types, into the panel's rows.
void write_rows(const Target& t, int k, int count, const Pointers& columns) {
  Pointers stored;
  for (int c = 0; c < panel_cols; ++c)
    stored[static_cast<std::size_t>(stored_column(t.type, c))] = columns[static_cast<std::size_t>(c)];
  const std::ptrdiff_t step = row_bytes(t.type, t.cols);
  (bytes_of(t.type) == 4 ? transpose<4> : transpose<2>)(stored.data(), panel_cols, count, t.row(k), step);
}

// Into the cache: inputs [k, k + count) of one output, or as many as there are; after the last, the first
// ones of the next panel. A panel is read a part of every row at a time, which a processor does not foresee.
void prefetch(const TensorView& w, std::int64_t out, std::int64_t k, int count) {
  if (k >= w.shape[1]) out += panel_cols, k = 0;
  if (out >= w.shape[0] || !is_float_dtype(w.dtype) || w.stride[1] != 1) return;
  const auto size = static_cast<std::int64_t>(dtype_size(w.dtype));
  const std::byte* from = w.data + (out * w.stride[0] + k) * size;
  const std::int64_t bytes = std::min<std::int64_t>(count, w.shape[1] - k) * size;
  for (std::int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(from + i);
}

// Numbers that are stored as the file has them, bit by bit.
void copy_rows(const TensorView& w, const Target& t) {
  const auto size = static_cast<std::int64_t>(dtype_size(w.dtype));
  for (int k = 0; k < t.in; k += Source::most) {
    const int count = std::min(Source::most, t.in - k);
    Pointers columns;
    columns.fill(zeros);
    for (int c = 0; c < t.outs; ++c) {
      columns[static_cast<std::size_t>(c)] = w.data + ((t.first_out + c) * w.stride[0] + k) * size;
      prefetch(w, t.first_out + c, k + count, count);
    }
    write_rows(t, k, count, columns);
  }
}
// With any strides.
template <int size>
void copy_numbers(const TensorView& w, const Target& t) {
  for (int k = 0; k < t.in; ++k) {
    const std::byte* from = w.data + (t.first_out * w.stride[0] + k * w.stride[1]) * size;
    std::byte* const row = t.row(k);
    if (t.outs < panel_cols) std::memset(row, 0, panel_cols * size);
    for (int c = 0; c < t.outs; ++c, from += w.stride[0] * size)
      std::memcpy(row + stored_column(t.type, c) * size, from, size);
  }
}
void copy_panel(const TensorView& w, const Target& t) {
  if (w.stride[1] == 1) return copy_rows(w, t);
  bytes_of(t.type) == 4 ? copy_numbers<4>(w, t) : copy_numbers<2>(w, t);
}

// False if a number does not fit.
bool convert_panel(const Source& source, DType stored, const Target& t) {
  alignas(64) std::byte numbers[panel_cols][4 * Source::most];
  bool fits = true;
  for (int k = 0; k < t.in; k += Source::most) {
    const int count = std::min(Source::most, t.in - k);
    Pointers columns;
    columns.fill(zeros);
    source.read(t.first_out, t.outs, k, count, [&](int c, std::span<const float> x) {
      columns[static_cast<std::size_t>(c)] = numbers[c];
      fits = write_row(stored, x, numbers[c]) && fits;
    });
    write_rows(t, k, count, columns);
  }
  return fits;
}

// Blocks of the 32 columns of a panel
// -------------------------------------------------------------------------

using Codes = std::uint8_t[panel_cols][block_inputs];

// Block j of the 256 inputs of q4_k, or the block of another type, as bytes.
void read_codes(WeightType type, const std::byte* block, int j, std::uint8_t* codes) {
  const auto* b = reinterpret_cast<const std::uint8_t*>(block);
  if (type == WeightType::q8_0) {
    std::memcpy(codes, b + 2, block_inputs);
  } else if (type == WeightType::q4_0) {
    for (int i = 0; i < block_inputs / 2; ++i) {
      codes[i] = b[2 + i] & 15;
      codes[i + block_inputs / 2] = b[2 + i] >> 4;
    }
  } else {
    const std::uint8_t* bytes = b + 16 + j / 2 * block_inputs;
    for (int i = 0; i < block_inputs; ++i)
      codes[i] = j % 2 == 0 ? bytes[i] & 15 : static_cast<std::uint8_t>(bytes[i] >> 4);
  }
}

// Columns of words: four inputs of 8 bits, or eight of 4.
void write_words(const Target& t, std::byte* to, const Codes& codes) {
  std::uint32_t words[panel_cols][block_inputs / 8];
  Pointers columns;
  for (std::size_t c = 0; c < panel_cols; ++c) {
    if (t.type == WeightType::q8_0) {
      columns[c] = reinterpret_cast<const std::byte*>(codes[c]);
      continue;
    }
    for (int k = 0; k < block_inputs; k += 8) {
      std::uint32_t first, second;
      std::memcpy(&first, codes[c] + k, 4);
      std::memcpy(&second, codes[c] + k + 4, 4);
      words[c][k / 8] = first | second << 4;
    }
    columns[c] = reinterpret_cast<const std::byte*>(words[c]);
  }
  transpose<4>(columns.data(), panel_cols, block_inputs / inputs_per_word(t.type), to, panel_cols * 4);
}

// A row for every input.
void write_code_rows(const Target& t, std::byte* to, const Codes& codes) {
  const std::ptrdiff_t step = row_bytes(t.type, t.cols);
  Pointers columns;
  if (t.type == WeightType::q8_0) {
    for (std::size_t c = 0; c < panel_cols; ++c) columns[c] = reinterpret_cast<const std::byte*>(codes[c]);
    return transpose<1>(columns.data(), panel_cols, block_inputs, to, step);
  }
  constexpr int half = panel_cols / 2;
  std::uint8_t both[half][block_inputs];
  for (int c = 0; c < half; ++c) {
    for (int k = 0; k < block_inputs; ++k)
      both[c][k] = static_cast<std::uint8_t>(codes[c][k] | codes[c + half][k] << 4);
    columns[static_cast<std::size_t>(c)] = reinterpret_cast<const std::byte*>(both[c]);
  }
  transpose<1>(columns.data(), half, block_inputs, to, step);
}

// Blocks [b, b + ...) of every column, one step of q4_k or one block of another type.
void write_blocks(const Target& t, int b, const Pointers& blocks) {
  const bool q4_k = t.type == WeightType::q4_k;
  std::byte* const begin = t.group + block_offset(t.type, t.cols, b);
  const std::ptrdiff_t first = t.number * panel_cols;
  const auto put_halves = [&](std::byte* row, int offset) {
    for (std::size_t c = 0; c < panel_cols; ++c)
      std::memcpy(row + 2 * (first + static_cast<int>(c)), blocks[c] + offset, 2);
  };
  if (q4_k) {
    put_halves(begin - step_bytes(t.type, t.cols), 0);
    put_halves(begin - 2 * t.cols, 2);
  }
  for (int j = 0; j < (q4_k ? blocks_per_step : 1); ++j) {
    std::byte* const scales = t.group + block_offset(t.type, t.cols, b + j);
    Codes codes;
    for (std::size_t c = 0; c < panel_cols; ++c) {
      read_codes(t.type, blocks[c], j, codes[c]);
      if (!q4_k) continue;
      const ScaleMin s = q4_k_scale_min(blocks[c], j);
      scales[first + static_cast<int>(c)] = std::byte{s.scale};
      scales[t.cols + first + static_cast<int>(c)] = std::byte{s.min};
    }
    if (!q4_k) put_halves(scales, 0);
    std::byte* const rows = scales + scale_bytes(t.type, t.cols);
    t.by_rows ? write_code_rows(t, rows + t.number * row_bytes(t.type, panel_cols), codes)
              : write_words(t, rows, codes);
  }
}

// Blocks of the file, as they are.
void copy_blocks(const TensorView& w, DType stored, const Target& t) {
  const std::int64_t length = block_size(stored), size = static_cast<std::int64_t>(dtype_size(stored));
  Pointers blocks;
  blocks.fill(zeros);
  for (std::int64_t k = 0; k < t.in; k += length) {
    for (int c = 0; c < t.outs; ++c)
      blocks[static_cast<std::size_t>(c)] = w.data + ((t.first_out + c) * w.stride[0] + k) / length * size;
    write_blocks(t, static_cast<int>(k) / block_inputs, blocks);
  }
}

// False if a number does not fit.
bool quantise_panel(const Source& source, DType stored, const Target& t) {
  const int length = static_cast<int>(block_size(stored)), size = static_cast<int>(dtype_size(stored));
  constexpr int largest = Source::most / block_inputs * 34;  // bytes of so many inputs
  FR_CHECK(Source::most % length == 0 && Source::most / length * size <= largest);
  std::byte bytes[panel_cols][largest];
  bool fits = true;
  for (int k = 0; k < t.in; k += Source::most) {
    const int count = std::min(Source::most, t.in - k);
    source.read(t.first_out, t.outs, k, count,
                [&](int c, std::span<const float> x) { fits = quantise(stored, x, bytes[c]) && fits; });
    Pointers blocks;
    blocks.fill(zeros);
    for (int b = 0; b < count / length; ++b) {
      for (int c = 0; c < t.outs; ++c) blocks[static_cast<std::size_t>(c)] = bytes[c] + b * size;
      write_blocks(t, k / block_inputs + b, blocks);
    }
  }
  return fits;
}

}  // namespace

Target::Target(const PackedMatrix& m, int panel, std::byte* data)
    : type(m.type),
      in(m.in),
      first_out(panel * panel_cols),
      outs(std::min(panel_cols, m.out - first_out)),
      by_rows(m.group > 1) {
  const int first = panel / m.group * m.group;  // of the group
  group = data + first / m.group * group_step(type, m.group, in);
  cols = std::ptrdiff_t{std::min(m.group, m.panels - first)} * panel_cols;
  number = panel - first;
}

Source::Source(const TensorView& w)
    : by_inputs_(w.stride[0] < w.stride[1] && w.row_gap == 0),
      file_(w),
      view_(by_inputs_ ? w.transposed() : w) {}

void Source::read(int first_out, int outs, int k, int count, const Use& use) const {
  const std::size_t n = static_cast<std::size_t>(count);
  if (!by_inputs_) {
    alignas(64) float numbers[most];
    for (int c = 0; c < outs; ++c) {
      const std::int64_t out = std::int64_t{first_out} + c;
      view_.read(out * view_.shape[1] + k, {numbers, n});
      prefetch(view_, out, k + count, count);
      use(c, {numbers, n});
    }
    return;
  }
  alignas(64) float rows[most][panel_cols], columns[panel_cols][most];
  const std::byte* row[most];
  for (int i = 0; i < most; ++i) row[i] = reinterpret_cast<const std::byte*>(rows[i]);
  for (int i = 0; i < count; ++i)
    view_.read((std::int64_t{k} + i) * view_.shape[1] + first_out, {rows[i], static_cast<std::size_t>(outs)});
  transpose<4>(row, (count + 3) / 4 * 4, outs, reinterpret_cast<std::byte*>(columns), sizeof columns[0]);
  for (int c = 0; c < outs; ++c) use(c, {columns[c], n});
}

bool pack_panel(const Source& source, DType stored, const Target& t) {
  const TensorView& w = source.file();
  if (is_block_dtype(stored) && !has_blocks(w, stored)) return quantise_panel(source, stored, t);
  if (is_float_dtype(stored) && (w.dtype != stored || !w.plain() || w.row_gap != 0))
    return convert_panel(source, stored, t);
  is_block_dtype(stored) ? copy_blocks(w, stored, t) : copy_panel(w, t);
  return true;
}

}  // namespace fr::cpu
