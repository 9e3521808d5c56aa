// Tokens drawn on the GPU equal those of the host's sampler: always, not nearly.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "backends/cuda/device_sampler.h"
#include "backends/cuda/test_gpu.h"
#include "base/portable_math.h"
#include "base/random.h"
#include "sample/sampler.h"
#include "sample/test_logits.h"

namespace fr::cuda {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr SamplerProfile profiles[] = {SamplerProfile::rwkv, SamplerProfile::albatross, SamplerProfile::ai00};

#ifdef __SANITIZE_ADDRESS__  // emulation is slow enough
constexpr int thorough = 1;
#else
constexpr int thorough = 4;
#endif

// Random choices that a number gives.
class Choice {
 public:
  explicit Choice(std::uint64_t seed) : seed_(seed) {}
  std::size_t below(std::size_t n) { return random_bits(seed_, step_++) % n; }
  double of(std::initializer_list<double> values) { return values.begin()[below(values.size())]; }
  int integer(std::initializer_list<double> values) { return static_cast<int>(of(values)); }

 private:
  std::uint64_t seed_, step_ = 1000;
};

Sampler make_sampler(const SamplerParams& params, int vocab) {
  auto sampler = Sampler::create(params, vocab);
  FR_CHECK(sampler.ok());
  return std::move(*sampler);
}

// Parameters of all kinds, and a sampler with a past.
Sampler any_sampler(std::uint64_t seed, int vocab) {
  Choice pick(seed);
  SamplerParams p = default_params(profiles[pick.below(3)]);
  p.seed = seed;
  p.temperature = pick.of({0, 1e-5, 0.1, 0.7, 1, 1, 1, 1.8, 50, 1e300});
  p.top_k = pick.integer({0, 0, 0, 1, 2, 40, 500, 2049, vocab - 1.0, vocab + 1.0});
  p.top_p = pick.of({0, 0.1, 0.5, 0.85, 0.85, 0.97, 0.9999999, 1, 1});
  p.min_p = pick.of({0, 0, 0, 0.02, 0.3, 1});
  const bool penalties = pick.below(3) > 0;
  if (!penalties) p.presence_penalty = p.frequency_penalty = 0;
  const auto id = [&] { return static_cast<int>(pick.below(static_cast<std::size_t>(vocab))); };
  if (pick.below(2) == 0) {
    for (int i = pick.integer({0, 3, 90}); i > 0; --i)
      p.logit_bias.push_back({id(), static_cast<float>(pick.of({-10000, -1.1, 0.3, 1.7, 2.1}))});
    if (!p.logit_bias.empty()) p.logit_bias.insert(p.logit_bias.end(), {p.logit_bias[0], p.logit_bias[0]});
  }
  if (pick.below(2) == 0) {
    for (int i = pick.integer({1, 4, vocab / 2.0}); i > 0 && static_cast<int>(p.banned.size()) < vocab - 1;
         --i)
      p.banned.push_back(id());
  }
  Sampler s = make_sampler(p, vocab);
  for (int i = pick.integer({0, 5, 60}); i > 0; --i) EXPECT_TRUE(s.accept(id()).ok());
  return s;
}

// Peaked, flat, with ties, with tokens that the model excludes.
std::vector<float> any_logits(std::uint64_t seed, int vocab) {
  Choice pick(seed);
  std::vector<float> x =
      make_logits(seed, vocab, pick.integer({1, 4, 12, 60, 2000}), pick.integer({1, 16, 8192}));
  if (pick.below(4) == 0) std::fill(x.begin(), x.end(), static_cast<float>(pick.of({0.0, -0.0, 3, -700})));
  if (pick.below(4) == 0)
    for (std::size_t i = 0; i < x.size(); i += 2) x[i] = -x[i];  // -0 and 0
  if (pick.below(2) == 0)
    for (std::size_t i = pick.below(5); i < x.size(); i += 1 + pick.below(9)) x[i] = -infinity;
  if (pick.below(8) == 0) x[pick.below(x.size())] = std::numeric_limits<float>::max();
  if (pick.below(8) == 0) x[pick.below(x.size())] = std::numeric_limits<float>::lowest();
  return x;
}

std::string words(const SamplerParams& p) {
  return std::string(profile_name(p.profile)) + " temperature " + std::to_string(p.temperature) + " top_k " +
         std::to_string(p.top_k) + " top_p " + std::to_string(p.top_p) + " min_p " + std::to_string(p.min_p);
}

// Draws a token for every row in both ways, and compares tokens or errors, and the samplers after it.
void expect_same(DeviceSampler& device, std::vector<Sampler>& samplers,
                 const std::vector<std::vector<float>>& rows, const std::string& what) {
  const std::size_t vocab = rows[0].size(), stride = vocab + 3;
  std::vector<float> all(rows.size() * stride, NAN);
  for (std::size_t i = 0; i < rows.size(); ++i)
    std::copy(rows[i].begin(), rows[i].end(), all.begin() + static_cast<std::ptrdiff_t>(i * stride));
  const OnDevice<float> logits(all);
  std::vector<DrawRequest> requests(rows.size());
  std::vector<DrawResult> results(rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i) ASSERT_TRUE(samplers[i].draw_request(requests[i]));
  const Status drawn = device.draw(nullptr, {logits.get(), static_cast<std::int64_t>(stride)},
                                   static_cast<int>(vocab), requests, results);
  ASSERT_TRUE(drawn.ok()) << drawn.error().message;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::string row = what + " row " + std::to_string(i) + ": " + words(samplers[i].params());
    Sampler host = samplers[i];
    const Result<int> expected = host.sample(rows[i]), got = samplers[i].drawn(results[i]);
    ASSERT_EQ(got.ok(), expected.ok()) << row;
    if (expected.ok()) {
      ASSERT_EQ(*got, *expected) << row;
    } else {
      EXPECT_EQ(got.error().message, expected.error().message) << row;
      EXPECT_EQ(got.error().code, expected.error().code) << row;
    }
    EXPECT_EQ(samplers[i], host) << row;
  }
}

