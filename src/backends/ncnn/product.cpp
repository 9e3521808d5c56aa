#include "backends/ncnn/product.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <vector>

#include "base/dtype.h"

namespace fr::ncnn_backend {
namespace {

constexpr std::size_t block = 32;  // numbers that are widened at a time
using Block = std::array<float, block>;

// As half_to_float for finite numbers, without a branch, so that compilers vectorise loops of it.
float finite_half(std::uint16_t h) {
  const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000u) << 16;
  const float magnitude = std::bit_cast<float>(static_cast<std::uint32_t>(h & 0x7fffu) << 13) * 0x1p112f;
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(magnitude) | sign);
}

float read_float(const std::byte* p, std::size_t i) {
  float x;
  std::memcpy(&x, p + i * sizeof x, sizeof x);
  return x;
}

// 32 numbers that start at number `i` of plain data.
void widen_floats(const std::byte* p, std::size_t i, Block& out) {
  std::memcpy(out.data(), p + i * sizeof(float), sizeof out);
}
void widen_halves(const std::byte* p, std::size_t i, Block& out) {
  std::array<std::uint16_t, block> h;
  std::memcpy(h.data(), p + i * sizeof(std::uint16_t), sizeof h);
  for (std::size_t j = 0; j < block; ++j) out[j] = finite_half(h[j]);
}
void widen_bytes(const std::byte* p, std::size_t i, Block& out) {
  std::array<std::int8_t, block> q;
  std::memcpy(q.data(), p + i, sizeof q);
  for (std::size_t j = 0; j < block; ++j) out[j] = static_cast<float>(q[j]);
}
void widen_nibbles(const std::byte* p, std::size_t i, Block& out) {
  std::array<std::uint8_t, block / 2> q;
  std::memcpy(q.data(), p + i / 2, sizeof q);
  for (std::size_t j = 0; j < block / 2; ++j) {
    out[2 * j] = static_cast<float>(((q[j] & 15) ^ 8) - 8);
    out[2 * j + 1] = static_cast<float>(((q[j] >> 4) ^ 8) - 8);
  }
}

// Rows of W one at a time: block by block into f(first input, 32 numbers, what to multiply them by); what is
// left of plain rows number by number into rest(input, number).
template <class F, class Rest>
void for_row(const Matrix& w, std::size_t row, F f, Rest rest) {
  const auto in = static_cast<std::size_t>(w.in);
  const std::size_t first = row * in, whole = in - in % block;
  Block numbers;
  const auto all = [&](auto widen, auto factor) {
    for (std::size_t i = 0; i < whole; i += block) {
      widen(w.data, first + i, numbers);
      f(i, numbers, factor(first + i));
    }
  };
  const auto one = [](std::size_t) { return 1.0f; };
  switch (w.numbers) {
    case Numbers::f32:
      all(widen_floats, one);
      for (std::size_t i = whole; i < in; ++i) rest(i, read_float(w.data, first + i));
      break;
    case Numbers::f16:
      all(widen_halves, one);
      for (std::size_t i = whole; i < in; ++i) {
        std::uint16_t h;
        std::memcpy(&h, w.data + (first + i) * sizeof h, sizeof h);
        rest(i, finite_half(h));
      }
      break;
    case Numbers::block8:
      all(widen_bytes, [&](std::size_t i) { return 1.0f / read_float(w.scales, i / block); });
      break;
    case Numbers::block4:
      all(widen_nibbles, [&](std::size_t i) { return 1.0f / read_float(w.scales, i / block); });
      break;
    case Numbers::group64:
      all(widen_bytes, [&](std::size_t i) {
        std::uint16_t h;
        std::memcpy(&h, w.scales + i / 64 * sizeof h, sizeof h);
        return finite_half(h);
      });
      break;
  }
}

// Four numbers at a time, in the vector types that g++ and clang have for every processor.
using F4 = float __attribute__((vector_size(16)));
using U4 = std::uint32_t __attribute__((vector_size(16)));
using I4 = std::int32_t __attribute__((vector_size(16)));
using H4 = std::uint16_t __attribute__((vector_size(8)));
using B4 = std::int8_t __attribute__((vector_size(4)));

