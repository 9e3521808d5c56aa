// Numbers to blocks. q8_0 and q4_0 are ggml's arithmetic (a tie may fall the other way); the search for the scales of q4_k is
// our own. Written over 4 lanes of the compilers' vector extension, which any processor has.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#ifdef __SSE2__
#include <xmmintrin.h>
#endif

#include "base/quant.h"
#include "base/result.h"

namespace fr {
namespace {

constexpr int lanes = 4, group = 32;  // numbers that share a scale
typedef float Floats __attribute__((vector_size(16)));
typedef std::int32_t Ints __attribute__((vector_size(16)));

struct Vectors {
  Floats v[group / lanes];
};
Vectors load(const float* x) {
  Vectors out;
  std::memcpy(&out, x, sizeof out);
  return out;
}
Floats set1(float x) { return Floats{x, x, x, x}; }
#ifdef __SSE2__  // one instruction, which the compilers do not find
Floats least(Floats a, Floats b) { return _mm_min_ps(a, b); }
Floats most(Floats a, Floats b) { return _mm_max_ps(a, b); }
#else
Floats least(Floats a, Floats b) { return a < b ? a : b; }
Floats most(Floats a, Floats b) { return a > b ? a : b; }
#endif
float sum(Floats a) { return (a[0] + a[2]) + (a[1] + a[3]); }
// To the nearest, halves to even, for |a| < 2^22.
Floats rounded(Floats a) { return (a + 0x1.8p23f) - 0x1.8p23f; }

// Not finite if one of the numbers is not (a NaN or infinity stays one when multiplied by zero).
float finite_check(const Vectors& x) {
  Floats total = set1(0);
  for (const Floats& v : x.v) total += v * 0.0f;
  return sum(total);
}
struct Range {
  float low, high;
};
Range range_of(const Vectors& x) {
  Floats low = x.v[0], high = x.v[0];
  for (const Floats& v : x.v) {
    low = least(low, v);
    high = most(high, v);
  }
  return {std::min(std::min(low[0], low[1]), std::min(low[2], low[3])),
          std::max(std::max(high[0], high[1]), std::max(high[2], high[3]))};
}

// 1 / x, or 0 where that is not finite.
float inverse_of(float x) { return std::fabs(x) > 1e-37f ? 1.0f / x : 0.0f; }
// As a half; false if that is not finite.
bool put_half(float x, std::uint8_t* to) {
  const std::uint16_t h = float_to_half(x);
  std::memcpy(to, &h, sizeof h);
  return (h & 0x7c00u) != 0x7c00u;
}

bool q8_0(const float* x, std::uint8_t* b) {
  const Vectors v = load(x);
  const Range r = range_of(v);
  const float top = std::max(-r.low, r.high), d = top / 127.0f, inverse = inverse_of(d);
  if (finite_check(v) != 0) return false;
  for (int i = 0; i < group; ++i) {
    const float scaled = x[i] * inverse;
    b[2 + i] = static_cast<std::uint8_t>(static_cast<std::int32_t>(scaled + std::copysign(0.5f, scaled)));
  }
  return put_half(d, b);
}

// The number of largest magnitude, the first of equals, becomes code 0, that is -8.
bool q4_0(const float* x, std::uint8_t* b) {
  if (finite_check(load(x)) != 0) return false;
  float top = 0;
  for (int i = 0; i < group; ++i) top = std::fabs(x[i]) > std::fabs(top) ? x[i] : top;
  const float d = top / -8.0f, inverse = inverse_of(d);
  const auto code = [&](float value) {
    const double scaled = double{value} * double{inverse} + 8.5;
    return static_cast<std::uint32_t>(scaled < 15.5 ? scaled : 15.5);
  };
  for (int i = 0; i < group / 2; ++i)
    b[2 + i] = static_cast<std::uint8_t>(code(x[i]) | code(x[i + group / 2]) << 4);
  return put_half(d, b);
}

// q4_k stores x as scale * code - min, codes 0 to 15, scale and min not negative.
struct Grid {
  float scale = 0, min = 0;
};
struct Fit {
  Grid grid;  // the best one for these codes
  float error;
};

Floats codes_of(Floats x, Floats min, Floats inverse) {
  return least(most(rounded((x + min) * inverse), set1(0)), set1(15));
}

// Codes on a grid, then the grid that is best for these codes (least squares over 32 numbers) and its error.
Fit refit(const Vectors& x, Grid grid) {
  const Floats min = set1(grid.min), inverse = set1(inverse_of(grid.scale));
  Floats q1 = set1(0), q2 = q1, xq = q1, x1 = q1, x2 = q1;
  for (const Floats& v : x.v) {
    const Floats q = codes_of(v, min, inverse);
    q1 += q;
    q2 += q * q;
    xq += v * q;
    x1 += v;
    x2 += v * v;
  }
  const float n = group, sq = sum(q1), sqq = sum(q2), sxq = sum(xq), sx = sum(x1), sxx = sum(x2);
  const float determinant = n * sqq - sq * sq;
  Fit fit{{}, sxx};
  if (determinant > 0) fit.grid = {(n * sxq - sx * sq) / determinant, (sq * sxq - sqq * sx) / determinant};
  if (determinant <= 0 && sx < 0) {  // one code for all
    fit.grid = {0.0f, -sx / n};
  } else if (determinant <= 0 || fit.grid.min < 0 || fit.grid.scale < 0) {
    fit.grid = {sqq > 0 ? std::max(sxq / sqq, 0.0f) : 0.0f, 0.0f};
  }
  const float s = fit.grid.scale, m = fit.grid.min;
  fit.error = sxx + s * s * sqq + n * m * m - 2 * s * sxq + 2 * m * sx - 2 * s * m * sq;
  return fit;
}

// Squared error of the nearest codes on a grid.
float error_on(const Vectors& x, Grid grid) {
  const Floats min = set1(grid.min), scale = set1(grid.scale), inverse = set1(inverse_of(grid.scale));
  Floats total = set1(0);
  for (const Floats& v : x.v) {
    const Floats e = scale * codes_of(v, min, inverse) - min - v;
    total += e * e;
  }
  return sum(total);
}

// The best grid for 32 numbers: from their range, shrunk by various amounts at both ends, alternate between
// codes and grid.
Grid best_grid(const Vectors& x) {
  const Range range = range_of(x);
  const float low = std::min(range.low, 0.0f), high = std::max(range.high, 0.0f);
  Grid best{(high - low) / 15, -low};
  float least_error = std::numeric_limits<float>::infinity();
  for (const float keep : {1.0f, 0.92f, 0.84f, 0.76f}) {
    Grid grid{(high - low) * keep / 15, std::max(0.0f, -low - (high - low) * (1 - keep) / 2)};
    for (int round = 0; round < 2; ++round) {
      const Fit fit = refit(x, grid);
      if (fit.error < least_error) {
        least_error = fit.error;
        best = fit.grid;
      }
      grid = fit.grid;
    }
  }
  return best;
}

// Eight groups, whose scales and mins are multiples, 0 to 63, of two common steps.
struct SuperBlock {
  Vectors x[8];
  float d = 0, dmin = 0;  // as halves hold them
  int scale[8] = {}, min[8] = {};

