// The sampler. Tokens are ordered by 64-bit keys (better logit first, then lower id), so every cut of a
// sorted list is one number, and the survivors are found again in id order without sorting the vocabulary.
#include "sample/sampler.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <limits>
#include <string>
#include <utility>

#include "base/portable_math.h"
#include "base/random.h"
#include "sample/logits.h"

namespace fr {
namespace {

using Key = std::uint64_t;
using Profile = SamplerProfile;
constexpr float lowest = std::numeric_limits<float>::lowest();
constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr double greedy_below = 1e-6;   // temperature
constexpr double largest_value = 1e12;  // of a remembered count or penalty: keeps float arithmetic finite

// A smaller key is a better token. Upper half: the logit's bits turned so that they descend; lower half: id.
constexpr Key make_key(float logit, std::uint32_t id) {
  auto u = std::bit_cast<std::uint32_t>(logit);
  if (u == 0x80000000u) u = 0;  // -0 equals +0
  const std::uint32_t descending = (u >> 31) ? u : u ^ 0x7fffffffu;
  return (static_cast<Key>(descending) << 32) | id;
}
constexpr float key_logit(Key key) {
  const auto u = static_cast<std::uint32_t>(key >> 32);
  return std::bit_cast<float>((u >> 31) ? u : u ^ 0x7fffffffu);
}
constexpr int key_id(Key key) { return static_cast<int>(key & 0xffffffffu); }
// The last key with this logit: everything up to it includes all equals.
constexpr Key last_key(float logit) { return make_key(logit, 0xffffffffu); }
constexpr Key no_cut = last_key(lowest);  // all but -inf

// Working memory of one thread, reused from token to token.
struct Scratch {
  std::vector<float> adjusted;   // [vocab] logits after penalties, bias, bans
  std::vector<double> weights;   // [vocab] e^((adjusted - max) / filter temperature), where it was needed
  std::vector<Key> keys, spare;  // candidates
  std::vector<float> logits;     // of the survivors
  std::vector<double> final;     // weights of the survivors, to draw from

