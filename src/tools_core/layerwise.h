// Runs a model of any size in the memory of its largest layer: the weights of one layer are packed, used and
// dropped, then those of the next. For comparing files, not for speed.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "base/checkpoint.h"
#include "base/log.h"
#include "base/result.h"

namespace fr {

// Logits [tokens][n_vocab] after each of the tokens, from the initial state (the file's tuned one, if it has
// one), computed by the cpu backend with weights in fp32. Errors: those of make_model and Binder, a token
// outside the vocabulary, not enough memory, an interruption.
Result<std::vector<float>> layerwise_logits(const Checkpoint& file, std::span<const std::int32_t> tokens,
                                            int threads = 0, const Progress& progress = {});

// How far two rows of logits are apart, over all positions.
struct LogitDifference {
  std::size_t positions = 0;
  double max_abs = 0;
  double relative_l2 = 0;       // |a - b| / |b|
  double argmax_agreement = 0;  // share of positions
};
LogitDifference compare_logits(std::span<const float> a, std::span<const float> b, std::size_t n_vocab);

}  // namespace fr
