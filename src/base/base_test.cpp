#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "base/checkpoint.h"
#include "base/dtype.h"

namespace fr {
namespace {

TEST(DType, EveryHalfSurvivesTheRoundTrip) {
  for (std::uint32_t h = 0; h < 0x10000; ++h) {
    const float f = half_to_float(static_cast<std::uint16_t>(h));
    if (std::isnan(f)) {
      EXPECT_TRUE(std::isnan(half_to_float(float_to_half(f))));
    } else {
      ASSERT_EQ(float_to_half(f), h) << f;
    }
  }
}

TEST(DType, HalfRoundsToNearestEven) {
  EXPECT_EQ(float_to_half(1.0f + 0x1p-11f), 0x3c00);      // tie, down to even
  EXPECT_EQ(float_to_half(1.0f + 3 * 0x1p-11f), 0x3c02);  // tie, up to even
  EXPECT_EQ(float_to_half(0x1p-25f), 0);                  // tie at half of the smallest subnormal
  EXPECT_EQ(float_to_half(std::nextafter(0x1p-25f, 1.0f)), 1);
  EXPECT_EQ(float_to_half(65519.0f), 0x7bff);
  EXPECT_EQ(float_to_half(65520.0f), 0x7c00);
}

TEST(DType, BfloatRoundsToNearestEven) {
  EXPECT_EQ(float_to_bf16(1.0f + 0x1p-8f), 0x3f80);
  EXPECT_EQ(float_to_bf16(1.0f + 3 * 0x1p-8f), 0x3f82);
  EXPECT_TRUE(std::isnan(bf16_to_float(float_to_bf16(std::numeric_limits<float>::quiet_NaN()))));
}

TEST(TensorView, ReadsStridedElementsInRowMajorOrder) {
  const float stored[6] = {0, 1, 2, 3, 4, 5};
  TensorView t{
      "t", DType::f32, {3, 2}, {1, 3}, reinterpret_cast<const std::byte*>(stored)};  // a transposed [2, 3]
  float out[6];
  t.read(0, out);
  const float expected[6] = {0, 3, 1, 4, 2, 5};
  EXPECT_EQ(std::memcmp(out, expected, sizeof out), 0);
  float tail[3];
  t.read(3, tail);
  EXPECT_EQ(tail[0], 4);
  EXPECT_FALSE(t.contiguous());
  EXPECT_EQ(t.bytes().size(), sizeof stored);
}

}  // namespace
}  // namespace fr
