// A token to be drawn from a row of logits, as data: the sampler (sample/sampler.h) writes the request, and a
// device that holds the logits carries it out with exactly the sampler's result.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"

namespace fr {

struct LogitBias {
  int id;
  float bias;
  bool operator==(const LogitBias&) const = default;
};

// The spans are the sampler's, and hold until it changes. Steps, in order: penalties, biases, bans; if
// `greedy`, the best token (the lowest id among equals); else top-k and top-p over the tokens sorted by logit
// and id; min-p; draw from weights e^((logit - best) / temperature) in id order.
struct DrawRequest {
  double temperature = 1;         // of the draw
  double filter_temperature = 1;  // of the probabilities that top-p and min-p see
  double top_p = 1, min_p = 0;    // 1, 0: off
  double uniform = 0;             // the random number, [0, 1)
  int top_k = 0;                  // 0: off, else less than the vocabulary
  bool greedy = false;
  bool top_p_of_top_k = false;        // top-p is a part of the mass of the best top_k tokens, not of all
  bool top_p_exceeds = false;         // it keeps tokens until their mass exceeds top_p; else: reaches it
  bool equals_stay = false;           // tokens as probable as the last one that top-p keeps stay too
  std::vector<LogitBias> penalties;   // added first; every id once
  std::span<const LogitBias> biases;  // added one by one in this order; ids may repeat
  std::span<const int> banned;        // the logit becomes -inf
};

enum class DrawFault : std::int32_t { none, not_a_number, infinite, all_banned };

struct DrawResult {
  std::int32_t token = 0;  // the one drawn; with not_a_number and infinite the one whose logit it is
  DrawFault fault = DrawFault::none;
  bool operator==(const DrawResult&) const = default;
};

// What the user is told about a fault (not none).
Error draw_error(const DrawResult& result);

}  // namespace fr
