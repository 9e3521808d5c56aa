#include "tools_core/bench.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tools_core/bandwidth.h"
#include "tools_core/build_info.h"

namespace fr {
namespace {

BenchOptions quick() {
  BenchOptions options;
  options.path = std::string(FR_SOURCE_DIR) + "/models/rwkv7-story-9m.pth";
  options.batches = {1, 3};
  options.prompt = 16;
  options.seconds = 0;
  return options;
}

TEST(Bandwidth, IsThatOfAMachine) {
  const auto bandwidth = measure_read_bandwidth(1);
  ASSERT_TRUE(bandwidth.ok()) << bandwidth.error().message;
  EXPECT_GT(*bandwidth, 1e8);
  EXPECT_LT(*bandwidth, 1e13);
}

TEST(Bench, NumbersFitTogether) {
  const auto report = run_bench(quick());
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_EQ(report->version, "7");
  ASSERT_EQ(report->decode.size(), 2u);
  ASSERT_TRUE(report->prefill);
  EXPECT_EQ(report->decode[1].rows, 3);
  EXPECT_EQ(report->prefill->rows, 16);
  for (const BenchSpeed& s : {report->decode[0], report->decode[1], *report->prefill}) {
    EXPECT_GE(s.repeats, 5);
    EXPECT_NEAR(s.tokens_per_second * s.seconds, s.rows, 1e-6);
    EXPECT_NEAR(s.bandwidth_share * report->bandwidth * s.seconds, static_cast<double>(report->step_bytes),
                1);
    EXPECT_GT(s.ops.native + s.ops.expanded, 0);
    EXPECT_GT(s.zeros, 0.3);  // squared ReLU
    EXPECT_LT(s.zeros, 0.99);
  }
  // 9.1M parameters without the embedding, in 2 bytes each.
  EXPECT_LT(report->step_bytes, 2 * report->n_parameters);
  EXPECT_GT(report->step_bytes, report->n_parameters);
  EXPECT_GE(report->rss_peak, report->rss_anon);
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
