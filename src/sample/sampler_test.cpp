// The sampler's filters and draws: against a plain reimplementation of the rules, pinned tokens, statistics.
#include "sample/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>

#include "base/random.h"
#include "sample/test_logits.h"

namespace fr {
namespace {

using Profile = SamplerProfile;
constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr Profile profiles[] = {Profile::rwkv, Profile::albatross, Profile::ai00};

// The rules of sampler.h written down naively: sort everything, long double, libm.
struct Candidate {
  int id;
  long double t;  // logit relative to the best
  long double p;  // probability that the filters see
};
std::vector<TokenProb> naive_distribution(const SamplerParams& params, const std::vector<float>& logits) {
  const long double temperature = params.temperature;
  const long double seen_at = params.profile == Profile::albatross ? temperature : 1;
  const float max = *std::max_element(logits.begin(), logits.end());
  std::vector<Candidate> list;
  for (std::size_t i = 0; i < logits.size(); ++i)
    if (logits[i] > -infinity)
      list.push_back({static_cast<int>(i), static_cast<long double>(logits[i]) - max, 0});
  std::stable_sort(list.begin(), list.end(), [](const auto& a, const auto& b) { return a.t > b.t; });
  const auto normalise = [&] {
    long double sum = 0;
    for (auto& c : list) sum += c.p = std::exp(c.t / seen_at);
    for (auto& c : list) c.p /= sum;
  };
  const std::size_t k = static_cast<std::size_t>(params.top_k);
  if (params.profile != Profile::albatross) normalise();
  if (k > 0 && k < list.size() && params.profile != Profile::rwkv) list.resize(k);
  if (params.profile == Profile::albatross) normalise();
  if (params.top_p < 1) {
    std::size_t n = 0;
    for (long double mass = 0; n < list.size();) {
      mass += list[n++].p;
      if (params.profile == Profile::ai00 ? mass > params.top_p : mass >= params.top_p) break;
    }
    while (params.profile == Profile::rwkv && n < list.size() && list[n].t == list[n - 1].t) ++n;
    list.resize(n);
  }
  if (k > 0 && k < list.size()) list.resize(k);
  std::erase_if(list, [&](const auto& c) { return std::exp(c.t / seen_at) < params.min_p; });
  if (params.typical_p < 1) {
    normalise();
    long double entropy = 0, mass = 0;
    for (const auto& c : list) entropy -= c.p > 0 ? c.p * std::log(c.p) : 0;
    const auto distance = [&](const auto& c) { return std::fabs(-std::log(c.p) - entropy); };
    std::stable_sort(list.begin(), list.end(),
                     [&](const auto& a, const auto& b) { return distance(a) < distance(b) - 1e-15L; });
    std::size_t n = 0;
    while (n < list.size() && (n == 0 || mass < params.typical_p)) mass += list[n++].p;
    while (n < list.size() && distance(list[n]) < distance(list[n - 1]) + 1e-15L) ++n;
    list.resize(n);
  }
  std::sort(list.begin(), list.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  long double sum = 0;
  for (const auto& c : list) sum += std::exp(c.t / temperature);
  std::vector<TokenProb> result;
  for (const auto& c : list) result.push_back({c.id, static_cast<double>(std::exp(c.t / temperature) / sum)});
  return result;
}

void expect_naive(const SamplerParams& params, const std::vector<float>& logits) {
  const auto sampler = Sampler::create(params, static_cast<int>(logits.size()));
  ASSERT_TRUE(sampler.ok());
  const auto got = sampler->distribution(logits);
  ASSERT_TRUE(got.ok());
  const auto expected = naive_distribution(params, logits);
  ASSERT_EQ(got->size(), expected.size());
  double sum = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    ASSERT_EQ((*got)[i].id, expected[i].id);
    ASSERT_NEAR((*got)[i].prob, expected[i].prob, 1e-13);
    sum += (*got)[i].prob;
  }
  ASSERT_NEAR(sum, 1, 1e-12);
}

TEST(Sampler, DistributionEqualsThePlainRules) {
  int cases = 0;
  for (const Profile profile : profiles) {
    for (std::uint64_t n = 0; n < 200; ++n) {
      auto pick = [&, draw = std::uint64_t{0}](std::initializer_list<double> values) mutable {
        return values.begin()[random_bits(n, 1000 + draw++) % values.size()];
      };
      SamplerParams p = plain(profile);
      p.temperature = pick({0.1, 0.7, 1.0, 1.0, 1.8, 5.0});
      p.top_k = static_cast<int>(pick({0, 0, 1, 2, 7, 40, 500}));
      p.top_p = pick({1.0, 0.0, 0.1, 0.3, 0.5, 0.85, 0.97, 0.9999});
      p.min_p = pick({0.0, 0.0, 0.02, 0.3, 1.0});
      p.typical_p = pick({1.0, 1.0, 0.9, 0.5, 0.1});
      const int size = static_cast<int>(pick({1, 2, 9, 100, 1500}));
      auto logits =
          make_logits(n, size, static_cast<int>(pick({4, 12, 60})), static_cast<int>(pick({1, 8192})));
      if (size > 2) logits[static_cast<std::size_t>(size) / 2] = -infinity;
      SCOPED_TRACE(std::string(profile_name(profile)) + " case " + std::to_string(n));
      expect_naive(p, logits);
      if (HasFatalFailure()) return;
      ++cases;
    }
  }
  EXPECT_EQ(cases, 600);
}

TEST(Sampler, ProfilesDifferWhereTheyShould) {
  // probabilities 0.4 0.3 0.2 0.1, then two equal ones
  const std::vector<float> logits = {std::log(4.0f), std::log(3.0f), std::log(2.0f), std::log(1.0f)};
  const auto kept = [&](Profile profile, double temperature, double top_p, int top_k,
                        const std::vector<float>& row) {
    SamplerParams p = plain(profile);
    p.temperature = temperature;
    p.top_p = top_p;
    p.top_k = top_k;
    return Sampler::create(p, static_cast<int>(row.size()))->distribution(row)->size();
  };
  // temperature 3 flattens what top-p sees in albatross only
  EXPECT_EQ(kept(Profile::rwkv, 3, 0.65, 0, logits), 2u);
  EXPECT_EQ(kept(Profile::albatross, 3, 0.65, 0, logits), 3u);
  EXPECT_EQ(kept(Profile::ai00, 3, 0.65, 0, logits), 2u);
  // albatross counts the mass inside the top k (0.4 of 0.9), the others in the vocabulary
  EXPECT_EQ(kept(Profile::rwkv, 1, 0.42, 3, logits), 2u);
  EXPECT_EQ(kept(Profile::albatross, 1, 0.42, 3, logits), 1u);
  // equals of the last kept token: all of them, one, and one more since 0.5 reached is not 0.5 exceeded
  const std::vector<float> equal(4, 1.5f);
  EXPECT_EQ(kept(Profile::rwkv, 1, 0.5, 0, equal), 4u);
  EXPECT_EQ(kept(Profile::albatross, 1, 0.5, 0, equal), 2u);
  EXPECT_EQ(kept(Profile::ai00, 1, 0.5, 0, equal), 3u);
  EXPECT_EQ(kept(Profile::rwkv, 1, 0.5, 3, equal), 3u);
}

TEST(Sampler, ZeroesAndSignsMakeNoDifference) {
  SamplerParams p = plain(Profile::albatross);
  p.top_k = 2;
  const auto sampler = Sampler::create(p, 4);
  const auto kept = sampler->distribution(std::vector<float>{-1.0f, 0.0f, -0.0f, 0.0f});
  ASSERT_EQ(kept->size(), 2u);
  EXPECT_EQ((*kept)[0], (TokenProb{1, 0.5}));
  EXPECT_EQ((*kept)[1], (TokenProb{2, 0.5}));
}

TEST(Sampler, PinnedTokens) {
  const std::map<Profile, std::vector<int>> expected = {
      {Profile::rwkv, {44, 405, 309, 10,   1561, 93,   282,  636,  1574, 1266, 1192, 135,
                       81, 279, 132, 1084, 1362, 1621, 1377, 1603, 217,  979,  1337, 963}},
      {Profile::albatross, {44, 386, 299, 10,   1533, 93,   282,  680,  1574, 1266, 1173, 135,
                            87, 258, 133, 1120, 1362, 1621, 1377, 1616, 217,  979,  1372, 963}},
      {Profile::ai00, {42, 423, 298, 7,    1561, 98,   289,  636,  1540, 1223, 1197, 135,
                       87, 296, 95,  1048, 1376, 1538, 1425, 1603, 223,  1001, 1372, 1032}},
  };
  for (const Profile profile : profiles) {
    SamplerParams p = default_params(profile);
    p.seed = 0x123456789abcdef0u;
    p.temperature = 1.2;
    p.top_p = 0.9;
    p.typical_p = 0.98;
    Sampler sampler = *Sampler::create(p, 2000);
    std::vector<int> tokens;
    for (std::uint64_t step = 0; step < 24; ++step) {
      tokens.push_back(*sampler.sample(make_logits(step, 2000, 20, 4096)));
      ASSERT_TRUE(sampler.accept(tokens.back()).ok());
    }
    EXPECT_EQ(tokens, expected.at(profile)) << profile_name(profile);
  }
}

TEST(Sampler, FrequenciesFollowTheDistribution) {
  for (const Profile profile : profiles) {
    SamplerParams p = plain(profile);
    p.temperature = 0.8;
    p.top_k = 12;
    p.seed = 5;
    Sampler sampler = *Sampler::create(p, 20);
    const auto logits = make_logits(3, 20, 4, 4096);
    const auto expected = sampler.distribution(logits);
    ASSERT_EQ(expected->size(), 12u);
    const int draws = 30000;
    std::map<int, int> counts;
    for (int i = 0; i < draws; ++i) ++counts[*sampler.sample(logits)];
    EXPECT_EQ(counts.size(), 12u);
    double chi2 = 0;
    for (const auto& [id, prob] : *expected) chi2 += std::pow(counts[id] - draws * prob, 2) / (draws * prob);
    EXPECT_LT(chi2, 31.3) << profile_name(profile);  // 11 degrees of freedom: 99.9 % lie below
    EXPECT_GT(chi2, 1.5);
  }
}

TEST(Sampler, GreedyIsTheLowestIdOfTheBest) {
  for (const Profile profile : profiles) {
    SamplerParams p = plain(profile);
    p.temperature = 0;
    Sampler sampler = *Sampler::create(p, 6);
    EXPECT_EQ(*sampler.sample(std::vector<float>{1, 3, 3, -infinity, 3, 2}), 1);
    EXPECT_EQ(sampler.state().step, 1u);
    EXPECT_EQ(*sampler.distribution(std::vector<float>{1, 3, 3, 0, 3, 2}),
              (std::vector<TokenProb>{{1, 1.0}}));
    p.logit_bias = {{5, 0.75f}, {5, 0.5f}};
    p.banned = {1};
    ASSERT_TRUE(sampler.set_params(p).ok());
    EXPECT_EQ(*sampler.sample(std::vector<float>{1, 3, 3, 0, 3, 2}), 5);
  }
}

TEST(Sampler, ExtremeTemperaturesAndLogitsStayFinite) {
  const std::vector<float> logits = {-3e38f, 3e38f, 3e38f, 0, -infinity};
  for (const Profile profile : profiles) {
    for (const double temperature : {1e-6, 1e-3, 1e300}) {
      SamplerParams p = plain(profile);
      p.temperature = temperature;
      for (const double typical : {1.0, 0.3}) {
        p.typical_p = typical;
        Sampler sampler = *Sampler::create(p, 5);
        for (int i = 0; i < 50; ++i) EXPECT_NE(*sampler.sample(logits), 4);
        const auto kept = sampler.distribution(logits);
        double sum = 0;
        for (const auto& entry : *kept) sum += entry.prob;
        EXPECT_NEAR(sum, 1, 1e-15);
      }
    }
  }
}

TEST(Sampler, TypicalMayDropTheBestAndSmallTemperaturesStillWork) {
  // one token with 0.4, then sixty of 0.01 each: the entropy is nearer to the small ones
  std::vector<float> logits(61, 0.0f);
  logits[0] = std::log(40.0f);
  SamplerParams p = plain(Profile::rwkv);
  p.typical_p = 0.5;
  p.temperature = 1e-3;
  const auto kept = Sampler::create(p, 61)->distribution(logits);
  ASSERT_EQ(kept->size(), 60u);
  EXPECT_NEAR((*kept)[0].prob, 1.0 / 60, 1e-15);
  EXPECT_EQ((*kept)[0].id, 1);
}

TEST(Sampler, WholeVocabularyOf65536) {
  SamplerParams p = plain(Profile::rwkv);
  p.top_p = 0.9;
  expect_naive(p, make_logits(9, 65536, 30, 4096));
  p.top_p = 1;
  Sampler sampler = *Sampler::create(p, 65536);
  const auto logits = make_logits(9, 65536, 2, 4096);
  for (int i = 0; i < 20; ++i) EXPECT_LT(*sampler.sample(logits), 65536);
}

}  // namespace
}  // namespace fr
