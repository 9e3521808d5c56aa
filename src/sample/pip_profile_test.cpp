// The profile `rwkv` against numbers that the PyPI package's own code gave (tools/sampler_goldens.py).
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "base/random.h"
#include "sample/sampler.h"

namespace fr {
namespace {

struct PipDistribution {
  double temperature, top_p;
  int top_k;
  std::uint64_t granularity;
  std::vector<TokenProb> kept;
};
struct PipSequence {
  double temperature, top_p;
  int top_k;
  double frequency, presence, decay;
  std::vector<int> tokens;
};
#include "sample/pip_goldens.inc"

// As make_logits in tools/sampler_goldens.py.
std::vector<float> make_logits(std::uint64_t number, int size, std::uint64_t granularity) {
  std::vector<float> logits;
  for (std::uint64_t i = 0; i < static_cast<std::uint64_t>(size); ++i)
    logits.push_back(static_cast<float>(mix64(number * 1000 + i) % (8 * granularity)) /
                         static_cast<float>(granularity) -
                     4.0f);
  return logits;
}

SamplerParams pip_params(double temperature, double top_p, int top_k) {
  SamplerParams params = default_params(SamplerProfile::rwkv);
  params.temperature = temperature;
  params.top_p = top_p;
  params.top_k = top_k;
  return params;
}

TEST(PipProfile, DistributionsEqualThoseOfThePackage) {
  for (std::size_t n = 0; n < pip_distributions.size(); ++n) {
    const auto& expected = pip_distributions[n];
    const auto sampler =
        Sampler::create(pip_params(expected.temperature, expected.top_p, expected.top_k), 32);
    const auto kept = sampler->distribution(make_logits(n, 32, expected.granularity));
    ASSERT_TRUE(kept.ok());
    ASSERT_EQ(kept->size(), expected.kept.size()) << "case " << n;
    for (std::size_t i = 0; i < kept->size(); ++i) {
      EXPECT_EQ((*kept)[i].id, expected.kept[i].id) << "case " << n;
      EXPECT_NEAR((*kept)[i].prob, expected.kept[i].prob, 1e-6) << "case " << n;  // theirs is float32
    }
  }
}

// The texts of ToyVocabulary in tools/sampler_goldens.py.
std::string toy_text(int id) {
  const std::vector<std::string> special = {" ", "\t", "12", "90", "", " \t0", "0 ", "a1"};
  if (id < 10) return std::to_string(id);
  if (id < 18) return special[static_cast<std::size_t>(id - 10)];
  return std::string(1, static_cast<char>(65 + id));
}

TEST(PipProfile, GenerationEqualsThatOfThePackage) {
  for (std::size_t n = 0; n < pip_sequences.size(); ++n) {
    const auto& expected = pip_sequences[n];
    SamplerParams params = pip_params(expected.temperature, expected.top_p, expected.top_k);
    params.frequency_penalty = expected.frequency;
    params.presence_penalty = expected.presence;
    params.penalty_decay = expected.decay;
    params.banned = {20, 31};
    params.seed = 0xfedcba9876543210u + n;
    for (int id = 0; id < 48; ++id)
      if (rwkv_penalty_exempt(toy_text(id))) params.penalty_exempt.push_back(id);
    Sampler sampler = *Sampler::create(params, 48);
    std::vector<int> tokens;
    std::uint64_t last = 1;  // the toy model: logits are a hash of the step and the previous token
    for (std::uint64_t step = 0; step < expected.tokens.size(); ++step) {
      const auto token = sampler.sample(make_logits(step * 64 + last, 48, 512));
      ASSERT_TRUE(token.ok());
      ASSERT_TRUE(sampler.accept(*token).ok());
      tokens.push_back(*token);
      last = static_cast<std::uint64_t>(*token);
    }
    EXPECT_EQ(tokens, expected.tokens) << "sequence " << n;
  }
}

TEST(PipProfile, ExemptTextsAreThePartsOfOneString) {
  for (const char* text : {"", " ", "\t", "0", "9", "12", "789", " \t0", "0123456789", " \t"})
    EXPECT_TRUE(rwkv_penalty_exempt(text)) << text;
  for (const char* text : {"10", "90", "a", "0 ", "\n", "1a", "  ", "\xef\xbf\xbd"})
    EXPECT_FALSE(rwkv_penalty_exempt(text)) << text;
}

}  // namespace
}  // namespace fr
