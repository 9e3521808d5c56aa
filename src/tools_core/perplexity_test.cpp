#include "tools_core/perplexity.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

namespace fr {
namespace {

const std::string text("Once upon a time, there was a little girl. She had a dog.\0One day it rained.\n", 77);

PerplexityOptions quick(const std::string& strategy = "cpu fp32") {
  PerplexityOptions options;
  options.load.strategy = strategy;
  options.load.threads = 1;
  return options;
}

// The sum over the logits of single steps.
TEST(Perplexity, IsTheMeanOverAllPositions) {
  const auto report = run_perplexity(quick(), text);
  ASSERT_TRUE(report.ok()) << report.error().message;
  LoadOptions load;
  load.strategy = "cpu fp32";
  const auto engine = Engine::load(report->model, load);
  ASSERT_TRUE(engine.ok());
  const auto tokenizer = (*engine)->tokenizer();
  const auto first = tokenizer->encode(text.substr(0, text.find('\0'))),
             second = tokenizer->encode(text.substr(text.find('\0') + 1));
  ASSERT_TRUE(first.ok() && second.ok());
  std::vector<std::int32_t> tokens = *first;
  tokens.push_back(kEndOfText);
  tokens.insert(tokens.end(), second->begin(), second->end());
  auto state = State::make(*engine);
  ASSERT_TRUE(state.ok());
  std::vector<float> logits(static_cast<std::size_t>((*engine)->info().n_vocab));
  double nll = 0;
  for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
    const SequenceInput input{&*state, std::span(tokens).subspan(i, 1), Want::last};
    ASSERT_TRUE((*engine)->step({&input, 1}, logits).ok());
    double sum = 0;
    for (const float x : logits) sum += std::exp(double{x});
    nll += std::log(sum) - double{logits[static_cast<std::size_t>(tokens[i + 1])]};
  }
  EXPECT_EQ(report->tokens, tokens.size() - 1);
  EXPECT_EQ(report->documents, 2u);
  EXPECT_EQ(report->bytes, text.size() - tokenizer->token_bytes(tokens[0]).size());
  EXPECT_NEAR(report->nll, nll / static_cast<double>(report->tokens), 1e-5);
  EXPECT_NEAR(report->bits_per_byte() * std::log(2.0), nll / static_cast<double>(report->bytes), 1e-5);
  EXPECT_FALSE(report->distance);
}

TEST(Perplexity, DoesNotDependOnTheChunk) {
  PerplexityOptions options = quick();
  const auto whole = run_perplexity(options, text);
  options.chunk = 3;
  const auto pieces = run_perplexity(options, text);
  ASSERT_TRUE(whole.ok() && pieces.ok());
  EXPECT_EQ(whole->nll, pieces->nll);
}

TEST(Perplexity, ComparesTwoModels) {
  PerplexityOptions options = quick();
  options.other_strategy = "cpu fp32";
  const auto same = run_perplexity(options, text);
  ASSERT_TRUE(same.ok()) << same.error().message;
  ASSERT_TRUE(same->distance);
  EXPECT_NEAR(same->distance->kl, 0, 1e-12);
  EXPECT_EQ(same->distance->top1_agreement, 1);
  EXPECT_DOUBLE_EQ(same->distance->perplexity, same->perplexity());
  options.load.strategy = "cpu bf16";
  const auto other = run_perplexity(options, text);
  ASSERT_TRUE(other.ok()) << other.error().message;
  EXPECT_GT(other->distance->kl, 1e-9);
  EXPECT_LT(other->distance->kl, 1e-2);
  EXPECT_EQ(other->distance->perplexity, same->perplexity());
}

TEST(Perplexity, RefusesTooLittleText) {
  EXPECT_EQ(run_perplexity(quick(), "").error().code, ErrorCode::usage);
  EXPECT_EQ(run_perplexity(quick(), "a").error().code, ErrorCode::usage);
  PerplexityOptions options = quick();
  options.max_tokens = 1;
  EXPECT_EQ(run_perplexity(options, text).error().code, ErrorCode::usage);
  options = quick();
  options.progress = [](auto, auto, auto) { return false; };
  EXPECT_EQ(run_perplexity(options, text).error().code, ErrorCode::interrupted);
}

// The loss that the official implementation gives.
TEST(Perplexity, AgreesWithTheOfficialImplementation) {
  const std::string path = std::string(FR_SOURCE_DIR) + "/../shared/models/val.txt";
  std::ifstream file(path, std::ios::binary);
  if (!file) GTEST_SKIP() << "SKIPPED, not compared with the official loss: " << path << " is absent";
  const std::string val(std::istreambuf_iterator<char>(file), {});
  PerplexityOptions options = quick();
  options.load.threads = 2;
  options.max_tokens = 8193;  // 8192 of them predicted
  const auto report = run_perplexity(options, val);
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_NEAR(report->nll, 2.5448357465814158, 1e-6);
}

}  // namespace
}  // namespace fr
