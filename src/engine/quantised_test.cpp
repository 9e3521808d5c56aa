// int8 and int4 weights in whole models: how far they are from fp32, that nothing depends on batching, and
// what cannot be loaded.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "engine/engine.h"
#include "engine/test_model.h"
#include "models/random_checkpoint.h"

namespace fr {
namespace {

RandomShape small(const std::string& version) {
  RandomShape shape;
  shape.version = version;
  shape.n_embd = 256;
  shape.n_ffn = 768;
  shape.n_vocab = 300;
  return shape;
}

std::shared_ptr<Engine> random_engine(const std::string& version, const std::string& strategy,
                                      LoadOptions options = {}) {
  auto file = random_checkpoint(small(version));
  FR_CHECK(file.ok());
  options.strategy = strategy;
  options.threads = 2;
  auto engine = Engine::make(std::move(*file), options);
  if (!engine.ok()) ADD_FAILURE() << engine.error().message;
  return *engine;
}

std::vector<std::int32_t> some_tokens(int n, int vocab) {
  std::vector<std::int32_t> tokens;
  for (int i = 0; i < n; ++i) tokens.push_back((i * 37 + i * i * 11) % vocab);
  return tokens;
}

// Logits of all tokens, fed in pieces.
std::vector<float> logits_of(State& state, std::span<const std::int32_t> tokens, std::size_t piece = 1000) {
  const auto vocab = static_cast<std::size_t>(state.engine()->info().n_vocab);
  std::vector<float> all;
  for (std::size_t at = 0; at < tokens.size(); at += piece) {
    const auto part = tokens.subspan(at, std::min(piece, tokens.size() - at));
    std::vector<float> logits(part.size() * vocab);
    const SequenceInput input{&state, part, Want::all};
    const Status status = state.engine()->step({&input, 1}, logits);
    EXPECT_TRUE(status.ok()) << status.error().message;
    all.insert(all.end(), logits.begin(), logits.end());
  }
  return all;
}

double relative_l2(std::span<const float> a, std::span<const float> b) {
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += (double{a[i]} - double{b[i]}) * (double{a[i]} - double{b[i]});
    norm += double{b[i]} * double{b[i]};
  }
  return std::sqrt(difference / norm);
}

// Mean over the rows of KL(p || q) in nats.
double divergence(std::span<const float> p, std::span<const float> q, std::size_t vocab) {
  double total = 0;
  for (std::size_t row = 0; row < p.size(); row += vocab) {
    double sum_p = 0, sum_q = 0, kl = 0;
    for (std::size_t i = row; i < row + vocab; ++i) {
      sum_p += std::exp(double{p[i]});
      sum_q += std::exp(double{q[i]});
    }
    for (std::size_t i = row; i < row + vocab; ++i) {
      const double log_p = double{p[i]} - std::log(sum_p), log_q = double{q[i]} - std::log(sum_q);
      kl += std::exp(log_p) * (log_p - log_q);
    }
    total += kl;
  }
  return total / static_cast<double>(p.size() / vocab);
}

class Quantised : public testing::TestWithParam<std::tuple<const char*, const char*>> {
 protected:
  std::string version() const { return std::get<0>(GetParam()); }
  std::string dtype() const { return std::get<1>(GetParam()); }
};
INSTANTIATE_TEST_SUITE_P(
    , Quantised, testing::Combine(testing::Values("4", "5.2", "6", "7"), testing::Values("int8", "int4")),
    [](const auto& i) { return "v" + std::string(1, std::get<0>(i.param)[0]) + "_" + std::get<1>(i.param); });

// The engine gives the same bits for pieces and in a batch; returns its logits.
std::vector<float> same_bits_anyhow(const std::shared_ptr<Engine>& engine) {
  const auto tokens = some_tokens(50, 300);
  State whole = new_state(engine);
  const std::vector<float> expected = logits_of(whole, tokens);
  for (const std::size_t piece : {std::size_t{1}, std::size_t{3}, std::size_t{17}}) {
    State state = new_state(engine);
    EXPECT_EQ(logits_of(state, tokens, piece), expected) << "pieces of " << piece;
    EXPECT_EQ(state.values(), whole.values());
  }
  // The same beside others in a batch.
  std::vector<State> states;
  for (int i = 0; i < 5; ++i) states.push_back(new_state(engine));
  std::vector<SequenceInput> inputs;
  for (State& s : states) inputs.push_back({&s, std::span(tokens).first(20 + inputs.size()), Want::last});
  std::vector<float> logits(5 * 300);
  EXPECT_TRUE(engine->step(inputs, logits).ok());
  for (std::size_t i = 0; i < 5; ++i) {
    EXPECT_TRUE(std::equal(logits.begin() + static_cast<std::ptrdiff_t>(i * 300),
                           logits.begin() + static_cast<std::ptrdiff_t>((i + 1) * 300),
                           expected.begin() + static_cast<std::ptrdiff_t>((19 + i) * 300)))
        << "sequence " << i;
  }
  return expected;
}

// The reference takes float32 inputs; inputs in 8 bits are a hundredth off in models of random weights.
TEST_P(Quantised, LogitsDoNotDependOnBatchingAndAreThoseOfTheReference) {
  const auto reference = random_engine(version(), "reference " + dtype());
  State other = new_state(reference);
  const std::vector<float> expected = logits_of(other, some_tokens(50, 300));
  LoadOptions options;
  options.deterministic = true;
  const auto rounding = random_engine(version(), "cpu " + dtype(), options);
  EXPECT_LT(relative_l2(same_bits_anyhow(rounding), expected), 2e-2);
  options.exact_activations = true;
  const auto exact = random_engine(version(), "cpu " + dtype(), options);
  EXPECT_LT(relative_l2(same_bits_anyhow(exact), expected), 3e-5);
}

// Bounds for random weights, which are the hardest; a trained model is far closer.
TEST_P(Quantised, DistributionsAreNearThoseOfFp32) {
  const auto tokens = some_tokens(60, 300);
  const auto exact = random_engine(version(), "cpu fp32"),
             engine = random_engine(version(), "cpu " + dtype());
  State a = new_state(exact), b = new_state(engine);
  const auto expected = logits_of(a, tokens), got = logits_of(b, tokens);
  const bool int8 = dtype() == "int8";
  EXPECT_LT(relative_l2(got, expected), int8 ? 4e-2 : 0.3);
  EXPECT_LT(divergence(expected, got, 300), int8 ? 1e-3 : 0.05);
  EXPECT_LT(engine->memory().weights, exact->memory().weights * (int8 ? 36 : 28) / 100);
}

TEST(QuantisedModel, NumbersThatDoNotFitAreErrors) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), 1e36f}) {
    for (const char* tensor : {"blocks.1.ffn.value.weight", "head.weight"}) {
      RandomOptions how;
      how.dtype = DType::f32;
      auto file = random_checkpoint(small("7"), how);
      ASSERT_TRUE(file.ok());
      const TensorView* t = file->find(tensor);
      ASSERT_NE(t, nullptr);
      std::memcpy(const_cast<std::byte*>(t->data) + 4 * 1000, &bad, 4);  // memory of this test's own
      LoadOptions options;
      options.strategy = "cpu int4";
      const auto engine = Engine::make(std::move(*file), options);
      ASSERT_FALSE(engine.ok()) << tensor;
      EXPECT_NE(engine.error().message.find(tensor), std::string::npos) << engine.error().message;
    }
  }
}

TEST(QuantisedModel, TrainedModelStaysItself) {
  const auto exact = shipped_engine("cpu fp32");
  const auto tokens =
      encode(*exact, "User: Tell me a short story about a dog named Max.\n\nAssistant: Max was");
  State state = new_state(exact);
  const auto expected = logits_of(state, tokens);
  for (const auto& [strategy, most] : {std::pair{"cpu int8", 1e-3}, {"cpu int4", 0.06}}) {
    State other = new_state(shipped_engine(strategy));
    EXPECT_LT(divergence(expected, logits_of(other, tokens), 4096), most) << strategy;
  }
}

TEST(QuantisedModel, TheDefaultIsSaidWhenItIsNotTheFiles) {
  std::vector<std::string> lines;
  set_log_sink([&](LogLevel, std::string_view line) { lines.emplace_back(line); });
  const auto fits = random_engine("7", "");
  set_log_sink({});
  EXPECT_EQ(strategy_string(fits->segments()), "cpu bf16");
  EXPECT_TRUE(lines.empty()) << lines.front();
}

}  // namespace
}  // namespace fr
