// From logits to a token: penalties, filters and the random draw, by the rules of three established samplers.
// Same logits, parameters and history give the same token on every machine and compiler: arithmetic is that
// of portable_math.h, random numbers come from random.h, ties go to the lower id, sums have a fixed order.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "core/draw.h"

namespace fr {

// The three RWKV samplers disagree in the order of their steps and in what a penalty is. Steps, in order:
//
//  rwkv       (pip package `rwkv` 0.8, utils.py: PIPELINE.generate, sample_logits)
//             penalties; softmax at temperature 1; top-p, where every token as probable as the last one kept
//             stays too; top-k; min-p; typical; p^(1 / temperature); draw.
//  albatross  (Albatross faster3a, app4b.py)
//             penalties; top-k; softmax(logits / temperature) over those k; top-p inside them; min-p;
//             typical; draw.
//  ai00       (ai00_server, sampler/nucleus.rs)
//             penalties; softmax at temperature 1 over the vocabulary; top-k; top-p, which stops after the
//             mass *exceeds* it (the others: reaches it); min-p; typical; p^(1 / temperature); draw.
//
// min-p (keep p >= min_p times the greatest p) and typical (Meister et al. 2022: of what is left,
// renormalised, the most typical tokens up to that mass) are in none of the three. They act on the
// probabilities that top-p sees.
//
// Penalties, subtracted from the logits of tokens that were accepted before:
//  rwkv       presence + count * frequency. Each accepted token: all counts *= decay, then its own += 1, or
//             += 0 if it is in penalty_exempt (it has its presence penalty still, as in the package).
//  albatross  the same, without exemptions.
//  ai00       one value per token. Each accepted token: all values *= decay, then its own += frequency, or
//             = presence on its first occurrence. (The GPU sampler Rapid-Sampling has this penalty too.)
//
// Where we differ from the originals: arithmetic is double after the penalties (theirs is float32 or fp16),
// which matters only for masses within rounding of top_p; if rounding keeps the mass from reaching top_p
// nothing is cut (they fall back to the best token); temperature 0 takes the lowest id among equals (package:
// any of them); ties at the border of top-k keep the lower ids (numpy and torch leave it open); ai00's top_k
// 0 means off, not token 0.
enum class SamplerProfile { rwkv, albatross, ai00 };

// The member defaults are those of profile rwkv; default_params gives each profile's own.
struct SamplerParams {
  SamplerProfile profile = SamplerProfile::rwkv;
  double temperature = 1.0;        // >= 0; 0 (below 1e-6): greedy, the largest logit after penalties and bias
  int top_k = 0;                   // >= 0; 0 or >= vocabulary: off
  double top_p = 0.85;             // 0..1; 1: off; 0: the best token alone (rwkv: and its equals)
  double min_p = 0.0;              // 0..1; 0: off
  double typical_p = 1.0;          // 0..1; 1: off
  double presence_penalty = 0.2;   // -10000..10000; below 0 it encourages repetition
  double frequency_penalty = 0.2;  // likewise
  double penalty_decay = 0.996;    // 0..1, factor per accepted token
  std::uint64_t seed = 0;
  std::vector<LogitBias> logit_bias;  // -10000..10000, added after the penalties; entries of one id add up
  std::vector<int> banned;            // never sampled
  std::vector<int> penalty_exempt;    // profile rwkv only, see rwkv_penalty_exempt

  bool operator==(const SamplerParams&) const = default;
};

// rwkv: PIPELINE_ARGS of the package; albatross: app4b.py (top-k 500); ai00: NucleusParams.
SamplerParams default_params(SamplerProfile profile);
std::string_view profile_name(SamplerProfile profile);  // "rwkv", "albatross", "ai00"
Result<SamplerProfile> parse_profile(std::string_view name);
// Usage error that names the parameter, its value and the range; nothing is clamped. vocab_size > 0.
Status validate(const SamplerParams& params, int vocab_size);
// Whether the package counts no repetition of a token with this text: any part of " \t0123456789", so also
// "12" and the empty text. Callers build SamplerParams::penalty_exempt with it, over their vocabulary.
bool rwkv_penalty_exempt(std::string_view token_text);

struct TokenProb {
  int id;
  double prob;
  bool operator==(const TokenProb&) const = default;
};

// What a sampler remembers besides its parameters. value: the count (rwkv, albatross) or the penalty (ai00).
struct SamplerState {
  struct Seen {
    int id;
    double value;
    bool operator==(const Seen&) const = default;
  };
  std::uint64_t step = 0;  // tokens sampled so far = position in the random sequence of the seed
  std::vector<Seen> seen;  // in order of first occurrence

  bool operator==(const SamplerState&) const = default;
};

// One per sequence. A value: copying it forks the sequence, == compares everything that decides what follows.
// Not for concurrent use; different samplers are independent. Working memory, up to 48 bytes per vocabulary
// entry, belongs to the calling thread and is kept for its next call.
class Sampler {
 public:
  static Result<Sampler> create(SamplerParams params, int vocab_size);  // errors of validate

  // Chooses a token, 0 <= id < vocab_size, and advances step by one (also when greedy; not on error).
  // Does not count it for the penalties: call accept for the tokens that shall count (the prompt usually
  // not). logits: [vocab_size]. Errors: wrong size, NaN or +inf (naming the token), every token banned.
  Result<int> sample(std::span<const float> logits);
  // sample in two halves, for logits that a device holds: the request of the next draw (spans into this
  // sampler), and what came of it, which advances step. draw_request: false if a device cannot do it
  // (typical_p below 1).
  bool draw_request(DrawRequest& request) const;
  Result<int> drawn(const DrawResult& result);
  // The distribution that sample draws from: ascending ids, probabilities > 0 that add up to 1.
  Result<std::vector<TokenProb>> distribution(std::span<const float> logits) const;
  // Counts a token of the sequence for the penalties. O(different tokens so far). Error: id out of range.
  Status accept(int token);
  // Forgets history and position; seed and parameters stay.
  void reset() { state_ = {}; }

  const SamplerParams& params() const { return params_; }
  int vocab_size() const { return vocab_size_; }
  const SamplerState& state() const { return state_; }
  // New parameters for the same sequence. A change between ai00 and the other two forgets the penalties:
  // their remembered values mean different things.
  Status set_params(SamplerParams params);
  // Back to a state that state() gave. Errors: ids out of range or twice, values beyond 1e12.
  Status restore(SamplerState state);

  bool operator==(const Sampler&) const = default;

 private:
  Sampler(SamplerParams params, int vocab_size) : params_(std::move(params)), vocab_size_(vocab_size) {}
  double penalty(const SamplerState::Seen& seen) const;
  // Logits after penalties, bias and bans into the thread's scratch; returns the largest.
  Result<float> adjust(std::span<const float> logits) const;

  SamplerParams params_;
  int vocab_size_;
  SamplerState state_;
};

}  // namespace fr
