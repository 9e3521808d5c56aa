// exp and log: accuracy against the C library in long double, and the exact bits that every build must give.
#include "base/portable_math.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "base/random.h"

namespace fr {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

// Distance of a result from the true value, in units of the last place of the result.
double ulps(double value, long double exact) {
  const double magnitude = std::fabs(value);
  const double ulp = std::nextafter(magnitude, infinity) - magnitude;
  return static_cast<double>(
      std::fabs((static_cast<long double>(value) - exact) / static_cast<long double>(ulp)));
}

TEST(PortableMath, ExpIsWithinOneUlp) {
  double worst = 0;
  for (std::uint64_t i = 0; i < 50000; ++i) {
    const double range = i % 2 ? 1.0 : 708.0;
    const double x = (random_uniform(1, i) * 2 - 1) * range;
    worst = std::max(worst, ulps(portable_exp(x), std::exp(static_cast<long double>(x))));
  }
  EXPECT_LE(worst, 1.0);
  EXPECT_EQ(portable_exp(0.0), 1.0);
}

TEST(PortableMath, ExpAtItsLimits) {
  EXPECT_GE(portable_exp(-708.0), std::numeric_limits<double>::min());
  for (const double x : {-708.0000001, -1e9, -infinity}) EXPECT_EQ(portable_exp(x), 0.0) << x;
  EXPECT_LT(portable_exp(709.0), infinity);
  for (const double x : {709.0000001, 1e9, infinity}) EXPECT_EQ(portable_exp(x), infinity) << x;
  EXPECT_TRUE(std::isnan(portable_exp(std::nan(""))));
}

TEST(PortableMath, LogIsWithinOneUlp) {
  double worst = 0;
  for (std::uint64_t i = 0; i < 50000; ++i) {
    double x = 0.5 + random_uniform(2, i) * 1.5;  // around 1, where cancellation would show
    if (i % 2) x = std::ldexp(x, static_cast<int>(random_bits(3, i) % 2000) - 1000);
    worst = std::max(worst, ulps(portable_log(x), std::log(static_cast<long double>(x))));
  }
  EXPECT_LE(worst, 1.0);
  EXPECT_EQ(portable_log(1.0), 0.0);
}

TEST(PortableMath, LogAtItsLimits) {
  EXPECT_EQ(portable_log(0.0), -infinity);
  EXPECT_EQ(portable_log(infinity), infinity);
  EXPECT_TRUE(std::isnan(portable_log(-1.0)));
  EXPECT_TRUE(std::isnan(portable_log(std::nan(""))));
  EXPECT_LE(ulps(portable_log(std::numeric_limits<double>::max()), 709.782712893383973096206318587L), 1.0);
  EXPECT_LE(ulps(portable_log(std::numeric_limits<double>::min()), -708.396418532264106216811584991L), 1.0);
}

TEST(PortableMath, ArraysEqualSingleValues) {
  for (const std::size_t size : {1u, 7u, 8u, 9u, 67u}) {
    std::vector<float> values;
    for (std::size_t i = 0; i < size; ++i)
      values.push_back(static_cast<float>(random_uniform(4, i) * 30 - 30));
    values[size / 2] = -std::numeric_limits<float>::infinity();
    for (const double temperature : {1.0, 0.7}) {
      std::vector<double> out(size);
      exp_each(values, 0.5f, temperature, out);
      double sum = 0;
      for (std::size_t i = 0; i < size; ++i) {
        EXPECT_EQ(out[i], portable_exp((static_cast<double>(values[i]) - 0.5) / temperature));
        sum += out[i];
      }
      EXPECT_NEAR(ordered_sum(out), sum, 1e-15 * sum);
    }
  }
}

// A digest of 20,000 results; another value means that this build rounds differently.
TEST(PortableMath, BitsAreTheSameEverywhere) {
  std::uint64_t digest = 0;
  for (std::uint64_t i = 0; i < 10000; ++i) {
    const double x = (random_uniform(5, i) - 0.9) * 700;
    digest = mix64(digest ^ std::bit_cast<std::uint64_t>(portable_exp(x)));
    digest = mix64(digest ^ std::bit_cast<std::uint64_t>(portable_log(random_uniform(6, i) * 1e3 + 1e-3)));
  }
  EXPECT_EQ(digest, 14852234609559729777u);
}

TEST(Random, FirstValuesArePinned) {
  // mix64 is the output function of SplitMix64: its published first output for seed 0.
  EXPECT_EQ(mix64(0x9e3779b97f4a7c15u), 0xe220a8397b1dcdafu);
  EXPECT_EQ(random_bits(0, 0), 0xe220a8397b1dcdafu);
  EXPECT_EQ(random_bits(1, 0), 13830413928045401970u);
  EXPECT_EQ(random_bits(0xffffffffffffffffu, 1000000), 3987233777056771155u);
  EXPECT_EQ(random_uniform(1, 0), static_cast<double>(13830413928045401970u >> 11) / 9007199254740992.0);
}

TEST(Random, IsUniformOverStepsAndOverSeeds) {
  // chi-square over 64 bins, 63 degrees of freedom: 99.9 % lie below 103.4
  for (const bool over_seeds : {false, true}) {
    const int draws = 100000, bins = 64;
    std::vector<int> counts(bins);
    for (std::uint64_t i = 0; i < draws; ++i) {
      const double u = over_seeds ? random_uniform(i, 0) : random_uniform(7, i);
      ASSERT_TRUE(u >= 0 && u < 1);
      ++counts[static_cast<std::size_t>(u * bins)];
    }
    double chi2 = 0;
    for (const int c : counts) chi2 += std::pow(c - draws / double{bins}, 2) / (draws / double{bins});
    EXPECT_LT(chi2, 103.4) << over_seeds;
    EXPECT_GT(chi2, 33.0) << over_seeds;  // and not too even
  }
}

}  // namespace
}  // namespace fr