  Grid grid(int s, int m) const { return {d * static_cast<float>(s), dmin * static_cast<float>(m)}; }
  bool set_steps(float wanted_d, float wanted_dmin) {
    std::uint8_t bytes[2];
    const bool fits = put_half(wanted_d, bytes) && put_half(wanted_dmin, bytes);
    d = half_to_float(float_to_half(wanted_d));
    dmin = half_to_float(float_to_half(wanted_dmin));
    return fits;
  }
  void choose_multiples(int j, Grid wanted);
  void best_steps(float& best_d, float& best_dmin) const;
};

int multiple(float wanted, float step) {
  return step > 0 ? static_cast<int>(std::min(wanted / step + 0.5f, 63.0f)) : 0;
}

// The multiples next to what is wanted: the pair with the least error, since a scale that was rounded down
// wants another min.
void SuperBlock::choose_multiples(int j, Grid wanted) {
  const int s0 = multiple(wanted.scale, d), m0 = multiple(wanted.min, dmin);
  float least_error = std::numeric_limits<float>::infinity();
  for (int s = std::max(s0 - 1, 0); s <= std::min(s0 + 1, 63); ++s) {
    for (int m = std::max(m0 - 1, 0); m <= std::min(m0 + 1, 63); ++m) {
      const float error = error_on(x[j], grid(s, m));
      if (error < least_error) {
        least_error = error;
        scale[j] = s;
        min[j] = m;
      }
    }
  }
}

// Least squares for the two steps over all 256 numbers, codes and multiples as they are.
void SuperBlock::best_steps(float& best_d, float& best_dmin) const {
  double aa = 0, ab = 0, bb = 0, ax = 0, bx = 0;  // a = multiple times code, b = minus the min's multiple
  for (int j = 0; j < 8; ++j) {
    const Grid g = grid(scale[j], min[j]);
    const Floats least_value = set1(g.min), inverse = set1(inverse_of(g.scale));
    Floats q1 = set1(0), q2 = q1, xq = q1, x1 = q1;
    for (const Floats& v : x[j].v) {
      const Floats q = codes_of(v, least_value, inverse);
      q1 += q;
      q2 += q * q;
      xq += v * q;
      x1 += v;
    }
    const double s = scale[j], m = min[j];
    aa += s * s * double{sum(q2)};
    ab -= s * m * double{sum(q1)};
    bb += m * m * group;
    ax += s * double{sum(xq)};
    bx -= m * double{sum(x1)};
  }
  const double determinant = aa * bb - ab * ab;
  if (determinant > 1e-9 * aa * bb) {
    best_d = static_cast<float>((ax * bb - bx * ab) / determinant);
    best_dmin = static_cast<float>((bx * aa - ax * ab) / determinant);
  } else if (aa > 0) {
    best_d = static_cast<float>(ax / aa);
  }
}

void write_q4_k(const SuperBlock& s, std::uint8_t* b) {
  put_half(s.d, b);
  put_half(s.dmin, b + 2);
  for (int j = 0; j < 4; ++j) {  // 6 bits each: the upper two of groups 4 to 7 lie above those of 0 to 3
    b[4 + j] = static_cast<std::uint8_t>(s.scale[j] | s.scale[j + 4] >> 4 << 6);
    b[8 + j] = static_cast<std::uint8_t>(s.min[j] | s.min[j + 4] >> 4 << 6);
    b[12 + j] = static_cast<std::uint8_t>((s.scale[j + 4] & 15) | (s.min[j + 4] & 15) << 4);
  }
  std::uint8_t codes[8][group];
  for (int j = 0; j < 8; ++j) {
    const Grid g = s.grid(s.scale[j], s.min[j]);
    const Floats min = set1(g.min), inverse = set1(inverse_of(g.scale));
    for (int i = 0; i < group; ++i)
      codes[j][i] = static_cast<std::uint8_t>(codes_of(s.x[j].v[i / lanes], min, inverse)[i % lanes]);
  }
  for (int j = 0; j < 8; j += 2) {
    for (int i = 0; i < group; ++i)
      b[16 + j / 2 * group + i] = static_cast<std::uint8_t>(codes[j][i] | codes[j + 1][i] << 4);
  }
}

bool q4_k(const float* x, std::uint8_t* b) {
  SuperBlock s;
  Grid wanted[8];
  float top_scale = 0, top_min = 0, check = 0;
  for (int j = 0; j < 8; ++j) {
    s.x[j] = load(x + j * group);
    check += finite_check(s.x[j]);
    wanted[j] = best_grid(s.x[j]);
    top_scale = std::max(top_scale, wanted[j].scale);
    top_min = std::max(top_min, wanted[j].min);
  }
  if (check != 0 || !s.set_steps(top_scale / 63, top_min / 63)) return false;
  for (int j = 0; j < 8; ++j) {
    s.scale[j] = multiple(wanted[j].scale, s.d);
    s.min[j] = multiple(wanted[j].min, s.dmin);
  }
  float d = s.d, dmin = s.dmin;
  s.best_steps(d, dmin);
  if (d > 0 && dmin >= 0) s.set_steps(d, dmin);
  for (int j = 0; j < 8; ++j) s.choose_multiples(j, wanted[j]);
  write_q4_k(s, b);
  return true;
}

}  // namespace

bool quantise(DType type, std::span<const float> values, std::byte* blocks) {
  FR_CHECK(can_quantise(type) && values.size() % static_cast<std::size_t>(block_size(type)) == 0);
  const auto write = type == DType::q8_0 ? q8_0 : type == DType::q4_0 ? q4_0 : q4_k;
  auto* b = reinterpret_cast<std::uint8_t*>(blocks);
  bool held = true;
  for (std::size_t i = 0; i < values.size(); i += static_cast<std::size_t>(block_size(type))) {
    held = write(values.data() + i, b) && held;
    b += dtype_size(type);
  }
  return held;
}

}  // namespace fr