  double weight(Key key) const { return weights[static_cast<std::size_t>(key_id(key))]; }
};
Scratch& scratch() {
  thread_local Scratch s;
  return s;
}

// Keys up to `limit`, in id order.
void gather(std::span<const float> logits, Key limit, std::vector<Key>& keys) {
  keys.resize(logits.size());
  std::size_t n = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const Key key = make_key(logits[i], static_cast<std::uint32_t>(i));
    keys[n] = key;
    n += key <= limit ? 1 : 0;
  }
  keys.resize(n);
}

// Radix sort by the upper half, three digits of 11 bits; stable, and the keys come in id order.
void sort(std::vector<Key>& keys, std::vector<Key>& spare) {
  constexpr std::size_t digits = 3, bits = 11, size = std::size_t{1} << bits;
  std::array<std::array<std::uint32_t, size>, digits> starts{};
  const auto digit = [](Key key, std::size_t d) { return (key >> (32 + d * bits)) & (size - 1); };
  for (const Key key : keys)
    for (std::size_t d = 0; d < digits; ++d) ++starts[d][digit(key, d)];
  spare.resize(keys.size());
  for (std::size_t d = 0; d < digits; ++d) {
    std::uint32_t sum = 0;
    for (auto& start : starts[d]) sum += std::exchange(start, sum);
    for (const Key key : keys) spare[starts[d][digit(key, d)]++] = key;
    keys.swap(spare);
  }
}

double mass(const Scratch& s) {
  double sum = 0;
  for (const Key key : s.keys) sum += s.weight(key);
  return sum;
}

// The temperature of the probabilities that the filters see.
double filter_temperature(const SamplerParams& p) {
  return p.profile == Profile::albatross ? p.temperature : 1.0;
}

// How many of the sorted candidates top-p keeps: up to the one that brings the mass to `target`.
std::size_t nucleus(const Scratch& s, double target, bool must_exceed) {
  double sum = 0;
  for (std::size_t i = 0; i < s.keys.size(); ++i) {
    sum += s.weight(s.keys[i]);
    if (must_exceed ? sum > target : sum >= target) return i + 1;
  }
  return s.keys.size();
}

// Top-k and top-p: leaves the tokens that stay in s.keys, in id order, and their weights in s.weights.
void cut(const SamplerParams& p, float max, Scratch& s) {
  const std::span<const float> x = s.adjusted;
  const auto k = static_cast<std::size_t>(p.top_k);
  const bool use_k = k > 0 && k < x.size(), use_p = p.top_p < 1.0;
  const bool mass_of_k = use_k && (p.profile == Profile::albatross || !use_p);  // no other weights are needed
  const double temperature = filter_temperature(p);
  s.weights.resize(x.size());
  if (!mass_of_k) exp_each(x, max, temperature, s.weights);
  if (!use_k && !use_p) return gather(x, no_cut, s.keys);

  double target = mass_of_k ? 0 : p.top_p * ordered_sum(s.weights);
  // Candidates down to some distance below the best logit, enough for the cut; mostly the first distance is.
  for (const float distance : {4.0f, 8.0f, 16.0f, infinity}) {
    gather(x, last_key(std::max(max - distance, lowest)), s.keys);
    if (use_k && s.keys.size() >= k) break;
    // The margin covers the different order of this sum and the one over sorted keys.
    if (!mass_of_k && mass(s) > target * (1 + 1e-9)) break;
  }
  sort(s.keys, s.spare);
  if (use_k && s.keys.size() > k) s.keys.resize(k);
  if (mass_of_k) {
    for (const Key key : s.keys)
      s.weights[static_cast<std::size_t>(key_id(key))] =
          portable_exp((static_cast<double>(key_logit(key)) - static_cast<double>(max)) / temperature);
    target = p.top_p * mass(s);
  }
  Key last = s.keys.back();
  if (use_p) {
    const Key end = s.keys[nucleus(s, target, p.profile == Profile::ai00) - 1];
    last = p.profile == Profile::rwkv ? std::min(last, last_key(key_logit(end))) : end;
  }
  gather(x, last, s.keys);
}

// Locally typical sampling: the tokens whose log-probability is nearest to its mean (minus the entropy), as
// many as bring the mass to typical_p; tokens as near as the last one stay too.
void keep_typical(const SamplerParams& p, float max, Scratch& s) {
  const double temperature = filter_temperature(p), sum = mass(s);
  const auto log_weight = [&](Key key) {
    return (static_cast<double>(key_logit(key)) - static_cast<double>(max)) / temperature;
  };
  double mean = 0;
  for (const Key key : s.keys)
    if (s.weight(key) > 0) mean += s.weight(key) / sum * log_weight(key);
  const auto distance = [&](Key key) {
    const double d = log_weight(key) - mean;
    return d < 0 ? -d : d;
  };
  // In the order of logits the nearest tokens are a window; it grows on its nearer side.
  std::vector<Key> sorted = s.keys;
  sort(sorted, s.spare);
  std::size_t above = 0;  // sorted[above - 1] and sorted[below] are the next on either side
  while (above < sorted.size() && log_weight(sorted[above]) >= mean) ++above;
  std::size_t below = above;
  double kept = 0, reach = 0;
  do {
    const bool up =
        above > 0 && (below == sorted.size() || distance(sorted[above - 1]) <= distance(sorted[below]));
    const Key key = up ? sorted[--above] : sorted[below++];
    kept += s.weight(key);
    reach = distance(key);
  } while (kept < p.typical_p * sum && (above > 0 || below < sorted.size()));
  std::erase_if(s.keys, [&](Key key) { return distance(key) > reach; });
}

// Leaves the survivors of all filters in s.keys, in id order, and their weights in s.final; returns the sum.
double select(const SamplerParams& p, float max, Scratch& s) {
  if (p.temperature < greedy_below) {
    const auto best = std::find(s.adjusted.begin(), s.adjusted.end(), max) - s.adjusted.begin();
    s.keys.assign(1, make_key(max, static_cast<std::uint32_t>(best)));
    s.final.assign(1, 1.0);
    return 1.0;
  }
  cut(p, max, s);
  if (p.min_p > 0) std::erase_if(s.keys, [&](Key key) { return s.weight(key) < p.min_p; });
  if (p.typical_p < 1) keep_typical(p, max, s);
  s.final.resize(s.keys.size());
  if (p.temperature == filter_temperature(p)) {
    for (std::size_t i = 0; i < s.keys.size(); ++i) s.final[i] = s.weight(s.keys[i]);
  } else {
    s.logits.resize(s.keys.size());
    for (std::size_t i = 0; i < s.keys.size(); ++i) s.logits[i] = key_logit(s.keys[i]);
    // Relative to the best survivor, so that one weight is 1 at any temperature.
    exp_each(s.logits, key_logit(*std::min_element(s.keys.begin(), s.keys.end())), p.temperature, s.final);
  }
  double sum = 0;
  for (const double w : s.final) sum += w;
  return sum;
}

}  // namespace

Result<Sampler> Sampler::create(SamplerParams params, int vocab_size) {
  FR_CHECK(vocab_size > 0);
  FR_OK(validate(params, vocab_size));
  return Sampler(std::move(params), vocab_size);
}

Status Sampler::set_params(SamplerParams params) {
  FR_OK(validate(params, vocab_size_));
  if ((params.profile == Profile::ai00) != (params_.profile == Profile::ai00)) state_.seen.clear();
  params_ = std::move(params);
  return {};
}

