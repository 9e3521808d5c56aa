#include "engine/generate.h"

#include "engine/test_model.h"

namespace fr {
namespace {

const char* const prompt = "Once upon a time, there was a little";
// Greedy: " girl named Lily. She loved to play with her toys all day long. One day, Lily's mom said, ..."

Generation run(State& state, const GenerateOptions& options, const OnText& on_text = {}) {
  Sampler sampler = greedy_sampler(*state.engine());
  auto result = generate(state, encode(*state.engine(), prompt), sampler, options, on_text);
  EXPECT_TRUE(result.ok()) << result.error().message;
  return std::move(*result);
}

// The promise: the state has seen the prompt and exactly the result's tokens, whose bytes are the text.
void expect_consistent(const State& state, const Generation& g) {
  State expected = new_state(state.engine());
  std::vector<std::int32_t> tokens = encode(*state.engine(), prompt);
  tokens.insert(tokens.end(), g.tokens.begin(), g.tokens.end());
  feed(expected, tokens);
  EXPECT_EQ(state.values(), expected.values()) << "text: " << g.text;
  EXPECT_EQ(state.tokens_seen(), tokens.size());
  EXPECT_EQ(state.engine()->tokenizer()->decode(g.tokens), g.text);
}

TEST(Generate, EndsAtTheLimit) {
  for (const int limit : {0, 1, 2, 15}) {
    State state = new_state(shipped_engine());
    GenerateOptions options;
    options.max_tokens = limit;
    const Generation g = run(state, options);
    EXPECT_EQ(g.finish, Finish::length);
    EXPECT_EQ(static_cast<int>(g.tokens.size()), limit);
    EXPECT_EQ(g.n_generated, limit);
    EXPECT_EQ(g.n_prompt, 9);
    expect_consistent(state, g);
  }
}

TEST(Generate, StopStringsEndTheTextWhereverTheyBegin) {
  const struct {
    const char* stop;
    const char* text;
  } cases[] = {{" long", " girl named Lily. She loved to play with her toys all day"},
               {"g. One", " girl named Lily. She loved to play with her toys all day lon"},
               {"oved to play", " girl named Lily. She l"},
               {"d named", nullptr},  // never comes
               {" girl", ""},
               {"irl", " g"},
               {"l named Lily. She loved to play with her toys all day long. O", " gir"}};
  for (const auto& c : cases) {
    State state = new_state(shipped_engine());
    GenerateOptions options;
    options.max_tokens = 30;
    options.stops = {"never in this text", c.stop};
    std::string streamed;
    const Generation g = run(state, options, [&](std::string_view t) {
      streamed += t;
      return true;
    });
    EXPECT_EQ(g.finish, c.text ? Finish::stop : Finish::length) << c.stop;
    if (c.text) {
      EXPECT_EQ(g.text, c.text);
    }
    EXPECT_EQ(streamed, g.text);
    expect_consistent(state, g);
  }
}

TEST(Generate, StopTokensAreNotPartOfTheText) {
  State state = new_state(shipped_engine());
  GenerateOptions options;
  options.stop_tokens = {47};  // "."
  const Generation g = run(state, options);
  EXPECT_EQ(g.finish, Finish::stop);
  EXPECT_EQ(g.text, " girl named Lily");
  EXPECT_EQ(g.n_generated, static_cast<int>(g.tokens.size()) + 1);
  expect_consistent(state, g);
}

TEST(Generate, CanBeCancelledAtAnyCall) {
  for (const int at : {1, 2, 5}) {
    State state = new_state(shipped_engine());
    int calls = 0;
    const Generation g = run(state, {}, [&](std::string_view) { return ++calls < at; });
    EXPECT_EQ(g.finish, Finish::cancelled);
    EXPECT_LE(g.tokens.size(), static_cast<std::size_t>(at));
    if (!g.tokens.empty()) expect_consistent(state, g);
  }
}

TEST(Generate, SameSeedSameTextForAnyThreads) {
  std::string texts[2];
  for (int i = 0; i < 2; ++i) {
    const auto engine = shipped_engine("cpu fp16", i + 1);
    State state = new_state(engine);
    SamplerParams params;
    params.seed = 42;
    auto sampler = Sampler::create(params, engine->info().n_vocab);
    ASSERT_TRUE(sampler.ok());
    auto g = generate(state, encode(*engine, prompt), *sampler, {}, {});
    ASSERT_TRUE(g.ok());
    texts[i] = g->text;
  }
  EXPECT_GT(texts[0].size(), 100u);
  EXPECT_EQ(texts[0], texts[1]);
}

TEST(Generate, RefusesAnEmptyPromptAndEmptyStops) {
  const auto engine = shipped_engine();
  State state = new_state(engine);
  Sampler sampler = greedy_sampler(*engine);
  EXPECT_FALSE(generate(state, {}, sampler, {}, {}).ok());
  GenerateOptions options;
  options.stops = {""};
  EXPECT_FALSE(generate(state, std::vector<std::int32_t>{1}, sampler, options, {}).ok());
}

}  // namespace
}  // namespace fr
