// The C++ wrapper over the C API, through the shared library.
#include <gtest/gtest.h>

#include <cmath>
#include <thread>

#include "faster_rwkv/fr.hpp"

namespace faster_rwkv {
namespace {

fr_sampler_params greedy() {
  fr_sampler_params p = fr_sampler_params_default();
  p.temperature = 0;
  p.presence_penalty = p.frequency_penalty = 0;
  return p;
}

const Model& shipped() {
  static const Model model;
  return model;
}

TEST(Api, TokenizerRoundTrips) {
  const Tokenizer world = Tokenizer::load();
  const std::string text = "Hello, 世界! \xff\xfe";
  EXPECT_EQ(world.decode(world.encode(text)), text);
  EXPECT_EQ(world.vocab_size(), 65530);
  EXPECT_THROW((void)world.decode({70000}), Error);
  EXPECT_TRUE(world.encode("").empty());
}

TEST(Api, StepsInABatchEqualStepsAlone) {
  const Model& model = shipped();
  const auto a = model.tokenizer().encode("Once upon a time"), b = model.tokenizer().encode("One day, a fox");
  State s1(model), s2(model), t1(model), t2(model);
  const std::vector<float> x = step(model, t1, a), y = step(model, t2, b, FR_WANT_ALL);
  const auto vocab = static_cast<std::size_t>(model.info().n_vocab);
  std::vector<float> logits(x.size() + y.size()), hidden((1 + b.size()) * 256);
  const fr_sequence both[] = {{s1.get(), a.data(), a.size(), FR_WANT_LAST},
                              {s2.get(), b.data(), b.size(), FR_WANT_ALL}};
  check(fr_step(model.get(), both, 2, logits.data(), logits.size(), hidden.data(), hidden.size()));
  EXPECT_TRUE(std::equal(x.begin(), x.end(), logits.begin()));
  EXPECT_TRUE(std::equal(y.begin(), y.end(), logits.begin() + static_cast<std::ptrdiff_t>(vocab)));
  EXPECT_EQ(s1.compare(t1), 0);
  EXPECT_EQ(s2.compare(t2), 0);
}

TEST(Api, StepSampleEqualsStepThenSample) {
  const Model& model = shipped();
  const auto prompt = model.tokenizer().encode("Once upon a time");
  fr_sampler_params params = fr_sampler_params_default();
  params.seed = 9;
  State s1(model), s2(model);
  Sampler a(model, params), b(model, params);
  std::int32_t next = prompt.back();
  std::vector<std::int32_t> feed = prompt, others = prompt;
  for (int i = 0; i < 20; ++i) {
    fr_sampler* samplers[] = {a.get()};
    const fr_sequence s{s1.get(), feed.data(), feed.size(), FR_WANT_NONE};
    check(fr_step_sample(model.get(), &s, 1, samplers, &next));
    const std::int32_t other = b.sample(step(model, s2, others).data());
    ASSERT_EQ(next, other);
    feed = others = {next};
  }
}

TEST(Api, StatesExportAndImport) {
  const Model& model = shipped();
  State a(model), b(model);
  step(model, a, {1803, 2418}, FR_WANT_NONE);
  const auto values = a.export_values(model);
  EXPECT_EQ(values.size(), 8u * (256 + 256 * 64 + 256));
  b.import_values(values);
  EXPECT_EQ(a.compare(b), 0);
  EXPECT_THROW(b.import_values({1.0f}), Error);
  EXPECT_EQ(a.clone().compare(a), 0);
  EXPECT_EQ(a.clone().tokens_seen(), 2u);
}

TEST(Api, RefusesStatesOfOtherModels) {
  const Model other;
  State foreign(other), own(shipped());
  const std::int32_t token = 1;
  const fr_sequence s{foreign.get(), &token, 1, FR_WANT_NONE};
  const fr_error e = fr_step(shipped().get(), &s, 1, nullptr, 0, nullptr, 0);
  EXPECT_EQ(e.code, FR_ERROR_USAGE);
  EXPECT_NE(std::string(e.message).find("another model"), std::string::npos);
  EXPECT_THROW(own.copy_from(foreign), Error);
}

TEST(Api, ExceptionsOfACallbackReachTheCaller) {
  State state(shipped());
  Sampler sampler(shipped(), greedy());
  const auto on_text = [](std::string_view) -> bool { throw std::runtime_error("mine"); };
  EXPECT_THROW(generate(shipped(), state, {1803}, sampler, fr_generate_options_default(), on_text),
               std::runtime_error);
}

TEST(Api, ChatsAnswer) {
  Chat chat(shipped());
  Sampler sampler(shipped(), greedy());
  const Generation reply = chat.send("What is 17 plus 25?", sampler, fr_generate_options_default());
  EXPECT_NE(reply.text.find("42"), std::string::npos) << reply.text;
  EXPECT_EQ(reply.result.finish, FR_FINISH_STOP);
  EXPECT_EQ(chat.template_name(), "world");
}

TEST(Api, SamplerParametersAreChecked) {
  fr_sampler_params p = fr_sampler_params_default();
  p.temperature = NAN;
  EXPECT_THROW(Sampler(shipped(), p), Error);
  p = fr_sampler_params_default();
  p.profile = "nosuch";
  EXPECT_THROW(Sampler(shipped(), p), Error);
  p = fr_sampler_params_default();
  const std::int32_t banned = 5000;
  p.banned = &banned;
  p.n_banned = 1;
  EXPECT_THROW(Sampler(shipped(), p), Error);
}

TEST(Api, OneModelServesSeveralThreads) {
  const auto prompt = shipped().tokenizer().encode("Once upon a time, there was a little");
  std::vector<std::string> texts(4);
  std::vector<std::thread> threads;
  for (std::string& text : texts) {
    threads.emplace_back([&] {
      State state(shipped());
      Sampler sampler(shipped(), greedy());
      fr_generate_options options = fr_generate_options_default();
      options.max_tokens = 20;
      text = generate(shipped(), state, prompt, sampler, options).text;
    });
  }
  for (std::thread& t : threads) t.join();
  for (const std::string& text : texts) EXPECT_EQ(text, texts[0]);
  EXPECT_TRUE(texts[0].starts_with(" girl named Lily."));
}

}  // namespace
}  // namespace faster_rwkv
