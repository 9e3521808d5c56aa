#include "engine/engine.h"

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "engine/generate.h"
#include "engine/test_model.h"

namespace fr {
namespace {

std::vector<float> logits_of(State& state, std::span<const std::int32_t> tokens, Want want = Want::all) {
  const std::size_t rows = want == Want::all ? tokens.size() : 1;
  std::vector<float> logits(rows * static_cast<std::size_t>(state.engine()->info().n_vocab));
  const SequenceInput input{&state, tokens, want};
  const Status status = state.engine()->step({&input, 1}, logits);
  EXPECT_TRUE(status.ok()) << status.error().message;
  return logits;
}

double relative_l2(std::span<const float> a, std::span<const float> b) {
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += (double{a[i]} - double{b[i]}) * (double{a[i]} - double{b[i]});
    norm += double{b[i]} * double{b[i]};
  }
  return std::sqrt(difference / norm);
}

const char* const text =
    "User: Tell me a short story about a dog named Max.\n\nAssistant: Max was a good dog. He liked to run.";

TEST(Engine, LogitsDoNotDependOnHowATextIsCut) {
  const auto engine = shipped_engine();
  const auto tokens = encode(*engine, text);
  State whole = new_state(engine);
  const std::vector<float> expected = logits_of(whole, tokens);
  for (const std::size_t piece : {std::size_t{1}, std::size_t{2}, std::size_t{7}, tokens.size() - 1}) {
    State state = new_state(engine);
    std::vector<float> actual;
    for (std::size_t at = 0; at < tokens.size(); at += piece) {
      const auto part = std::span(tokens).subspan(at, std::min(piece, tokens.size() - at));
      const auto logits = logits_of(state, part);
      actual.insert(actual.end(), logits.begin(), logits.end());
    }
    EXPECT_EQ(actual, expected) << "pieces of " << piece;
    EXPECT_EQ(state.values(), whole.values());
    EXPECT_EQ(state.tokens_seen(), tokens.size());
  }
}

TEST(Engine, LongPromptsRunInPieces) {
  const auto engine = shipped_engine();
  std::vector<std::int32_t> tokens(700);
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<std::int32_t>(i * 37 % 4000 + 1);
  State one = new_state(engine), many = new_state(engine);
  const std::vector<float> last = logits_of(one, tokens, Want::last);
  const std::vector<float> all = logits_of(many, tokens);
  EXPECT_TRUE(std::equal(last.begin(), last.end(), all.end() - static_cast<std::ptrdiff_t>(last.size())));
  EXPECT_EQ(one.values(), many.values());
}

TEST(Engine, BatchesAreIndependent) {
  const auto engine = shipped_engine();
  const auto tokens = encode(*engine, text);
  const auto a = std::span(tokens).first(9), b = std::span(tokens).subspan(9, 1),
             c = std::span(tokens).subspan(10);
  const std::span<const std::int32_t> parts[] = {a, b, c};
  std::vector<State> alone, together;
  std::vector<float> expected;
  for (const auto& part : parts) {
    alone.push_back(new_state(engine));
    together.push_back(new_state(engine));
    const auto logits = logits_of(alone.back(), part, Want::last);
    expected.insert(expected.end(), logits.begin(), logits.end());
  }
  std::vector<SequenceInput> inputs;
  for (std::size_t i = 0; i < 3; ++i) inputs.push_back({&together[i], parts[i], Want::last});
  std::vector<float> actual(expected.size());
  ASSERT_TRUE(engine->step(inputs, actual).ok());
  EXPECT_EQ(actual, expected);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(together[i].values(), alone[i].values());
}

TEST(Engine, StrategiesAgree) {
  const auto reference = shipped_engine("reference fp32");
  const auto tokens = encode(*reference, text);
  State state = new_state(reference);
  const std::vector<float> expected = logits_of(state, tokens);
  for (const char* strategy :
       {"cpu fp32", "cpu fp16", "cpu fp32 *3 -> cpu fp16", "cpu fp16 *1 -> reference fp32 *5 -> cpu fp32"}) {
    const auto engine = shipped_engine(strategy);
    State other = new_state(engine);
    EXPECT_LT(relative_l2(logits_of(other, tokens), expected), 5e-5)
        << strategy << ": the file is fp16, so all are exact";
    EXPECT_LT(relative_l2(other.values(), state.values()), 5e-5) << strategy;
  }
}

TEST(Engine, HiddenRowsGiveTheLogits) {
  const auto engine = shipped_engine();
  const auto tokens = encode(*engine, text);
  State state = new_state(engine), plain = new_state(engine);
  const std::vector<float> expected = logits_of(plain, tokens);
  std::vector<float> logits(expected.size()), hidden(tokens.size() * 256);
  const SequenceInput input{&state, tokens, Want::all};
  ASSERT_TRUE(engine->step({&input, 1}, logits, hidden).ok());
  EXPECT_EQ(logits, expected);
  EXPECT_NE(hidden[0], 0.0f);
}

TEST(Engine, ErrorsLeaveTheStateUntouched) {
  const auto engine = shipped_engine();
  State state = new_state(engine);
  const std::vector<float> before = state.values();
  std::vector<float> logits(4096 * 2);
  const std::vector<std::int32_t> tokens = {1, 4096};
  const SequenceInput wrong{&state, tokens, Want::all};
  const Status status = engine->step({&wrong, 1}, logits);
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.error().message.find("4096"), std::string::npos);
  const SequenceInput good{&state, std::span(tokens).first(1), Want::last};
  EXPECT_FALSE(engine->step({&good, 1}, std::span(logits).first(10)).ok());
  EXPECT_EQ(state.values(), before);
  EXPECT_EQ(state.tokens_seen(), 0u);
}

