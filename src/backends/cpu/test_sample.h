// A packed matrix of random numbers, inputs, and the same product in double.
#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "backends/cpu/pack.h"
#include "backends/cpu/recording.h"
#include "backends/cpu/test_net.h"
#include "base/aligned_buffer.h"
#include "base/dtype.h"
#include "base/quant.h"

namespace fr::cpu {

inline double exact_sigmoid(double x) {
  return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x));
}

inline constexpr DType stored_types[] = {DType::f32,  DType::f16,  DType::bf16,
                                         DType::q8_0, DType::q4_0, DType::q4_k};

// The next number of inputs that the format can store.
inline int whole_blocks(DType type, int in) {
  const int n = static_cast<int>(block_size(type));
  return (in + n - 1) / n * n;
}

inline ThreadPool& pool() {
  static const std::unique_ptr<ThreadPool> one = std::move(ThreadPool::create(1)).value();
  return *one;
}

// A packed matrix of random numbers with everything around it, and the same product in double.
struct Sample {
  Sample(DType type, int rows_, int in_, int out_, int group, double zeros = 0)
      : rows(rows_), in(whole_blocks(type, in_)), out(out_), panels((out_ + panel_cols - 1) / panel_cols) {
    values = random_floats(index(in * out), 3);
    store(type, group);
    ldx = row_stride(in);
    ldy = row_stride(out);
    x = random_floats(index(rows) * static_cast<std::size_t>(ldx), 4);
    std::mt19937 random(5);
    for (float& v : x) {
      if (std::uniform_real_distribution<double>(0, 1)(random) < zeros) v = 0;
    }
    bias = random_floats(static_cast<std::size_t>(ldy), 6);
    gate = random_floats(static_cast<std::size_t>(rows * ldy), 7);
    y.assign(static_cast<std::size_t>(rows * ldy), -7.0f);
    lists.resize(index(rows * (in + 1)));
    tile = std::move(AlignedBuffer::allocate(tile_floats * sizeof(float), "tile")).value();
    p = Product{weight_type(type), bits.data(), panels,   group,       in,
                x.data(),          ldx,         rows,     bias.data(), Epilogue::silu,
                gate.data(),       ldy,         y.data(), ldy,         tile.as<float>(),
                lists.data(),      in + 1};
  }
  static std::size_t index(int i) { return static_cast<std::size_t>(i); }

  // Replaces the values by what `type` holds of them, and packs that.
  void store(DType type, int group) {
    const auto blocks = values.size() / static_cast<std::size_t>(block_size(type));
    std::vector<std::byte> bytes(blocks * dtype_size(type));
    if (is_block_dtype(type)) {
      ASSERT_TRUE(quantise(type, values, bytes.data()));
    }
    for (std::size_t i = 0; i < values.size() && !is_block_dtype(type); ++i) {
      const std::uint16_t h = type == DType::f16 ? float_to_half(values[i]) : float_to_bf16(values[i]);
      std::memcpy(bytes.data() + i * dtype_size(type),
                  type == DType::f32 ? static_cast<void*>(&values[i]) : const_cast<std::uint16_t*>(&h),
                  dtype_size(type));
    }
    const TensorView w{"w", type, {out, in}, {in, 1}, bytes.data()};
    w.read(0, values);
    PackedMatrix m;
    m.type = weight_type(type);
    m.in = in;
    m.out = out;
    m.panels = panels;
    m.group = group;
    bits.assign(static_cast<std::size_t>(packed_bytes(m.type, panels, group, in)), std::byte{0x55});
    ASSERT_TRUE(pack(w, type, m, pool(), bits.data()));
  }

  // Lists what is not zero.
  void list(const Kernels& kernels) {
    for (int t = 0; t < rows; ++t) {
      int* const to = lists.data() + t * (in + 1);
      *to = kernels.nonzero(p.x + t * ldx, in, to + 1);
    }
  }

  double exact(int row, int c) const {
    double sum = 0;
    for (int k = 0; k < in; ++k) {
      sum += double{x[static_cast<std::size_t>(row * ldx + k)]} *
             double{values[static_cast<std::size_t>(c * in + k)]};
    }
    sum += double{bias[static_cast<std::size_t>(c)]};
    return sum * exact_sigmoid(sum) * double{gate[static_cast<std::size_t>(row * ldy + c)]};
  }
  // Relative to the largest output, or to `least` where all outputs are smaller: silu of a sum far below zero
  // makes the sum's rounding look large.
  double worst_error(double least = 0) const {
    double most = 0, largest = least;
    for (int t = 0; t < rows; ++t) {
      for (int c = 0; c < out; ++c) {
        most = std::max(most, std::abs(double{y[static_cast<std::size_t>(t * ldy + c)]} - exact(t, c)));
        largest = std::max(largest, std::abs(exact(t, c)));
      }
    }
    return most / largest;
  }
  std::vector<float> row(int t) const { return {y.begin() + t * ldy, y.begin() + t * ldy + out}; }

  int rows, in, out, panels;
  std::ptrdiff_t ldx = 0, ldy = 0;
  std::vector<float> values, x, bias, gate, y;  // values: [out][in], as stored
  std::vector<int> lists;
  std::vector<std::byte> bits;
  AlignedBuffer tile;
  Product p{};
};

}  // namespace fr::cpu
