// What a sampler remembers and refuses: penalties against their formulas, copies, saved states, errors.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "base/random.h"
#include "sample/sampler.h"
#include "sample/test_logits.h"

namespace fr {
namespace {

using Profile = SamplerProfile;
constexpr float infinity = std::numeric_limits<float>::infinity();

TEST(Sampler, BadLogitsAreErrorsAndChangeNothing) {
  SamplerParams p = plain(Profile::rwkv);
  p.banned = {2};
  Sampler sampler = *Sampler::create(p, 3);
  const Sampler before = sampler;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto message = [&](const std::vector<float>& logits) {
    const auto token = sampler.sample(logits);
    EXPECT_FALSE(token.ok());
    return token.ok() ? "" : token.error().message;
  };
  EXPECT_EQ(message({0, nan, 0}).find("logit of token 1 is not a number (sampling)"), 0u);
  EXPECT_EQ(message({0, 0, nan}).find("logit of token 2 is not a number (sampling)"),
            0u);  // though it is banned
  EXPECT_EQ(message({infinity, 0, 0}).find("logit of token 0 is infinite (sampling)"), 0u);
  EXPECT_EQ(message({-infinity, -infinity, 5}).find("every token is banned (sampling)"), 0u);
  EXPECT_EQ(message({0, 0}).find("2 logits for a vocabulary of 3 (sampling)"), 0u);
  EXPECT_EQ(message({}).find("0 logits for a vocabulary of 3 (sampling)"), 0u);
  EXPECT_FALSE(sampler.accept(3).ok());
  EXPECT_FALSE(sampler.accept(-1).ok());
  EXPECT_TRUE(sampler == before);
}

// ln p(id) relative to token 0, which the test below never accepts.
std::vector<double> relative_log_probs(const Sampler& sampler, const std::vector<float>& logits) {
  std::vector<double> result;
  const auto probs = sampler.distribution(logits);
  for (const auto& entry : *probs) result.push_back(std::log(entry.prob / (*probs)[0].prob));
  return result;
}

TEST(Sampler, PenaltiesFollowTheirFormulas) {
  const int vocab = 8;
  const double presence = 0.4, frequency = 0.7, decay = 0.9;
  for (const Profile profile : {Profile::rwkv, Profile::albatross, Profile::ai00}) {
    SamplerParams p = plain(profile);
    p.presence_penalty = presence;
    p.frequency_penalty = frequency;
    p.penalty_decay = decay;
    p.penalty_exempt = {2, 3};
    Sampler sampler = *Sampler::create(p, vocab);
    const std::vector<float> logits(vocab, 0.0f);
    std::vector<int> history;
    for (std::uint64_t step = 0; step < 60; ++step) {
      // Direct formulas over the whole history: each occurrence decays once per later token.
      const auto got = relative_log_probs(sampler, logits);
      for (int id = 1; id < vocab; ++id) {
        double count = 0, value = 0;
        bool seen = false;
        for (std::size_t i = 0; i < history.size(); ++i) {
          if (history[i] != id) continue;
          const double weight = std::pow(decay, static_cast<double>(history.size() - 1 - i));
          const bool exempt = profile == Profile::rwkv && (id == 2 || id == 3);
          count += exempt ? 0 : weight;
          value += (seen ? frequency : presence) * weight;
          seen = true;
        }
        const double penalty = !seen ? 0 : profile == Profile::ai00 ? value : presence + count * frequency;
        EXPECT_NEAR(got[static_cast<std::size_t>(id)], -penalty, 1e-6)
            << profile_name(profile) << " id " << id;
      }
      const int token = 1 + static_cast<int>(random_bits(11, step) % 5);  // 6 and 7 never occur
      history.push_back(token);
      ASSERT_TRUE(sampler.accept(token).ok());
    }
  }
}

TEST(Sampler, SampleAloneCountsNothing) {
  Sampler sampler = *Sampler::create(default_params(Profile::rwkv), 4);
  ASSERT_TRUE(sampler.sample(std::vector<float>(4, 0.0f)).ok());
  EXPECT_TRUE(sampler.state().seen.empty());
}

TEST(Sampler, CopiesContinueAlikeAndIndependently) {
  SamplerParams p = default_params(Profile::ai00);
  p.top_p = 0.95;
  p.seed = 77;
  Sampler one = *Sampler::create(p, 300);
  const auto step = [](Sampler& s, std::uint64_t n) {
    const int token = *s.sample(make_logits(n, 300, 8, 512));
    EXPECT_TRUE(s.accept(token).ok());
    return token;
  };
  for (std::uint64_t n = 0; n < 10; ++n) step(one, n);
  Sampler two = one, three = *Sampler::create(p, 300);
  ASSERT_TRUE(three.restore(one.state()).ok());
  EXPECT_TRUE(one == two);
  EXPECT_TRUE(one == three);
  for (std::uint64_t n = 10; n < 30; ++n) {
    const int token = step(one, n);
    EXPECT_FALSE(one == two);
    EXPECT_EQ(step(two, n), token);
    EXPECT_EQ(step(three, n), token);
  }
  two.reset();
  EXPECT_EQ(two, *Sampler::create(p, 300));
}

TEST(Sampler, AnotherSeedGivesOtherTokens) {
  SamplerParams p = plain(Profile::rwkv);
  Sampler one = *Sampler::create(p, 1000);
  p.seed = 1;
  Sampler two = *Sampler::create(p, 1000);
  const auto logits = make_logits(1, 1000, 2, 512);
  int equal = 0;
  for (int i = 0; i < 50; ++i) equal += *one.sample(logits) == *two.sample(logits) ? 1 : 0;
  EXPECT_LT(equal, 5);
}

TEST(Sampler, DamagedStatesAreRefused) {
  Sampler sampler = *Sampler::create(SamplerParams{}, 10);
  ASSERT_TRUE(sampler.accept(4).ok());
  const Sampler before = sampler;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  using Seen = std::vector<SamplerState::Seen>;
  for (const Seen& seen :
       {Seen{{10, 1}}, Seen{{-1, 1}}, Seen{{2, 1}, {3, 1}, {2, 1}}, Seen{{2, nan}}, Seen{{2, 1e13}}}) {
    const Status status = sampler.restore({7, seen});
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().message.find("sampler state has a bad entry for token "), 0u);
  }
  EXPECT_TRUE(sampler == before);
}

TEST(Sampler, NewParametersKeepTheHistoryIfItStillMeansTheSame) {
  Sampler sampler = *Sampler::create(default_params(Profile::rwkv), 10);
  ASSERT_TRUE(sampler.accept(4).ok());
  SamplerParams bad;
  bad.top_p = 7;
  EXPECT_FALSE(sampler.set_params(bad).ok());
  EXPECT_EQ(sampler.params(), default_params(Profile::rwkv));
  ASSERT_TRUE(sampler.set_params(default_params(Profile::albatross)).ok());
  EXPECT_EQ(sampler.state().seen.size(), 1u);
  ASSERT_TRUE(sampler.set_params(default_params(Profile::ai00)).ok());
  EXPECT_TRUE(sampler.state().seen.empty());
}

}  // namespace
}  // namespace fr
