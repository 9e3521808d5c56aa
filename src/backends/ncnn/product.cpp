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

// Sums in a fixed order, whatever the number of threads.
struct Sums {
  std::array<float, 16> lanes{};
  void add(const Block& w, const float* x, float factor) {
    for (std::size_t j = 0; j < 16; ++j) lanes[j] += (w[j] * x[j] + w[j + 16] * x[j + 16]) * factor;
  }
  float total() const {
    float sum = 0;
    for (std::size_t j = 0; j < 4; ++j) sum += (lanes[j] + lanes[j + 4]) + (lanes[j + 8] + lanes[j + 12]);
    return sum;
  }
};

float bias_of(const Matrix& w, std::size_t row) { return w.bias != nullptr ? read_float(w.bias, row) : 0.0f; }

void multiply_row(const Matrix& w, std::size_t row, const float* x, float* y) {
  Sums sums;
  float rest = bias_of(w, row);
  for_row(
      w, row, [&](std::size_t i, const Block& b, float factor) { sums.add(b, x + i, factor); },
      [&](std::size_t i, float v) { rest += v * x[i]; });
  y[row] = sums.total() + rest;
}

// Several rows of x: W's row is widened once.
void multiply_rows(const Matrix& w, std::size_t row, const float* x, std::size_t rows, float* y,
                   std::vector<float>& wide) {
  const auto in = static_cast<std::size_t>(w.in), out = static_cast<std::size_t>(w.out);
  const std::size_t whole = in - in % block;
  wide.resize(in);
  read_row(w, static_cast<int>(row), wide);
  for (std::size_t t = 0; t < rows; ++t, x += in, y += out) {
    Sums sums;
    for (std::size_t i = 0; i < whole; i += block) {
      for (std::size_t j = 0; j < 16; ++j)
        sums.lanes[j] += wide[i + j] * x[i + j] + wide[i + j + 16] * x[i + j + 16];
    }
    float rest = bias_of(w, row);
    for (std::size_t i = whole; i < in; ++i) rest += wide[i] * x[i];
    y[row] = sums.total() + rest;
  }
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
