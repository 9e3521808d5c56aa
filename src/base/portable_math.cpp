// Taylor series after range reduction: exp in portable_math-inl.h, and x = 2^k m with s = (m - 1) / (m + 1)
// for log.
#include "base/portable_math.h"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "base/portable_math-inl.h"

namespace fr {
namespace {

constexpr double ln2_high = 0x1.62e42feep-1, ln2_low = 0x1.a39ef35793c76p-33;  // ln 2 as a sum
constexpr double infinity = std::numeric_limits<double>::infinity();

}  // namespace

double portable_exp(double x) {
  if (x > 709.0) return infinity;
  return x == x ? exp_inline(x) : x;
}

double portable_log(double x) {
  if (x == 0.0) return -infinity;
  if (!(x > 0.0)) return std::numeric_limits<double>::quiet_NaN();
  if (x == infinity) return x;
  const auto bits = std::bit_cast<std::uint64_t>(x);
  auto k = static_cast<int>(bits >> 52) - 1023;
  double m = std::bit_cast<double>((bits & 0xfffffffffffffu) | 0x3ff0000000000000u);  // [1, 2)
  if (m > 1.4142135623730951) {
    m *= 0.5;
    k += 1;
  }
  // ln m = 2 atanh(s) = 2 s (1 + z/3 + z^2/5 + ...), |s| <= 0.1716
  const double f = m - 1.0, s = f / (m + 1.0), z = s * s;
  double p = 1.0 / 23.0;
  p = p * z + 1.0 / 21.0;
  p = p * z + 1.0 / 19.0;
  p = p * z + 1.0 / 17.0;
  p = p * z + 1.0 / 15.0;
  p = p * z + 1.0 / 13.0;
  p = p * z + 1.0 / 11.0;
  p = p * z + 1.0 / 9.0;
  p = p * z + 1.0 / 7.0;
  p = p * z + 1.0 / 5.0;
  p = p * z + 1.0 / 3.0;
  // 2 s = f - s f, and f is exact: only the small rest is rounded.
  return k * ln2_high + (f - (s * (f - 2.0 * z * p) - k * ln2_low));
}

void exp_each(std::span<const float> values, float max, double temperature, std::span<double> out) {
  const double top = max;
  if (temperature == 1.0) {  // x / 1 = x: the same bits, without the division
    for (std::size_t i = 0; i < values.size(); ++i) out[i] = exp_inline(static_cast<double>(values[i]) - top);
  } else {
    for (std::size_t i = 0; i < values.size(); ++i)
      out[i] = exp_inline((static_cast<double>(values[i]) - top) / temperature);
  }
}

double ordered_sum(std::span<const double> values) {
  constexpr std::size_t lanes = 8;
  double sums[lanes] = {};
  std::size_t i = 0;
  for (; i + lanes <= values.size(); i += lanes)
    for (std::size_t lane = 0; lane < lanes; ++lane) sums[lane] += values[i + lane];
  for (; i < values.size(); ++i) sums[i % lanes] += values[i];
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

}  // namespace fr
