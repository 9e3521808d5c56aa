#include "tools_core/bench.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/cpu_info.h"
#include "tools_core/build_info.h"

namespace fr {
namespace {

BenchOptions quick() {
  BenchOptions options;
  options.path = std::string(FR_SOURCE_DIR) + "/models/rwkv7-story-9m.pth";
  options.batches = {1, 3};
  options.prompt = 16;
  options.seconds = 0;
  options.limits = {std::size_t{8} << 20, 0.005};
  return options;
}

TEST(Bench, NumbersFitTogether) {
  const auto report = run_bench(quick());
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_EQ(report->version, "7");
  EXPECT_EQ(report->zeros_source, "measured in this model");
  ASSERT_EQ(report->runs.size(), 1u);
  const BenchRun& run = report->runs[0];
  EXPECT_EQ(run.threads, available_cores());
  ASSERT_EQ(run.decode.size(), 2u);
  ASSERT_TRUE(run.prefill);
  EXPECT_EQ(run.decode[1].rows, 3);
  EXPECT_EQ(run.prefill->rows, 16);
  EXPECT_TRUE(run.prefill->prefill);
  const MachineLimits& limits = report->limits.back();
  EXPECT_EQ(limits.threads, run.threads);
  const double table = 4096 * 256, layers = 9083904 - 2 * table;
  for (const BenchSpeed& s : {run.decode[0], run.decode[1], *run.prefill}) {
    EXPECT_GE(s.repeats, 5);
    EXPECT_GE(s.half_spread, 0);
    EXPECT_NEAR(s.tokens_per_second * s.seconds, s.rows, 1e-6);
    ASSERT_TRUE(s.shares);
    EXPECT_NEAR(s.shares->weights * limits.read * s.seconds, static_cast<double>(run.step_bytes), 1);
    EXPECT_GT(s.ops.native + s.ops.expanded, 0);
    EXPECT_GT(s.zeros, 0.3);  // squared ReLU
    EXPECT_LT(s.zeros, 0.99);
    EXPECT_EQ(s.work.operations, 2 * (s.rows * layers + (s.prefill ? 1 : s.rows) * table));
  }
  // One row is known to leave out the rows of zeros: ffn.value is 8 matrices of 256 x 1024 numbers in 2
  // bytes.
  EXPECT_TRUE(run.decode[0].counts_skipped);
  EXPECT_NEAR(run.decode[0].work.skipped, run.decode[0].zeros * 8 * 256 * 1024 * 2, 1);
  EXPECT_LT(run.decode[0].shares->read, run.decode[0].shares->weights);
  EXPECT_FALSE(run.decode[1].counts_skipped);
  EXPECT_EQ(run.decode[1].shares->read, run.decode[1].shares->weights);
  // 9.1M parameters without the embedding, in 2 bytes each.
  EXPECT_LT(run.step_bytes, 2 * report->n_parameters);
  EXPECT_GT(run.step_bytes, report->n_parameters);
  EXPECT_GE(run.rss_peak, run.rss_anon);
  EXPECT_GE(run.rss_anon_peak, run.rss_anon);
}

TEST(Bench, OneRunForEachFormatAndNumberOfThreads) {
  BenchOptions options = quick();
  options.batches = {1};
  options.prompt = 0;
  options.dtypes = {"fp32", "int8"};
  options.threads = {1, 2};
  for (const char* device : {"cpu", "reference"}) {
    options.load.strategy = device;
    if (options.load.strategy == "reference") options.dtypes = {"fp32"};
    const auto report = run_bench(options);
    ASSERT_TRUE(report.ok()) << report.error().message;
    ASSERT_EQ(report->runs.size(), 2 * options.dtypes.size());
    ASSERT_EQ(report->limits.size(), 2u);
    EXPECT_EQ(report->limits[0].threads, 1);
    for (std::size_t i = 0; i < report->runs.size(); ++i) {
      const BenchRun& run = report->runs[i];
      EXPECT_EQ(run.dtype, options.dtypes[i / 2]);
      EXPECT_EQ(run.threads, i % 2 == 0 ? 1 : 2);
      EXPECT_EQ(run.strategy, std::string(device) + " " + run.dtype);
      EXPECT_FALSE(run.prefill);
      EXPECT_EQ(run.decode[0].shares.has_value(), options.load.strategy == "cpu");
    }
    if (report->runs.size() == 4) {
      EXPECT_LT(report->runs[2].step_bytes, report->runs[0].step_bytes / 2);
    }
  }
}

TEST(Bench, StatisticsOfSteps) {
  BenchSpeed s = summarise({5, 1, 2, 4, 3}, 30);
  EXPECT_EQ(s.repeats, 5);
  EXPECT_EQ(s.seconds, 3);
  EXPECT_EQ(s.tokens_per_second, 10);
  EXPECT_DOUBLE_EQ(s.half_spread, 2);
  EXPECT_DOUBLE_EQ(s.deviation, std::sqrt(2.0));
  std::vector<double> many(100, 2.0);  // an outlier in a hundred is no spread
  many[7] = 50;
  s = summarise(many, 1);
  EXPECT_EQ(s.seconds, 2);
  EXPECT_EQ(s.half_spread, 0);
  EXPECT_GT(s.deviation, 1);
  EXPECT_EQ(summarise({4}, 1).half_spread, 0);
}

TEST(Bench, RefusesNonsense) {
  BenchOptions options = quick();
  options.batches = {0};
  EXPECT_EQ(run_bench(options).error().code, ErrorCode::usage);
  options = quick();
  options.prompt = -1;
  EXPECT_EQ(run_bench(options).error().code, ErrorCode::usage);
  options = quick();
  options.zeros = 0.9;  // of a file
  EXPECT_EQ(run_bench(options).error().code, ErrorCode::usage);
  for (const double wrong : {-1.0, 1e9, std::nan("")}) {
    options = quick();
    options.seconds = wrong;
    EXPECT_EQ(run_bench(options).error().code, ErrorCode::usage) << wrong;
    options = quick();
    options.shape = "0.1b";
    options.zeros = wrong;
    EXPECT_EQ(run_bench(options).error().code, ErrorCode::usage) << wrong;
  }
  for (const double wrong : {0.0, 1.0}) {
    options = quick();
    options.shape = "0.1b";
    options.zeros = wrong;
    EXPECT_EQ(run_bench(options).error().code, ErrorCode::usage) << wrong;
  }
  for (const int wrong : {-1, 100000}) {
    options = quick();
    options.threads = {2, wrong};
    EXPECT_EQ(run_bench(options).error().code, ErrorCode::usage) << wrong;
  }
  for (const char* wrong : {"fp7", "auto", "", "cpu"}) {
    options = quick();
    options.dtypes = {"fp32", wrong};
    EXPECT_EQ(run_bench(options).error().code, ErrorCode::usage) << wrong;
  }
  options = quick();
  options.dtypes = {"fp32"};
  options.load.strategy = "cpu int8";
  EXPECT_NE(run_bench(options).error().message.find("has a number format already"), std::string::npos);
  options = quick();
  options.shape = "5b";
  const auto unknown = run_bench(options);
  ASSERT_FALSE(unknown.ok());
  EXPECT_NE(unknown.error().message.find("5b"), std::string::npos);
}

TEST(Bench, StopsWhenAsked) {
  BenchOptions options = quick();
  int asked = 0;
  options.go_on = [&] { return ++asked < 4; };
  const auto report = run_bench(options);
  ASSERT_FALSE(report.ok());
  EXPECT_EQ(report.error().code, ErrorCode::interrupted);
  EXPECT_EQ(asked, 4);
}

TEST(BuildInfo, NamesBackendsAndCompiler) {
  const std::string info = build_info();
  EXPECT_NE(info.find("compiler: "), std::string::npos);
  EXPECT_NE(info.find("reference: fp32"), std::string::npos);
}

}  // namespace
}  // namespace fr