double Sampler::penalty(const SamplerState::Seen& seen) const {
  if (params_.profile == Profile::ai00) return seen.value;
  return params_.presence_penalty + seen.value * params_.frequency_penalty;
}

Result<float> Sampler::adjust(std::span<const float> logits) const {
  if (logits.size() != static_cast<std::size_t>(vocab_size_))
    return usage_error(std::to_string(logits.size()) + " logits for a vocabulary of " +
                       std::to_string(vocab_size_) +
                       " (sampling): use the sampler with the model that it was made for");
  if (auto raw = max_logit(logits); !raw) return std::move(raw).error();
  auto& x = scratch().adjusted;
  x.assign(logits.begin(), logits.end());
  const auto at = [&](int id) -> float& { return x[static_cast<std::size_t>(id)]; };
  for (const auto& seen : state_.seen) at(seen.id) -= static_cast<float>(penalty(seen));
  for (const auto& [id, bias] : params_.logit_bias) at(id) += bias;
  for (const int id : params_.banned) at(id) = -infinity;
  return max_logit(x);
}

Result<int> Sampler::sample(std::span<const float> logits) {
  FR_TRY(const float max, adjust(logits));
  Scratch& s = scratch();
  const double sum = select(params_, max, s);
  const double target = random_uniform(params_.seed, state_.step++) * sum;
  double reached = 0;
  std::size_t i = 0;
  while (i + 1 < s.final.size() && (reached += s.final[i]) <= target) ++i;
  return key_id(s.keys[i]);
}

bool Sampler::draw_request(DrawRequest& r) const {
  const SamplerParams& p = params_;
  if (p.typical_p < 1) return false;
  r.temperature = p.temperature;
  r.filter_temperature = filter_temperature(p);
  r.top_p = p.top_p;
  r.min_p = p.min_p;
  r.uniform = random_uniform(p.seed, state_.step);
  r.top_k = p.top_k < vocab_size_ ? p.top_k : 0;
  r.greedy = p.temperature < greedy_below;
  r.top_p_of_top_k = p.profile == Profile::albatross;
  r.top_p_exceeds = p.profile == Profile::ai00;
  r.equals_stay = p.profile == Profile::rwkv;
  r.penalties.clear();
  for (const auto& seen : state_.seen) r.penalties.push_back({seen.id, -static_cast<float>(penalty(seen))});
  r.biases = p.logit_bias;
  r.banned = p.banned;
  return true;
}

Result<int> Sampler::drawn(const DrawResult& result) {
  if (result.fault != DrawFault::none) return draw_error(result);
  FR_CHECK(result.token >= 0 && result.token < vocab_size_);
  ++state_.step;
  return result.token;
}

Result<std::vector<TokenProb>> Sampler::distribution(std::span<const float> logits) const {
  FR_TRY(const float max, adjust(logits));
  Scratch& s = scratch();
  const double sum = select(params_, max, s);
  std::vector<TokenProb> result;
  for (std::size_t i = 0; i < s.keys.size(); ++i)
    if (s.final[i] > 0) result.push_back({key_id(s.keys[i]), s.final[i] / sum});
  return result;
}

Status Sampler::accept(int token) {
  if (token < 0 || token >= vocab_size_)
    return usage_error("token " + std::to_string(token) +
                       " is not in the vocabulary (sampling): give ids from 0 to " +
                       std::to_string(vocab_size_ - 1));
  SamplerState::Seen* found = nullptr;
  for (auto& seen : state_.seen) {
    seen.value *= params_.penalty_decay;
    if (seen.id == token) found = &seen;
  }
  const bool exempt = params_.profile == Profile::rwkv &&
                      std::count(params_.penalty_exempt.begin(), params_.penalty_exempt.end(), token) > 0;
  const double count = exempt ? 0.0 : 1.0;
  const bool one_value = params_.profile == Profile::ai00;
  if (found)
    found->value += one_value ? params_.frequency_penalty : count;
  else
    state_.seen.push_back({token, one_value ? params_.presence_penalty : count});
  return {};
}

Status Sampler::restore(SamplerState state) {
  std::vector<bool> known(static_cast<std::size_t>(vocab_size_));
  for (const auto& seen : state.seen) {
    const bool id_ok = seen.id >= 0 && seen.id < vocab_size_ && !known[static_cast<std::size_t>(seen.id)];
    if (!id_ok || !(seen.value >= -largest_value && seen.value <= largest_value))
      return usage_error("sampler state has a bad entry for token " + std::to_string(seen.id) +
                         " (sampling): it is damaged or of another model");
    known[static_cast<std::size_t>(seen.id)] = true;
  }
  state_ = std::move(state);
  return {};
}

}  // namespace fr
