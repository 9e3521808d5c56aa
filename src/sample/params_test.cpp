// Validation messages, defaults and names of the sampler parameters.
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <string>

#include "sample/sampler.h"

namespace fr {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

TEST(SamplerParams, DefaultsOfEveryProfileAreValid) {
  for (const auto profile : {SamplerProfile::rwkv, SamplerProfile::albatross, SamplerProfile::ai00}) {
    const SamplerParams params = default_params(profile);
    EXPECT_EQ(params.profile, profile);
    EXPECT_TRUE(validate(params, 65536).ok());
    EXPECT_EQ(*parse_profile(profile_name(profile)), profile);
  }
  EXPECT_EQ(default_params(SamplerProfile::rwkv), SamplerParams{});
  EXPECT_EQ(default_params(SamplerProfile::albatross).top_k, 500);
}

TEST(SamplerParams, UnknownProfileIsAnError) {
  const auto profile = parse_profile("nucleus");
  ASSERT_FALSE(profile.ok());
  EXPECT_EQ(profile.error().code, ErrorCode::usage);
  EXPECT_EQ(profile.error().message, "unknown sampler \"nucleus\" (sampler): use rwkv, albatross or ai00");
}

TEST(SamplerParams, BadValuesAreErrorsThatNameThem) {
  struct Case {
    std::function<void(SamplerParams&)> change;
    std::string message;
  };
  const Case cases[] = {
      {[](auto& p) { p.temperature = -0.5; }, "temperature is -0.5 (sampler): "},
      {[](auto& p) { p.temperature = nan; }, "temperature is nan (sampler): "},
      {[](auto& p) { p.temperature = infinity; }, "temperature is inf (sampler): "},
      {[](auto& p) { p.top_k = -1; }, "top_k is -1 (sampler): "},
      {[](auto& p) { p.top_p = 1.5; }, "top_p is 1.5 (sampler): give a number from 0 to 1"},
      {[](auto& p) { p.top_p = nan; }, "top_p is nan (sampler): "},
      {[](auto& p) { p.min_p = -0.1; }, "min_p is -0.1 (sampler): "},
      {[](auto& p) { p.typical_p = 2; }, "typical_p is 2 (sampler): "},
      {[](auto& p) { p.presence_penalty = infinity; }, "presence_penalty is inf (sampler): "},
      {[](auto& p) { p.frequency_penalty = -1e5; },
       "frequency_penalty is -1e+05 (sampler): give a number from -10000"},
      {[](auto& p) { p.penalty_decay = 1.01; }, "penalty_decay is 1.01 (sampler): "},
      {[](auto& p) {
         p.logit_bias = {{10, 1}};
       },
       "logit_bias has token 10 (sampler): give ids from 0 to 9"},
      {[](auto& p) {
         p.logit_bias = {{3, static_cast<float>(nan)}};
       },
       "logit_bias of token 3 is nan (sampler): "},
      {[](auto& p) { p.banned = {-1}; }, "banned has token -1 (sampler): "},
      {[](auto& p) {
         p.penalty_exempt = {1, 99};
       },
       "penalty_exempt has token 99 (sampler): "},
  };
  for (const auto& c : cases) {
    SamplerParams params;
    c.change(params);
    const Status status = validate(params, 10);
    ASSERT_FALSE(status.ok()) << c.message;
    EXPECT_EQ(status.error().code, ErrorCode::usage);
    EXPECT_EQ(status.error().message.substr(0, c.message.size()), c.message);
    EXPECT_FALSE(Sampler::create(params, 10).ok());
  }
}

TEST(SamplerParams, LimitsThemselvesAreAllowed) {
  SamplerParams params;
  params.temperature = 0;
  params.top_k = std::numeric_limits<int>::max();
  params.top_p = params.min_p = params.typical_p = params.penalty_decay = 0;
  params.presence_penalty = -10000;
  params.logit_bias = {{9, 10000.0f}};
  params.banned = {0, 9};
  EXPECT_TRUE(validate(params, 10).ok());
}

}  // namespace
}  // namespace fr
