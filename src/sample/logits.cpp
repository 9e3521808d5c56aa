// Soundness, maximum and log-softmax of a row of logits.
#include "sample/logits.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>

#include "base/portable_math.h"
#include "core/draw.h"

namespace fr {
namespace {

constexpr float largest = std::numeric_limits<float>::max();
constexpr float infinity = std::numeric_limits<float>::infinity();

Error unsound(std::span<const float> logits) {
  std::size_t id = 0;
  while (logits[id] <= largest) ++id;
  return draw_error(
      {static_cast<std::int32_t>(id), logits[id] > largest ? DrawFault::infinite : DrawFault::not_a_number});
}

}  // namespace

Result<float> max_logit(std::span<const float> logits) {
  if (logits.empty()) return runtime_error("no logits (sampling): ask the model for logits of this row");
  int sound = 1;
  for (const float v : logits) sound &= v <= largest ? 1 : 0;  // false for NaN and +inf alike
  if (!sound) return unsound(logits);
  constexpr std::size_t lanes = 8;  // as many running maxima make vector code of the loop
  float tops[lanes];
  std::fill_n(tops, lanes, -infinity);
  std::size_t i = 0;
  for (; i + lanes <= logits.size(); i += lanes)
    for (std::size_t lane = 0; lane < lanes; ++lane)
      tops[lane] = logits[i + lane] > tops[lane] ? logits[i + lane] : tops[lane];
  for (; i < logits.size(); ++i) tops[0] = std::max(tops[0], logits[i]);
  const float max = *std::max_element(tops, tops + lanes);
  if (max == -infinity) return draw_error({0, DrawFault::all_banned});
  return max;
}

Result<LogSoftmax> LogSoftmax::of(std::span<const float> logits) {
  FR_TRY(const float max, max_logit(logits));
  std::vector<double> terms(logits.size());
  exp_each(logits, max, 1.0, terms);
  return LogSoftmax(logits, max, portable_log(ordered_sum(terms)));
}

double LogSoftmax::operator()(int id) const {
  FR_CHECK(id >= 0 && static_cast<std::size_t>(id) < logits_.size());
  return (static_cast<double>(logits_[static_cast<std::size_t>(id)]) - max_) - log_sum_;
}

std::vector<TokenLogProb> LogSoftmax::top(int n) const {
  std::vector<int> ids(logits_.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto middle = ids.begin() + std::clamp(n, 0, static_cast<int>(ids.size()));
  std::partial_sort(ids.begin(), middle, ids.end(), [&](int a, int b) {
    const float x = logits_[static_cast<std::size_t>(a)], y = logits_[static_cast<std::size_t>(b)];
    return x != y ? x > y : a < b;
  });
  std::vector<TokenLogProb> result;
  for (auto it = ids.begin(); it != middle; ++it) result.push_back({*it, (*this)(*it)});
  return result;
}

}  // namespace fr