TEST(Engine, StatesAreLimitedAndReused) {
  LoadOptions options;
  options.strategy = "cpu fp16";
  options.max_states = 2;
  const auto engine = Engine::load(shipped_path(), options);
  ASSERT_TRUE(engine.ok());
  auto a = State::make(*engine);
  {
    auto b = State::make(*engine);
    ASSERT_TRUE(a.ok() && b.ok());
    feed(*b, std::vector<std::int32_t>{5, 6, 7});
    EXPECT_FALSE(State::make(*engine).ok());
  }
  auto c = State::make(*engine);
  ASSERT_TRUE(c.ok());
  EXPECT_EQ(c->values(), a->values()) << "a slot that is used again starts from the initial state";
}

TEST(Engine, StepsFromSeveralThreadsGiveTheSameText) {
  const auto engine = shipped_engine();
  const auto tokens = encode(*engine, text);
  State alone = new_state(engine);
  const std::vector<float> expected = logits_of(alone, tokens, Want::last);
  std::vector<std::vector<float>> results(4);
  std::vector<std::thread> threads;
  for (auto& result : results) {
    threads.emplace_back([&] {
      State state = new_state(engine);
      for (std::size_t i = 0; i < tokens.size(); ++i)
        result = logits_of(state, std::span(tokens).subspan(i, 1), Want::last);
    });
  }
  for (std::thread& t : threads) t.join();
  for (const auto& result : results) EXPECT_EQ(result, expected);
}

// What the official implementation makes of the shipped model (models/expected.json).
class Shipped : public testing::TestWithParam<const char*> {};

TEST_P(Shipped, GreedyTextEqualsTheOfficial) {
  std::ifstream in(std::string(FR_SOURCE_DIR) + "/models/expected.json");
  const auto expected = nlohmann::json::parse(in);
  const auto engine = shipped_engine(GetParam());
  for (const auto& prompt : expected["prompts"]) {
    const auto ids = encode(*engine, prompt["text"].get<std::string>());
    EXPECT_EQ(ids, prompt["ids"].get<std::vector<std::int32_t>>());
    State state = new_state(engine);
    Sampler sampler = greedy_sampler(*engine);
    GenerateOptions options;
    options.max_tokens = 80;
    const auto result = generate(state, ids, sampler, options, {});
    ASSERT_TRUE(result.ok()) << result.error().message;
    auto tokens = result->tokens;
    if (result->finish == Finish::stop) tokens.push_back(kEndOfText);  // the official list ends with it
    EXPECT_EQ(tokens, prompt["greedy_ids"].get<std::vector<std::int32_t>>());
    EXPECT_EQ(result->text, prompt["greedy_text"].get<std::string>());
  }
}
INSTANTIATE_TEST_SUITE_P(Strategies, Shipped, testing::Values("cpu fp32", "cpu fp16"),
                         [](const auto& i) { return std::string(i.param + 4); });

TEST(Engine, LossOfTheShippedModelEqualsTheOfficial) {
  std::ifstream in(std::string(FR_SOURCE_DIR) + "/../shared/models/val.txt", std::ios::binary);
  if (!in) GTEST_SKIP() << "the validation text (../shared/models/val.txt) is not here";
  const std::string all((std::istreambuf_iterator<char>(in)), {});
  std::ifstream expected_file(std::string(FR_SOURCE_DIR) + "/models/expected.json");
  const auto expected = nlohmann::json::parse(expected_file)["val"];
  const auto engine = shipped_engine("cpu fp16");
  std::vector<std::int32_t> ids;
  for (std::size_t at = 0; at < all.size();) {  // id 0 for every NUL byte
    const std::size_t end = std::min(all.find('\0', at), all.size());
    const auto part = encode(*engine, std::string_view(all).substr(at, end - at));
    ids.insert(ids.end(), part.begin(), part.end());
    ids.push_back(0);
    at = end + 1;
  }
  const auto n = expected["tokens"].get<std::size_t>();
  ids.resize(n + 1);  // n predictions
  State state = new_state(engine);
  double loss = 0;
  std::size_t counted = 0;
  constexpr std::size_t piece = 512;
  for (std::size_t at = 0; at < n; at += piece) {
    const auto logits = logits_of(state, std::span(ids).subspan(at, std::min(piece, n - at)));
    for (std::size_t row = 0; row * 4096 < logits.size(); ++row, ++counted) {
      const auto values = std::span(logits).subspan(row * 4096, 4096);
      const float top = *std::max_element(values.begin(), values.end());
      double sum = 0;
      for (const float v : values) sum += std::exp(double{v} - double{top});
      loss += std::log(sum) + double{top} - double{values[static_cast<std::size_t>(ids[at + row + 1])]};
    }
  }
  EXPECT_NEAR(loss / static_cast<double>(counted), expected["nll_per_token"].get<double>(), 1e-5)
      << counted << " tokens";
}

}  // namespace
}  // namespace fr