void expect_same_of_many(int vocab, int steps, int rows) {
  DeviceSampler device(0);
  std::uint64_t seed = static_cast<std::uint64_t>(vocab) * 1000;
  for (int step = 0; step < steps; ++step) {
    std::vector<Sampler> samplers;
    std::vector<std::vector<float>> logits;
    for (int i = 0; i < rows; ++i) {
      samplers.push_back(any_sampler(++seed, vocab));
      logits.push_back(any_logits(seed, vocab));
    }
    expect_same(device, samplers, logits,
                "vocabulary " + std::to_string(vocab) + " step " + std::to_string(step));
    if (testing::Test::HasFatalFailure()) return;
  }
}

TEST(DeviceSampler, DrawsTheTokensOfTheHost) {
  expect_same_of_many(1, 2, 20);
  expect_same_of_many(7, 3 * thorough, 20);
  expect_same_of_many(300, 3 * thorough, 20);
  expect_same_of_many(4096, thorough, 20);
}

TEST(DeviceSampler, DrawsTheTokensOfTheHostFromALargeVocabulary) {
  expect_same_of_many(65536, 1, 2 * thorough);
}

// The rules one by one, where flat and peaked rows bring every number of candidates: few, those that just fit
// into shared memory, more.
TEST(DeviceSampler, FollowsEveryRule) {
  DeviceSampler device(0);
  for (const int vocab : {960, 2049}) {
    std::vector<Sampler> samplers;
    std::vector<std::vector<float>> logits;
    const auto add = [&](const SamplerParams& p) {
      for (const auto& [spread, granularity] : {std::pair{1, 8192}, {9, 2}, {40, 8192}}) {
        samplers.push_back(make_sampler(p, vocab));
        logits.push_back(make_logits(samplers.size(), vocab, spread, granularity));
      }
    };
    for (const SamplerProfile profile : profiles) {
      add(default_params(profile));
      for (const double top_p : {0.0, 0.3, 0.999}) {
        SamplerParams p = plain(profile);
        p.top_p = top_p;
        add(p);
        p.top_k = 100;
        p.temperature = 0.8;
        add(p);
      }
      SamplerParams p = plain(profile);
      p.temperature = 2;
      add(p);
      p.min_p = 0.05;
      add(p);
      p.top_k = 7;
      add(p);
      p.temperature = 0;
      add(p);
    }
    expect_same(device, samplers, logits, "vocabulary " + std::to_string(vocab));
  }
}

