// Checks of a row of logits and log-probabilities.
#include "sample/logits.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "base/random.h"

namespace fr {
namespace {

constexpr float nan = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();

TEST(Logits, MaximumAtEveryPosition) {
  for (std::size_t size = 1; size < 40; ++size) {
    for (std::size_t at = 0; at < size; ++at) {
      std::vector<float> row(size, -2.0f);
      row[at] = -1.5f;
      EXPECT_EQ(*max_logit(row), -1.5f);
    }
  }
}

TEST(Logits, UnsoundRowsAreErrorsThatNameTheToken) {
  for (std::size_t at = 0; at < 21; ++at) {
    for (const float bad : {nan, -nan, infinity}) {
      std::vector<float> row(21, 0.0f);
      row[20] = nan;
      row[at] = bad;
      const auto max = max_logit(row);
      ASSERT_FALSE(max.ok());
      EXPECT_EQ(max.error().message.find("logit of token " + std::to_string(at) + " is "), 0u);
      EXPECT_EQ(max.error().message.find("infinite") != std::string::npos, bad > 0);
    }
  }
  EXPECT_FALSE(max_logit({}).ok());
  const std::vector<float> banned(9, -infinity);
  ASSERT_FALSE(max_logit(banned).ok());
  EXPECT_EQ(max_logit(banned).error().message.find("every token is banned"), 0u);
}

TEST(Logits, LogSoftmaxEqualsItsDefinition) {
  std::vector<float> row;
  for (std::uint64_t i = 0; i < 1003; ++i) row.push_back(static_cast<float>(random_uniform(1, i) * 40 - 30));
  row[7] = -infinity;
  long double sum = 0;
  for (const float v : row) sum += std::exp(static_cast<long double>(v));
  const auto log_softmax = LogSoftmax::of(row);
  ASSERT_TRUE(log_softmax.ok());
  for (int id = 0; id < 1003; ++id) {
    if (id == 7) continue;
    const auto v = static_cast<long double>(row[static_cast<std::size_t>(id)]);
    EXPECT_NEAR((*log_softmax)(id), static_cast<double>(v - std::log(sum)), 1e-13);
  }
  EXPECT_EQ((*log_softmax)(7), -infinity);
}

TEST(Logits, LogSoftmaxDoesNotOverflow) {
  const std::vector<float> row = {3e38f, 3e38f, -3e38f};
  EXPECT_DOUBLE_EQ((*LogSoftmax::of(row))(1), -std::log(2.0));
}

TEST(Logits, TopIsSortedAndBreaksTiesById) {
  const std::vector<float> row = {1, 3, 2, 3, -infinity, 2};
  const auto log_softmax = LogSoftmax::of(row);
  std::vector<int> ids;
  for (const auto& entry : log_softmax->top(4)) {
    ids.push_back(entry.id);
    EXPECT_EQ(entry.log_prob, (*log_softmax)(entry.id));
  }
  EXPECT_EQ(ids, (std::vector<int>{1, 3, 2, 5}));
  EXPECT_EQ(log_softmax->top(100).size(), 6u);
  EXPECT_TRUE(log_softmax->top(0).empty());
  EXPECT_TRUE(log_softmax->top(-3).empty());
}

}  // namespace
}  // namespace fr
