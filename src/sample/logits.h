// What can be asked of one row of logits without a sampler: is it sound, its maximum, log-probabilities.
#pragma once
#include <span>
#include <vector>

#include "base/result.h"

namespace fr {

// The largest logit. -inf means "never". Errors: empty, NaN or +inf (both name the token), all -inf.
Result<float> max_logit(std::span<const float> logits);

struct TokenLogProb {
  int id;
  double log_prob;  // natural logarithm
  bool operator==(const TokenLogProb&) const = default;
};

// Log-softmax of one row at temperature 1, without penalties or filters: what servers report and perplexity
// sums. One pass over the row at creation. Keeps a view: the row must outlive the object.
class LogSoftmax {
 public:
  static Result<LogSoftmax> of(std::span<const float> logits);  // errors of max_logit

  // ln p(id); 0 <= id < logits.size(). -inf for a logit of -inf.
  double operator()(int id) const;
  // The min(n, size) most probable tokens, best first, equal logits by ascending id.
  std::vector<TokenLogProb> top(int n) const;

 private:
  LogSoftmax(std::span<const float> logits, double max, double log_sum)
      : logits_(logits), max_(max), log_sum_(log_sum) {}
  std::span<const float> logits_;
  double max_, log_sum_;  // log_sum: ln of the sum of e^(logit - max)
};

}  // namespace fr