// min-p keeps a token whose weight is exactly min_p and no smaller one: this shows every bit of the weights.
TEST(DeviceSampler, WeightsHaveTheBitsOfTheHost) {
  DeviceSampler device(0);
  std::vector<DrawRequest> requests;
  std::vector<float> logits;
  for (std::uint64_t i = 0; i < 50 * thorough; ++i) {
    const float distance = static_cast<float>(random_uniform(1, i) * 5);
    const double temperature = i % 2 == 0 ? 1.0 : 0.3 + random_uniform(2, i);
    const double weight = portable_exp(-static_cast<double>(distance) / temperature);
    for (const double min_p : {weight, std::nextafter(weight, 2.0)}) {
      DrawRequest r;
      r.temperature = r.filter_temperature = temperature;
      r.min_p = min_p;
      r.uniform = 1 - 0x1p-53;
      requests.push_back(r);
      logits.insert(logits.end(), {0.0f, -distance});
    }
  }
  std::vector<DrawResult> results(requests.size());
  const OnDevice<float> rows(logits);
  ASSERT_TRUE(device.draw(nullptr, {rows.get(), 2}, 2, requests, results).ok());
  for (std::size_t i = 0; i < results.size(); ++i)
    EXPECT_EQ(results[i].token, i % 2 == 0 ? 1 : 0) << "weight " << requests[i / 2 * 2].min_p;
}

// A text: what was drawn counts for the penalties of what follows.
TEST(DeviceSampler, FollowsASequence) {
  DeviceSampler device(0);
  std::vector<Sampler> samplers;
  for (const SamplerProfile profile : profiles) samplers.push_back(make_sampler(default_params(profile), 50));
  for (std::uint64_t step = 0; step < 25; ++step) {
    const std::vector<std::vector<float>> logits(3, make_logits(step % 5, 50, 6, 16));
    std::vector<Sampler> before = samplers;
    expect_same(device, samplers, logits, "step " + std::to_string(step));
    for (std::size_t i = 0; i < 3; ++i) ASSERT_TRUE(samplers[i].accept(*before[i].sample(logits[i])).ok());
  }
  EXPECT_EQ(samplers[0].state().step, 25u);
}

TEST(DeviceSampler, SaysWhatIsWrongWithARow) {
  constexpr int vocab = 3000;
  DeviceSampler device(0);
  const std::vector<float> sound = make_logits(1, vocab, 8, 64);
  const auto with = [&](std::initializer_list<std::pair<std::size_t, float>> changes) {
    std::vector<float> x = sound;
    for (const auto& [id, value] : changes) x[id] = value;
    return x;
  };
  SamplerParams banned, all_banned, greedy;
  banned.banned = {17};
  for (int id = 0; id < vocab; ++id) all_banned.banned.push_back(id);
  greedy.temperature = 0;
  const std::vector<std::vector<float>> logits{
      with({{2999, NAN}}),
      with({{17, infinity}, {1041, NAN}}),
      with({{1041, NAN}, {2065, infinity}}),
      sound,
      std::vector<float>(vocab, -infinity),
      with({{17, NAN}}),
      sound,
      with({{5, infinity}}),
      sound,
  };
  std::vector<Sampler> samplers;
  for (const SamplerParams& p : {SamplerParams{}, {}, {}, {}, {}, banned, all_banned, greedy, greedy})
    samplers.push_back(make_sampler(p, vocab));
  expect_same(device, samplers, logits, "faults");
  const std::uint64_t steps[] = {0, 0, 0, 1, 0, 0, 0, 0, 1};
  for (std::size_t i = 0; i < samplers.size(); ++i) EXPECT_EQ(samplers[i].state().step, steps[i]) << i;
}

TEST(DeviceSampler, MoreRowsThanBlocks) {
  constexpr int vocab = 40;
  DeviceSampler device(0);
  std::vector<Sampler> samplers;
  std::vector<std::vector<float>> logits;
  for (std::uint64_t i = 0; i < 140; ++i) {
    samplers.push_back(any_sampler(i, vocab));
    logits.push_back(any_logits(i, vocab));
  }
  expect_same(device, samplers, logits, "rows");
}

TEST(DeviceSampler, LeavesTypicalSamplingToTheHost) {
  SamplerParams p;
  p.typical_p = 0.9;
  DrawRequest request;
  EXPECT_FALSE(make_sampler(p, 10).draw_request(request));
}

TEST(DeviceSampler, MemoryGrowsRarely) {
  DeviceSampler device(0);
  std::vector<Sampler> samplers(5, make_sampler({}, 100));
  const std::vector<std::vector<float>> logits(5, make_logits(1, 100, 8, 64));
  expect_same(device, samplers, logits, "five");
  const std::size_t bytes = device.bytes();
  EXPECT_GT(bytes, 5u * 100 * 12);
  for (std::size_t n = 1; n <= 5; ++n) {
    std::vector<Sampler> some(n, samplers[0]);
    expect_same(device, some, std::vector(n, logits[0]), "some");
    EXPECT_EQ(device.bytes(), bytes);
  }
}

}  // namespace
}  // namespace fr::cuda
