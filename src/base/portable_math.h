// exp and log in double arithmetic with the same bits on every machine and compiler. They use only + - * /,
// comparisons and bit operations, each of them exactly rounded by IEEE 754 (round to nearest).
// libm differs between systems; a sampler that shall repeat a text must not call it.
#pragma once
#include <span>

namespace fr {

// e^x, within 1 ulp for -708 <= x <= 709. Below it is 0 (never a subnormal, so flush-to-zero modes change
// nothing), above it is +inf; NaN stays NaN.
double portable_exp(double x);

// Natural logarithm, within 1 ulp, for normal positive x. 0 gives -inf, a negative x or NaN gives NaN.
double portable_log(double x);

// out[i] = e^((values[i] - max) / temperature); temperature > 0, max >= every value, sizes are equal.
void exp_each(std::span<const float> values, float max, double temperature, std::span<double> out);

// Sum in a fixed order: element i goes to partial sum i % 8, and these are added in pairs.
double ordered_sum(std::span<const double> values);

}  // namespace fr
