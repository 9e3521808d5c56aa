#include "common/settings.h"

#include <gtest/gtest.h>

namespace fr::app {
namespace {

using faster_rwkv::Error;

TEST(Settings, SetByName) {
  Settings s;
  EXPECT_TRUE(s.set("sampler", "ai00"));
  EXPECT_TRUE(s.set("temperature", "0.8"));
  EXPECT_TRUE(s.set("Top-P", "0.5"));
  EXPECT_TRUE(s.set("typical", "0.9"));
  EXPECT_TRUE(s.set("top_k", "40"));
  EXPECT_TRUE(s.set("max_tokens", "-1"));
  EXPECT_TRUE(s.set("seed", "18446744073709551615"));
  EXPECT_FALSE(s.set("colour", "red"));
  const fr_sampler_params p = s.sampler_params(7);
  EXPECT_EQ(p.temperature, 0.8);
  EXPECT_EQ(p.top_p, 0.5);
  EXPECT_EQ(p.typical_p, 0.9);
  EXPECT_EQ(p.top_k, 40);
  EXPECT_STREQ(p.profile, "ai00");
  EXPECT_EQ(p.seed, 7u);
  EXPECT_EQ(s.seed, 18446744073709551615u);
  std::vector<const char*> stops;
  s.stops = {"a", "b"};
  const fr_generate_options o = s.generate_options(stops);
  EXPECT_EQ(o.max_tokens, -1);
  ASSERT_EQ(o.n_stops, 2u);
  EXPECT_STREQ(o.stops[1], "b");
}

TEST(Settings, BadValuesAreNamed) {
  Settings s;
  for (const char* bad : {"", "x", "1x", "0,5", " 1"}) {
    EXPECT_THROW(s.set("temperature", bad), Error) << bad;
    EXPECT_THROW(s.set("top_k", bad), Error) << bad;
    EXPECT_THROW(s.set("seed", bad), Error) << bad;
  }
  try {
    s.set("top_k", "many");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), FR_ERROR_USAGE);
    EXPECT_STREQ(e.what(), "'many' is not a whole number (top_k)");
  }
  EXPECT_EQ(s.params.temperature, Settings().params.temperature);
}

TEST(Settings, EveryListedNameCanBeSetToItsValue) {
  Settings s;
  const auto listed = list_settings(s);
  EXPECT_EQ(listed.size(), 11u);
  for (const NamedValue& v : listed) EXPECT_TRUE(s.set(v.name, v.value)) << v.name;
  const auto again = list_settings(s);
  for (std::size_t i = 0; i < listed.size(); ++i) EXPECT_EQ(again[i].value, listed[i].value);
}

TEST(Settings, ASamplerBringsItsValues) {
  Settings s;
  s.set("temperature", "2");
  EXPECT_TRUE(s.set("sampler", "albatross"));
  fr_sampler_params expected;
  ASSERT_EQ(fr_sampler_params_for("albatross", &expected).code, FR_OK);
  EXPECT_EQ(s.params.temperature, expected.temperature);
  EXPECT_EQ(s.params.top_k, expected.top_k);
  EXPECT_THROW(s.set("sampler", "best"), Error);
  EXPECT_EQ(s.sampler, "albatross");
}

TEST(Settings, Seeds) {
  EXPECT_EQ(parse_seed("random"), std::nullopt);
  EXPECT_EQ(parse_seed("-1"), std::nullopt);
  EXPECT_EQ(parse_seed("0"), 0u);
  EXPECT_THROW(parse_seed("18446744073709551616"), Error);
  EXPECT_NE(random_seed(), random_seed());
}

TEST(Settings, LogitBias) {
  Settings s;
  for (const char* text : {"12+1.5", "13-2", "14=-2e1", "7=-inf"}) add_logit_bias(text, s);
  const fr_sampler_params p = s.sampler_params(0);
  ASSERT_EQ(p.n_logit_bias, 3u);
  EXPECT_EQ(p.logit_bias[0].token, 12);
  EXPECT_FLOAT_EQ(p.logit_bias[0].bias, 1.5f);
  EXPECT_FLOAT_EQ(p.logit_bias[1].bias, -2.0f);
  EXPECT_FLOAT_EQ(p.logit_bias[2].bias, -20.0f);
  ASSERT_EQ(p.n_banned, 1u);
  EXPECT_EQ(p.banned[0], 7);
  for (const char* bad : {"", "12", "12+", "+1", "a=1", "1=b", "1==2", "99999999999=1"}) {
    EXPECT_THROW(add_logit_bias(bad, s), Error) << bad;
  }
}

TEST(Settings, Switches) {
  EXPECT_TRUE(parse_switch("verbose", "On"));
  EXPECT_FALSE(parse_switch("verbose", "no"));
  EXPECT_THROW(parse_switch("verbose", "maybe"), Error);
}

TEST(Settings, InlineOnesHoldForOneMessage) {
  Settings s;
  std::string message = "-temp=0.2 Tell me -top_p=0.9 more";
  take_inline_settings(message, s);
  EXPECT_EQ(message, "Tell me  more");
  EXPECT_EQ(s.params.temperature, 0.2);
  EXPECT_EQ(s.params.top_p, 0.9);
  // Not words of their own, or no numbers: part of the message.
  const Settings before;
  Settings untouched;
  for (const char* text : {"what does x-temp=2 do", "what is -temp=hot", "a -temperature=1"}) {
    message = text;
    take_inline_settings(message, untouched);
    EXPECT_EQ(message, text);
    EXPECT_EQ(untouched.params.temperature, before.params.temperature);
  }
}

}  // namespace
}  // namespace fr::app
