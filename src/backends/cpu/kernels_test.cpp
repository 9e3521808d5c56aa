// Every kernel table that this machine runs, and the emulated ones: elementary functions against double
// precision.
#include "backends/cpu/kernels.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "backends/cpu/test_sample.h"

namespace fr::cpu {
namespace {

class KernelsTest : public testing::TestWithParam<const Kernels*> {
 protected:
  const Kernels& simd() const { return *GetParam(); }
};
INSTANTIATE_TEST_SUITE_P(, KernelsTest, testing::ValuesIn(tested_kernels()), kernels_name);

// Distance from the exact value in units in the last place of the float nearest to it (subnormal units
// included).
double ulps(float got, double exact) {
  if (std::isnan(exact)) return std::isnan(got) ? 0 : INFINITY;
  const float nearest = static_cast<float>(exact);
  if (std::isinf(nearest) || std::isinf(got)) return got == nearest ? 0 : INFINITY;
  const float magnitude = std::abs(nearest);
  const double unit = double{std::nextafter(magnitude, INFINITY)} - double{magnitude};
  return std::abs(double{got} - exact) / unit;
}

std::vector<float> arguments(float limit) {
  std::vector<float> x{0.0f,  -0.0f,    1e-45f,    -1e-45f, 1e-38f, -1e-38f,
                       1e-6f, INFINITY, -INFINITY, NAN,     1e30f,  -1e30f};
  std::mt19937 random(1);
  std::uniform_real_distribution<float> flat(-limit, limit), exponent(-40, 5);
  for (int i = 0; i < 20000; ++i) x.push_back(flat(random));
  for (int i = 0; i < 4000; ++i) x.push_back((i % 2 == 0 ? 1.0f : -1.0f) * std::exp2(exponent(random)));
  for (int i = -4000; i <= 4000; ++i) x.push_back(limit * static_cast<float>(i) / 4000);
  return x;
}

double worst(const Kernels& simd, Epilogue act, float limit, double (*exact)(double)) {
  const std::vector<float> x = arguments(limit);
  std::vector<float> y(x.size());
  simd.activate(act, x.data(), y.data(), static_cast<int>(x.size()));
  double most = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double error = ulps(y[i], exact(double{x[i]}));
    if (error > most) most = error;
    EXPECT_LE(error, 4) << "at " << x[i] << ": " << y[i] << " for " << exact(double{x[i]});
    if (error > 4) break;
  }
  return most;
}

TEST_P(KernelsTest, ExpIsWithinTwoUlps) {
  EXPECT_LE(worst(simd(), Epilogue::exp, 120, [](double x) { return std::exp(x); }), 2);
}
TEST_P(KernelsTest, SigmoidAndTanhAreAccurate) {
  EXPECT_LE(worst(simd(), Epilogue::sigmoid, 120, &exact_sigmoid), 3);
  EXPECT_LE(worst(simd(), Epilogue::tanh, 12, [](double x) { return std::tanh(x); }), 3);
}

TEST_P(KernelsTest, OtherActivations) {
  const auto absolute = [&](Epilogue act, double (*exact)(double)) {
    double most = 0;
    std::vector<float> x, y;
    for (int i = -3000; i <= 3000; ++i) x.push_back(static_cast<float>(i) / 100);
    y.resize(x.size());
    simd().activate(act, x.data(), y.data(), static_cast<int>(x.size()));
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double e = exact(double{x[i]});
      most = std::max(most, std::abs(double{y[i]} - e) / std::max(1.0, std::abs(e)));
    }
    return most;
  };
  EXPECT_EQ(absolute(Epilogue::none, [](double x) { return x; }), 0);
  EXPECT_LE(absolute(Epilogue::silu, [](double x) { return x * exact_sigmoid(x); }), 3e-7);
  EXPECT_LE(absolute(Epilogue::relu2, [](double x) { return x > 0 ? x * x : 0; }), 1e-7);
  EXPECT_LE(absolute(Epilogue::decay6, [](double x) { return std::exp(-std::exp(x)); }), 3e-7);
  EXPECT_LE(
      absolute(Epilogue::decay7, [](double x) { return std::exp(-double{0.606531f} * exact_sigmoid(x)); }),
      3e-7);
}

// A shorter call gives the same bits: the tail of a row is not computed otherwise.
TEST_P(KernelsTest, TailsHaveTheSameBits) {
  const std::vector<float> x = random_floats(67, 2);
  std::vector<float> all(x.size()), part(x.size());
  for (const Epilogue act : {Epilogue::tanh, Epilogue::sigmoid, Epilogue::exp, Epilogue::decay6}) {
    simd().activate(act, x.data(), all.data(), 67);
    for (int n = 0; n < 67; ++n) {
      std::fill(part.begin(), part.end(), -7.0f);
      simd().activate(act, x.data(), part.data(), n);
      EXPECT_TRUE(std::equal(part.begin(), part.begin() + n, all.begin())) << n;
      EXPECT_EQ(part[static_cast<std::size_t>(n)], -7.0f) << "wrote beyond the end";
    }
  }
}

TEST_P(KernelsTest, NonzeroListsWhatIsNot) {
  const float x[] = {0, 1, 0, 0, -0.0f, 1e-45f, 0, 0, 0, NAN, 0, 3};
  int list[12];
  EXPECT_EQ(simd().nonzero(x, 12, list), 4);
  EXPECT_EQ((std::vector<int>{list, list + 4}), (std::vector<int>{1, 5, 9, 11}));
  EXPECT_EQ(simd().nonzero(x, 12, nullptr), 4);
  EXPECT_EQ(simd().nonzero(x, 1, list), 0);
}

}  // namespace
}  // namespace fr::cpu