template <class V>
V load(const void* p) {
  V v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
F4 load4(const float* p) { return load<F4>(p); }
float total(F4 v) { return (v[0] + v[2]) + (v[1] + v[3]); }

// finite_half of four.
F4 halves4(const std::byte* p) {
  const U4 h = __builtin_convertvector(load<H4>(p), U4);
  const F4 magnitude = reinterpret_cast<F4>((h & 0x7fffu) << 13) * 0x1p112f;
  return reinterpret_cast<F4>(reinterpret_cast<U4>(magnitude) | ((h & 0x8000u) << 16));
}
F4 bytes4(const std::byte* p) {
  return __builtin_convertvector(__builtin_convertvector(load<B4>(p), I4), F4);
}

// The products of 32 numbers of W with x, added to four sums in a fixed order.
using Sums = F4[4];
void add_floats(const std::byte* w, const float* x, Sums& sums) {
  for (std::size_t j = 0; j < 8; ++j) sums[j % 4] += load<F4>(w + 16 * j) * load4(x + 4 * j);
}
void add_halves(const std::byte* w, const float* x, Sums& sums) {
  for (std::size_t j = 0; j < 8; ++j) sums[j % 4] += halves4(w + 8 * j) * load4(x + 4 * j);
}
void add_bytes(const std::byte* w, const float* x, float factor, Sums& sums) {
  F4 even{}, odd{};
  for (std::size_t j = 0; j < 8; j += 2) {
    even += bytes4(w + 4 * j) * load4(x + 4 * j);
    odd += bytes4(w + 4 * j + 4) * load4(x + 4 * j + 4);
  }
  sums[0] += even * factor;
  sums[1] += odd * factor;
}
void add_nibbles(const std::byte* w, const float* x, float factor, Sums& sums) {
  F4 low{}, high{};
  for (std::size_t j = 0; j < 4; ++j) {
    const I4 both = __builtin_convertvector(load<B4>(w + 4 * j), I4);  // the high nibble with its sign
    const F4 a = load4(x + 8 * j), b = load4(x + 8 * j + 4);
    low += __builtin_convertvector(((both & 15) ^ 8) - 8, F4) * __builtin_shufflevector(a, b, 0, 2, 4, 6);
    high += __builtin_convertvector(both >> 4, F4) * __builtin_shufflevector(a, b, 1, 3, 5, 7);
  }
  sums[0] += low * factor;
  sums[1] += high * factor;
}

float bias_of(const Matrix& w, std::size_t row) { return w.bias != nullptr ? read_float(w.bias, row) : 0.0f; }

// One row of x with one row of W, whole blocks.
float blocks_of_row(const Matrix& w, std::size_t first, std::size_t whole, const float* x) {
  Sums sums{};
  const auto factor = [&](std::size_t i) { return 1.0f / read_float(w.scales, (first + i) / block); };
  for (std::size_t i = 0; i < whole; i += block) {
    switch (w.numbers) {
      case Numbers::f32:
        add_floats(w.data + (first + i) * sizeof(float), x + i, sums);
        break;
      case Numbers::f16:
        add_halves(w.data + (first + i) * sizeof(std::uint16_t), x + i, sums);
        break;
      case Numbers::block8:
        add_bytes(w.data + first + i, x + i, factor(i), sums);
        break;
      case Numbers::block4:
        add_nibbles(w.data + (first + i) / 2, x + i, factor(i), sums);
        break;
      case Numbers::group64: {
        const float scale =
            finite_half(load<std::uint16_t>(w.scales + (first + i) / 64 * sizeof(std::uint16_t)));
        add_bytes(w.data + first + i, x + i, scale, sums);
        break;
      }
    }
  }
  return total((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

void multiply_row(const Matrix& w, std::size_t row, const float* x, float* y) {
  const auto in = static_cast<std::size_t>(w.in);
  const std::size_t first = row * in, whole = in - in % block;
  float sum = blocks_of_row(w, first, whole, x) + bias_of(w, row);
  for (std::size_t i = whole; i < in; ++i) {  // plain numbers only: blocks have no rest
    const float v = w.numbers == Numbers::f32
                        ? read_float(w.data, first + i)
                        : finite_half(load<std::uint16_t>(w.data + (first + i) * sizeof(std::uint16_t)));
    sum += v * x[i];
  }
  y[row] = sum;
}

// `count` rows of x (1 or 4) with one widened row of W.
template <std::size_t count>
void multiply_wide(std::span<const float> wide, const float* x, float bias, float* y, std::size_t out) {
  const std::size_t in = wide.size(), whole = in - in % 8;
  F4 sums[count][2] = {};
  for (std::size_t i = 0; i < whole; i += 8) {
    const F4 a = load4(wide.data() + i), b = load4(wide.data() + i + 4);
    for (std::size_t t = 0; t < count; ++t) {
      sums[t][0] += a * load4(x + t * in + i);
      sums[t][1] += b * load4(x + t * in + i + 4);
    }
  }
  for (std::size_t t = 0; t < count; ++t) {
    float sum = total(sums[t][0] + sums[t][1]) + bias;
    for (std::size_t i = whole; i < in; ++i) sum += wide[i] * x[t * in + i];
    y[t * out] = sum;
  }
}

// Several rows of x: W's row is widened once.
void multiply_rows(const Matrix& w, std::size_t row, const float* x, std::size_t rows, float* y,
                   std::vector<float>& wide) {
  const auto in = static_cast<std::size_t>(w.in), out = static_cast<std::size_t>(w.out);
  wide.resize(in);
  read_row(w, static_cast<int>(row), wide);
  const float bias = bias_of(w, row);
  std::size_t t = 0;
  for (; t + 4 <= rows; t += 4) multiply_wide<4>(wide, x + t * in, bias, y + t * out + row, out);
  for (; t < rows; ++t) multiply_wide<1>(wide, x + t * in, bias, y + t * out + row, out);
}

// Outputs [begin, end) of one row of x with W [in][out].
void multiply_columns(const Matrix& w, std::size_t begin, std::size_t end, const float* x, float* y) {
  const auto in = static_cast<std::size_t>(w.in), out = static_cast<std::size_t>(w.out);
  for (std::size_t n = begin; n < end; ++n) y[n] = bias_of(w, n);
  Block numbers;
  for (std::size_t k = 0; k < in; ++k) {
    std::size_t n = begin;
    for (; n + block <= end; n += block) {
      (w.numbers == Numbers::f32 ? widen_floats : widen_halves)(w.data, k * out + n, numbers);
      for (std::size_t j = 0; j < block; ++j) y[n + j] += numbers[j] * x[k];
    }
    for (; n < end; ++n) {
      std::uint16_t h = 0;
      if (w.numbers == Numbers::f16) std::memcpy(&h, w.data + (k * out + n) * sizeof h, sizeof h);
      y[n] += (w.numbers == Numbers::f32 ? read_float(w.data, k * out + n) : finite_half(h)) * x[k];
    }
  }
}

}  // namespace

void multiply(const Matrix& w, const float* x, int rows, float* y, ThreadPool& pool) {
  const auto in = static_cast<std::size_t>(w.in), out = static_cast<std::size_t>(w.out),
             count = static_cast<std::size_t>(rows);
  const std::size_t piece = w.transposed ? 2 * block : std::max<std::size_t>(1, (std::size_t{1} << 14) / in);
  const auto pieces = static_cast<int>((out + piece - 1) / piece);
  pool.run(pieces, [&](int, int first, int last) {
    const std::size_t begin = static_cast<std::size_t>(first) * piece,
                      end = std::min(out, static_cast<std::size_t>(last) * piece);
    if (w.transposed) {
      for (std::size_t t = 0; t < count; ++t) multiply_columns(w, begin, end, x + t * in, y + t * out);
    } else if (count == 1) {
      for (std::size_t row = begin; row < end; ++row) multiply_row(w, row, x, y);
    } else {
      std::vector<float> wide;
      for (std::size_t row = begin; row < end; ++row) multiply_rows(w, row, x, count, y, wide);
    }
  });
}

void read_row(const Matrix& w, int row, std::span<float> out) {
  for_row(
      w, static_cast<std::size_t>(row),
      [&](std::size_t i, const Block& b, float factor) {
        for (std::size_t j = 0; j < block; ++j) out[i + j] = b[j] * factor;
      },
      [&](std::size_t i, float v) { out[i] = v; });
}

}  // namespace fr::ncnn_backend
