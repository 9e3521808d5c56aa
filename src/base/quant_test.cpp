// Block formats: every one against the numbers of the gguf package (testdata made by
// tools/make_quant_fixtures.py), the errors of what is written, and what cannot be written.
#include "base/quant.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace fr {
namespace {

constexpr DType formats[] = {DType::q8_0, DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1,  DType::q2_k,
                             DType::q3_k, DType::q4_k, DType::q5_k, DType::q6_k, DType::iq4_nl};
constexpr DType written[] = {DType::q8_0, DType::q4_0, DType::q4_k};

std::vector<std::byte> blocks_of(DType type, std::span<const float> values) {
  std::vector<std::byte> blocks(values.size() / static_cast<std::size_t>(block_size(type)) *
                                dtype_size(type));
  EXPECT_TRUE(quantise(type, values, blocks.data())) << dtype_name(type);
  return blocks;
}
std::vector<float> values_of(DType type, std::span<const std::byte> blocks) {
  std::vector<float> values(blocks.size() / dtype_size(type) * static_cast<std::size_t>(block_size(type)));
  dequantise(type, blocks.data(), values);
  return values;
}

std::vector<float> normal(std::size_t n, float scale, unsigned seed = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> distribution(0, scale);
  std::vector<float> values(n);
  for (float& v : values) v = distribution(random);
  return values;
}

double relative_error(std::span<const float> values, std::span<const float> stored) {
  double error = 0, all = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double e = double{values[i]} - double{stored[i]};
    error += e * e;
    all += double{values[i]} * double{values[i]};
  }
  return std::sqrt(error / all);
}

class Fixtures {
 public:
  Fixtures() : in_(FR_SOURCE_DIR "/src/base/testdata/quant_blocks.bin", std::ios::binary) {}
  template <class T>
  std::vector<T> take(std::size_t n) {
    std::vector<T> v(n);
    in_.read(reinterpret_cast<char*>(v.data()), static_cast<std::streamsize>(n * sizeof(T)));
    EXPECT_TRUE(in_.good());
    return v;
  }

 private:
  std::ifstream in_;
};

TEST(Quant, NumbersAreThoseOfTheGgufPackage) {
  Fixtures file;
  for (const DType type : formats) {
    const std::size_t n = file.take<std::uint32_t>(1)[0];
    ASSERT_GE(n, 2u);
    ASSERT_LE(n, 4u);
    const auto blocks = file.take<std::byte>(n * dtype_size(type));
    const auto expected = file.take<float>(n * static_cast<std::size_t>(block_size(type)));
    const auto found = values_of(type, blocks);
    for (std::size_t i = 0; i < expected.size(); ++i)
      ASSERT_FLOAT_EQ(found[i], expected[i]) << dtype_name(type) << " " << i;
  }
  const auto values = file.take<float>(64);
  for (const DType type : {DType::q8_0, DType::q4_0})
    EXPECT_EQ(blocks_of(type, values), file.take<std::byte>(2 * dtype_size(type))) << dtype_name(type);
}

// Of normally distributed numbers. ggml's own q4_k search has 0.0713.
TEST(Quant, ErrorsAreSmall) {
  const struct {
    DType type;
    double error;
  } cases[] = {{DType::q8_0, 0.0055}, {DType::q4_0, 0.087}, {DType::q4_k, 0.0713}};
  for (const float scale : {1e-2f, 1.0f, 300.0f}) {
    const auto values = normal(256 * 200, scale);
    for (const auto& c : cases) {
      const double error = relative_error(values, values_of(c.type, blocks_of(c.type, values)));
      EXPECT_LT(error, c.error) << dtype_name(c.type) << " of " << scale;
      EXPECT_GT(error, c.error / 3) << dtype_name(c.type);
    }
  }
}

TEST(Quant, EveryNumberIsWithinHalfAStep) {
  const auto values = normal(256 * 50, 1);
  const auto check = [&](DType type, float steps) {
    const auto stored = values_of(type, blocks_of(type, values));
    for (std::size_t i = 0; i < values.size(); i += 32) {
      float top = 0;
      for (std::size_t j = i; j < i + 32; ++j) top = std::max(top, std::fabs(values[j]));
      for (std::size_t j = i; j < i + 32; ++j)
        ASSERT_LE(std::fabs(values[j] - stored[j]), top * steps) << dtype_name(type) << " " << j;
    }
  };
  check(DType::q8_0, 0.57f / 127);  // the step is rounded to a half
  check(DType::q4_0, 1.01f / 8);    // one side has a code less
  check(DType::q4_k, 0.26f);        // ends of the range may be cut
}

TEST(Quant, WhatTheGridHoldsIsExact) {
  const std::vector<float> zeros(512, 0.0f);
  for (const DType type : written) EXPECT_EQ(values_of(type, blocks_of(type, zeros)), zeros);
  std::vector<float> codes(256);
  for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<float>(i % 16) - 8;
  EXPECT_EQ(values_of(DType::q4_0, blocks_of(DType::q4_0, codes)), codes);
  for (std::size_t i = 0; i < codes.size(); ++i)
    codes[i] = static_cast<float>(static_cast<int>(i * 37 % 255) - 127);
  for (std::size_t i = 0; i < codes.size(); i += 32) codes[i] = 127;
  EXPECT_EQ(values_of(DType::q8_0, blocks_of(DType::q8_0, codes)), codes);
  // A constant, positive or not; one number among zeros.
  for (const float value : {0.37f, -0.37f}) {
    const std::vector<float> same(256, value);
    std::vector<float> one(256, 0.0f);
    one[77] = value;
    for (const DType type : written) {
      EXPECT_LT(relative_error(same, values_of(type, blocks_of(type, same))), 6e-3) << dtype_name(type);
      EXPECT_LT(relative_error(one, values_of(type, blocks_of(type, one))), 6e-3) << dtype_name(type);
    }
  }
}

TEST(Quant, OutliersDoNotSpoilOtherGroups) {
  auto values = normal(256, 0.01f);
  values[40] = 1.0f;  // in the second group of 32
  const auto stored = values_of(DType::q4_k, blocks_of(DType::q4_k, values));
  EXPECT_NEAR(stored[40], 1.0f, 0.02f);
  EXPECT_LT(relative_error(std::span(values).subspan(64), std::span(stored).subspan(64)), 0.35)
      << "their scale has 6 bits of the outlier's";
}

TEST(Quant, WhatCannotBeHeldIsSaid) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  for (const DType type : written) {
    std::vector<std::byte> blocks(1024);
    for (const float bad : {infinity, -infinity, std::nanf(""), 1e38f, -1e38f, 1e10f}) {
      for (const std::size_t at : {std::size_t{0}, std::size_t{31}, std::size_t{200}, std::size_t{511}}) {
        auto values = normal(512, 1);
        values[at] = bad;
        EXPECT_FALSE(quantise(type, values, blocks.data())) << dtype_name(type) << " " << bad << " at " << at;
      }
    }
    const std::vector<float> tiny(256, 1e-42f), large(256, 60000.0f);
    EXPECT_TRUE(quantise(type, tiny, blocks.data())) << dtype_name(type);
    EXPECT_TRUE(quantise(type, large, blocks.data())) << dtype_name(type);
  }
}

}  // namespace
}  // namespace fr
