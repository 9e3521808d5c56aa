#include "tools_core/machine_limits.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/cpu_info.h"
#include "tools_core/arithmetic.h"

namespace fr {
namespace {

constexpr LimitEffort quick{std::size_t{8} << 20, 0.005};

TEST(Arithmetic, LoopsDoAllTheirProducts) {
  bool fp32 = false;
  for (const ArithmeticLoop& loop : arithmetic_loops()) {
    SCOPED_TRACE(std::string(loop.numbers) + " " + std::string(loop.instructions));
    const float two = loop.run(2), ten = loop.run(10);
    if (loop.numbers == "fp32") {  // sums of x = 1 - 2^-(rounds + 1)
      fp32 = true;
      EXPECT_NEAR(two / ten, (1 - std::exp2(-3.0)) / (1 - std::exp2(-11.0)), 1e-5);
      EXPECT_GT(ten, 1);
    } else {
      EXPECT_GT(two, 0);
      EXPECT_EQ(ten, 5 * two);  // ones, added up
    }
    if (loop.instructions == "amx") {
      EXPECT_EQ(two, loop.numbers == "bf16" ? 2 * 32 : 2 * 64);
    }
    EXPECT_GT(loop.operations, 0);
  }
  EXPECT_TRUE(fp32);
}

TEST(Arithmetic, LoopsAreThoseOfTheProcessor) {
  const auto has = [](std::string_view numbers, std::string_view instructions) {
    for (const ArithmeticLoop& l : arithmetic_loops())
      if (l.numbers == numbers && l.instructions == instructions) return true;
    return false;
  };
  EXPECT_EQ(has("fp32", "avx2"), cpu_features().avx2);
  EXPECT_EQ(has("fp32", "avx512"), cpu_features().avx512);
  EXPECT_EQ(has("int8", "avx512_vnni"), cpu_features().avx512_vnni);
  EXPECT_EQ(has("bf16", "avx512_bf16"), cpu_features().fast_bf16);
  EXPECT_EQ(has("bf16", "amx"), request_amx());
}

TEST(MachineLimits, AreThoseOfAMachine) {
  for (const int threads : {1, 3}) {
    auto limits = measure_limits(threads, quick);
    ASSERT_TRUE(limits.ok()) << limits.error().message;
    EXPECT_EQ(limits->threads, threads);
    EXPECT_GT(limits->read, 1e8);
    EXPECT_LT(limits->read, 1e14);
    EXPECT_FALSE(limits->read_how.empty());
    ASSERT_EQ(limits->peaks.size(), arithmetic_loops().size());
    for (const Peak& p : limits->peaks) {
      EXPECT_GT(p.per_second, 1e7) << p.numbers << " " << p.instructions;
      EXPECT_LT(p.per_second, 1e16) << p.numbers << " " << p.instructions;
    }
    const double before = limits->read;
    ASSERT_TRUE(measure_again(*limits, quick).ok());
    EXPECT_GE(limits->read, before);
  }
}

MachineLimits sapphire() {
  return {2,
          30e9,
          "4 streams",
          {{"fp32", "avx2", 100e9},
           {"int8", "avx2", 400e9},
           {"fp32", "avx512", 200e9},
           {"int8", "avx512_vnni", 800e9},
           {"bf16", "amx", 2e12},
           {"int8", "amx", 4e12}}};
}

std::string peak_name(std::string_view dtype, const MachineLimits& limits) {
  const Peak& p = peak_for(dtype, limits);
  return p.numbers + " " + p.instructions;
}

TEST(MachineLimits, ThePeakIsThatOfTheNumbers) {
  MachineLimits limits = sapphire();
  EXPECT_EQ(peak_name("fp32", limits), "fp32 avx512");
  for (const char* dtype : {"fp16", "bf16"}) EXPECT_EQ(peak_name(dtype, limits), "bf16 amx");
  for (const char* dtype : {"int8", "int4"}) EXPECT_EQ(peak_name(dtype, limits), "int8 amx");
  EXPECT_EQ(peak_name("fp16+int8", limits), "int8 amx");  // a split model
  limits.peaks.resize(4);                                 // no AMX
  EXPECT_EQ(peak_name("fp16", limits), "fp32 avx512");
  EXPECT_EQ(peak_name("int4", limits), "int8 avx512_vnni");
  limits.peaks.push_back({"bf16", "avx512_bf16", 400e9});
  EXPECT_EQ(peak_name("bf16", limits), "bf16 avx512_bf16");
  EXPECT_EQ(peak_name("fp16", limits), "fp32 avx512");
  limits.peaks = {{"fp32", "portable", 8e9}};
  EXPECT_EQ(peak_name("int8", limits), "fp32 portable");
}

TEST(MachineLimits, SharesOfAStep) {
  // 3 GB in 0.125 s are 24 GB/s, 1.2 GB less are 14.4 GB/s.
  Shares s = shares_of({3e9, 1.2e9, 2e9}, 0.125, "fp32", sapphire());
  EXPECT_DOUBLE_EQ(s.weights, 24.0 / 30);
  EXPECT_DOUBLE_EQ(s.read, 14.4 / 30);
  EXPECT_DOUBLE_EQ(s.peak, 16.0 / 200);
  EXPECT_EQ(s.limit, "read");
  EXPECT_DOUBLE_EQ(s.share, s.read);
  // Many rows: the same weights, a hundred times the products.
  s = shares_of({3e9, 0, 200e9}, 2, "int8", sapphire());
  EXPECT_DOUBLE_EQ(s.read, 1.5 / 30);
  EXPECT_DOUBLE_EQ(s.weights, s.read);
  EXPECT_DOUBLE_EQ(s.peak, 100e9 / 4e12);
  EXPECT_EQ(s.limit, "read");
  s = shares_of({3e9, 0, 200e9}, 2, "fp32", sapphire());
  EXPECT_DOUBLE_EQ(s.share, 0.5);
  EXPECT_EQ(s.limit, "fp32 avx512");
}

}  // namespace
}  // namespace fr
