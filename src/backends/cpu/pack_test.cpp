// Packed matrices against plain loops over kernels.h's definition of where every number and code lies, for
// all kinds of files: formats, both orders, shapes that fill no panel.
#include "backends/cpu/pack.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "base/quant.h"

namespace fr::cpu {
namespace {

using Bytes = std::vector<std::byte>;

// A matrix as a file has it. padding: numbers between the end of a row and the next.
struct File {
  Bytes bytes;
  TensorView view;
  std::vector<float> numbers;  // [out][in], as the file's format holds them
};
File file_of(DType type, int out, int in, bool by_inputs, int padding) {
  File file;
  std::mt19937 random(static_cast<unsigned>(out * in));
  std::normal_distribution<float> normal(0, 0.02f);
  const int length = by_inputs ? out : in, rows = by_inputs ? in : out, step = length + padding;
  const auto block = static_cast<int>(block_size(type));
  file.bytes.resize(static_cast<std::size_t>(rows * step / block) * dtype_size(type));
  std::vector<float> row(static_cast<std::size_t>(step)), read(row.size());
  file.numbers.resize(static_cast<std::size_t>(out * in));
  for (int r = 0; r < rows; ++r) {
    for (float& x : row) x = normal(random);
    std::byte* to = file.bytes.data() + static_cast<std::size_t>(r * step / block) * dtype_size(type);
    if (is_block_dtype(type)) {
      EXPECT_TRUE(quantise(type, row, to));
      dequantise(type, to, read);
    }
    for (std::size_t i = 0; i < row.size() && !is_block_dtype(type); ++i) {
      const std::uint16_t h = type == DType::f16 ? float_to_half(row[i]) : float_to_bf16(row[i]);
      read[i] = type == DType::f32 ? row[i] : type == DType::f16 ? half_to_float(h) : bf16_to_float(h);
      type == DType::f32 ? std::memcpy(to + i * 4, &row[i], 4) : std::memcpy(to + i * 2, &h, 2);
    }
    for (int i = 0; i < length; ++i)
      file.numbers[static_cast<std::size_t>(by_inputs ? i * in + r : r * in + i)] =
          read[static_cast<std::size_t>(i)];
  }
  const std::vector<std::int64_t> stride =
      by_inputs ? std::vector<std::int64_t>{1, step} : std::vector<std::int64_t>{step, 1};
  file.view = {"w", type, {out, in}, stride, file.bytes.data()};
  return file;
}

PackedMatrix plan_of(DType stored, int out, int in, int group) {
  PackedMatrix m;
  m.type = weight_type(stored);
  m.in = in;
  m.out = out;
  m.panels = (out + panel_cols - 1) / panel_cols;
  m.group = group;
  return m;
}
constexpr std::byte unwritten{0xaa};
std::size_t size_of(const PackedMatrix& m) {
  return static_cast<std::size_t>(packed_bytes(m.type, m.panels, m.group, m.in));
}
Bytes packed(const File& file, DType stored, const PackedMatrix& m) {
  auto pool = *ThreadPool::create(2);
  Bytes data(size_of(m), unwritten);
  EXPECT_TRUE(pack(file.view, stored, m, *pool, data.data()));
  return data;
}

// A panel's place: the memory of its group, the columns of the group, the panel's first column there.
struct Place {
  std::byte* group;
  std::ptrdiff_t cols, first;
};
Place place_of(const PackedMatrix& m, int panel, Bytes& data) {
  const int first = panel / m.group * m.group;
  return {data.data() + panel / m.group * group_step(m.type, m.group, m.in),
          std::min(m.group, m.panels - first) * panel_cols, (panel - first) * panel_cols};
}
// Zeros, but for what lies between groups.
Bytes empty(const PackedMatrix& m) {
  Bytes data(size_of(m), unwritten);
  for (int panel = 0; panel < m.panels; panel += m.group) {
    const Place p = place_of(m, panel, data);
    std::fill_n(p.group, group_bytes(m.type, p.cols, m.in), std::byte{0});
  }
  return data;
}

Bytes plain_floats(const File& file, DType stored, const PackedMatrix& m) {
  Bytes data = empty(m);
  for (int o = 0; o < m.out; ++o) {
    const Place p = place_of(m, o / panel_cols, data);
    const int column = stored_column(m.type, o % panel_cols), size = m.type == WeightType::f32 ? 4 : 2;
    for (int k = 0; k < m.in; ++k) {
      const float x = file.numbers[static_cast<std::size_t>(o * m.in + k)];
      const std::uint16_t h = stored == DType::f16 ? float_to_half(x) : float_to_bf16(x);
      std::byte* to = p.group + (k * p.cols + p.first + column) * size;
      size == 4 ? std::memcpy(to, &x, 4) : std::memcpy(to, &h, 2);
    }
  }
  return data;
}

// Ors the code of input k of a block, column c of a panel, into the block's rows.
void put_code(const PackedMatrix& m, const Place& p, std::byte* rows, int k, int c, unsigned code) {
  const bool wide = m.type == WeightType::q8_0;
  std::ptrdiff_t byte;
  int shift = 0;
  if (m.group == 1) {
    const int step = inputs_per_word(m.type);
    byte = (k / step * panel_cols + c) * 4 + k % 4;
    shift = wide ? 0 : k % step / 4 * 4;
  } else if (wide) {
    byte = k * row_bytes(m.type, p.cols) + p.first + c;
  } else {
    byte = k * row_bytes(m.type, p.cols) + p.first / 2 + c % 16;
    shift = c / 16 * 4;
  }
  rows[byte] |= static_cast<std::byte>(code << shift);
}

Bytes plain_blocks(const File& file, DType stored, const PackedMatrix& m) {
  Bytes data = empty(m);
  const int length = static_cast<int>(block_size(stored)), per_block = length / block_inputs;
  std::vector<std::uint8_t> block(dtype_size(stored));
  for (int o = 0; o < m.out; ++o) {
    const Place p = place_of(m, o / panel_cols, data);
    const std::ptrdiff_t c = o % panel_cols, column = p.first + c;
    for (int k = 0; k < m.in; k += length) {
      const std::span x(&file.numbers[static_cast<std::size_t>(o * m.in + k)],
                        static_cast<std::size_t>(length));
      auto* bytes = reinterpret_cast<std::byte*>(block.data());
      if (file.view.dtype == stored) {
        const std::ptrdiff_t at = (o * file.view.stride[0] + k) / length;
        std::memcpy(bytes, file.bytes.data() + at * static_cast<std::ptrdiff_t>(block.size()), block.size());
      } else {
        EXPECT_TRUE(quantise(stored, x, bytes));
      }
      for (int j = 0; j < per_block; ++j) {
        std::byte* scales = p.group + block_offset(m.type, p.cols, k / block_inputs + j);
        if (stored == DType::q4_k) {
          if (j == 0) std::memcpy(scales - 4 * p.cols + 2 * column, bytes, 2);
          if (j == 0) std::memcpy(scales - 2 * p.cols + 2 * column, bytes + 2, 2);
          scales[column] = std::byte{q4_k_scale_min(bytes, j).scale};
          scales[p.cols + column] = std::byte{q4_k_scale_min(bytes, j).min};
        } else {
          std::memcpy(scales + 2 * column, bytes, 2);
        }
        for (int i = 0; i < block_inputs; ++i) {
          const auto at = static_cast<std::size_t>(i);
          const unsigned code =
              stored == DType::q8_0 ? block[2 + at]
              : stored == DType::q4_0
                  ? block[2 + at % 16] >> (i / 16 * 4) & 15u
                  : block[16 + static_cast<std::size_t>(j / 2 * 32) + at] >> (j % 2 * 4) & 15u;
          put_code(m, p, scales + scale_bytes(m.type, p.cols), i, static_cast<int>(c), code);
        }
      }
    }
  }
  return data;
}

constexpr DType float_types[] = {DType::f32, DType::f16, DType::bf16};

void check(const File& file, DType stored, int group, const std::string& what) {
  const PackedMatrix m =
      plan_of(stored, static_cast<int>(file.view.shape[0]), static_cast<int>(file.view.shape[1]), group);
  const Bytes plain = is_float_dtype(stored) ? plain_floats(file, stored, m) : plain_blocks(file, stored, m);
  EXPECT_EQ(packed(file, stored, m), plain) << what << ": " << dtype_name(file.view.dtype) << " as "
                                            << dtype_name(stored) << ", groups of " << group;
}

TEST(Pack, NumbersLieWhereKernelsLookForThem) {
  for (const DType stored : float_types) {
    for (const DType type : float_types) {
      for (const int group : {1, 2}) {
        check(file_of(type, 96, 303, false, 0), stored, group, "whole panels");
        check(file_of(type, 70, 600, false, 0), stored, group, "an open panel");
        check(file_of(type, 70, 300, false, 5), stored, group, "rows apart");
        check(file_of(type, 70, 301, true, 0), stored, group, "inputs one after the other");
      }
    }
  }
}

TEST(Pack, CodesLieWhereKernelsLookForThem) {
  for (const DType stored : {DType::q8_0, DType::q4_0, DType::q4_k}) {
    const int in = stored == DType::q4_k ? 768 : 352;
    for (const int group : {1, 2}) {
      for (const DType type : float_types) {
        check(file_of(type, 96, in, false, 0), stored, group, "whole panels");
        check(file_of(type, 70, in, false, 0), stored, group, "an open panel");
        check(file_of(type, 70, in, true, 0), stored, group, "inputs one after the other");
      }
      check(file_of(stored, 70, in, false, 0), stored, group, "blocks of the file");
      const DType other = stored == DType::q8_0 ? DType::q4_0 : DType::q8_0;
      check(file_of(other, 70, in, false, 0), stored, group, "other blocks");
    }
  }
}

TEST(Pack, WhatDoesNotFitIsSaid) {
  auto pool = *ThreadPool::create(2);
  for (const DType stored : {DType::f16, DType::q8_0, DType::q4_0, DType::q4_k}) {
    File file = file_of(DType::f32, 70, 512, false, 0);
    const PackedMatrix m = plan_of(stored, 70, 512, 1);
    Bytes data(size_of(m));
    EXPECT_TRUE(pack(file.view, stored, m, *pool, data.data())) << dtype_name(stored);
    const float large = 1e10f;
    std::memcpy(file.bytes.data() + (69 * 512 + 300) * 4, &large, 4);
    EXPECT_FALSE(pack(file.view, stored, m, *pool, data.data())) << dtype_name(stored);
  }
}

}  // namespace
}  // namespace fr::cpu
