// Block formats: every one against the numbers of the gguf package (testdata made by
// tools/make_quant_fixtures.py), the errors of what is written, and what cannot be written.
#include "base/quant.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "base/cpu_info.h"
#include "base/row_kernels.h"

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

// Every instruction set gives the same bytes: of all kinds of groups, also those that a search treats apart.
TEST(Quant, EveryProcessorWritesTheSameBytes) {
  if (!cpu_features().avx2) GTEST_SKIP() << "SKIPPED: this processor has one instruction set only";
#if defined(__x86_64__)
  auto values = normal(256 * 64, 0.02f);
  for (std::size_t i = 0; i < 1024; ++i) values[i] = std::fabs(values[i]);               // no min
  for (std::size_t i = 1024; i < 2048; ++i) values[i] = -1 - std::fabs(values[i]);       // far from zero
  for (std::size_t i = 2048; i < 3072; ++i) values[i] = i % 32 == 5 ? values[i] : 0.0f;  // one number
  for (std::size_t i = 3072; i < 4096; ++i) values[i] = i % 256 < 32 ? values[i] * 1e4f : 1e-42f;
  for (std::size_t i = 4096; i < 5120; ++i) values[i] = i < 4608 ? 0.0f : 0.37f;
  const auto bytes = [&](DType type, auto* write) {
    std::vector<std::uint8_t> blocks;
    for (std::size_t i = 0; i < values.size(); i += static_cast<std::size_t>(block_size(type))) {
      std::uint8_t block[144];
      EXPECT_TRUE(write(&values[i], block));
      blocks.insert(blocks.end(), block, block + dtype_size(type));
    }
    return blocks;
  };
  const RowKernels &a = row_kernels_generic, &b = row_kernels_avx2;
  EXPECT_EQ(bytes(DType::q8_0, a.q8_0), bytes(DType::q8_0, b.q8_0));
  EXPECT_EQ(bytes(DType::q4_0, a.q4_0), bytes(DType::q4_0, b.q4_0));
  EXPECT_EQ(bytes(DType::q4_k, a.q4_k), bytes(DType::q4_k, b.q4_k));
#endif
}

// A change of the search would make files that were converted earlier differ from what loading gives.
TEST(Quant, TheSearchGivesTheseBytes) {
  std::vector<float> values(256 * 16);
  std::uint32_t state = 1;
  for (float& v : values) {  // sums of four uniform numbers: exact, so the same for every library
    v = -2;
    for (int i = 0; i < 4; ++i)
      v += static_cast<float>((state = state * 1664525u + 1013904223u) >> 20) * 0x1p-12f;
  }
  std::uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
  for (const std::byte b : blocks_of(DType::q4_k, values))
    hash = (hash ^ static_cast<std::uint64_t>(b)) * 0x100000001b3u;
  EXPECT_EQ(hash, 9643963801984688032u);
}

// Row kernels against dtype.h, for every 16-bit number and rows of any length.
class Rows : public testing::TestWithParam<const RowKernels*> {};

TEST_P(Rows, AreWhatDtypeSays) {
  const RowKernels& k = *GetParam();
  std::vector<std::uint16_t> bits(65536), back(bits.size());
  std::iota(bits.begin(), bits.end(), std::uint16_t{0});
  std::vector<float> numbers(bits.size());
  const auto check = [&](auto read, auto write, auto* one, auto* one_back, std::uint16_t infinity) {
    read(bits.data(), bits.size(), numbers.data());
    for (std::size_t i = 0; i < bits.size(); ++i)
      ASSERT_EQ(std::bit_cast<std::uint32_t>(numbers[i]), std::bit_cast<std::uint32_t>(one(bits[i]))) << i;
    EXPECT_FALSE(write(numbers.data(), numbers.size(), back.data()));
    for (std::size_t i = 0; i < bits.size(); ++i) {
      if (std::isnan(numbers[i])) continue;
      ASSERT_EQ(back[i], bits[i]);
    }
    // Between the numbers: above, at and below every tie.
    for (const int step : {-1, 0, 1}) {
      for (std::uint32_t i = 0; i < bits.size(); ++i) {
        const float tie = infinity == 0x7f80 ? std::bit_cast<float>(i << 16 | 0x8000u)
                                             : (one(bits[i]) + one(static_cast<std::uint16_t>(i + 1))) / 2;
        numbers[i] = step == 0 ? tie : std::nextafter(tie, static_cast<float>(step) * 1e38f);
        if (!std::isfinite(numbers[i])) numbers[i] = 1;
      }
      write(numbers.data(), numbers.size(), back.data());
      for (std::size_t i = 0; i < bits.size(); ++i) ASSERT_EQ(back[i], one_back(numbers[i])) << numbers[i];
    }
  };
  check(k.from_half, k.to_half, half_to_float, float_to_half, 0x7c00);
  check(k.from_bf16, k.to_bf16, bf16_to_float, float_to_bf16, 0x7f80);
}

TEST_P(Rows, MayHaveAnyLength) {
  const RowKernels& k = *GetParam();
  const auto values = normal(40, 1);
  for (std::size_t n = 0; n <= values.size(); ++n) {
    std::vector<std::uint16_t> bits(n + 1, 7);
    std::vector<float> read(n + 1, 7);
    EXPECT_TRUE(k.to_half(values.data(), n, bits.data()));
    k.from_half(bits.data(), n, read.data());
    EXPECT_EQ(bits[n], 7);
    EXPECT_EQ(read[n], 7);
    for (std::size_t i = 0; i < n; ++i) ASSERT_EQ(read[i], half_to_float(float_to_half(values[i])));
    if (n == 0) continue;
    read[n - 1] = 70000;
    EXPECT_FALSE(k.to_half(read.data(), n, bits.data()));
    EXPECT_TRUE(k.to_bf16(read.data(), n, bits.data()));
    read[n - 1] = std::nanf("");
    EXPECT_FALSE(k.to_half(read.data(), n, bits.data()));
    EXPECT_FALSE(k.to_bf16(read.data(), n, bits.data()));
  }
}

std::vector<const RowKernels*> supported() {
#if defined(__x86_64__)
  if (cpu_features().avx2) return {&row_kernels_generic, &row_kernels_avx2};
#endif
  return {&row_kernels_generic};
}
INSTANTIATE_TEST_SUITE_P(All, Rows, testing::ValuesIn(supported()));

}  // namespace
}  // namespace fr
