// Tokens of an engine whose last device draws them: those that its logits give on the host.
#include "engine/engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "models/random_checkpoint.h"

namespace fr {
namespace {

constexpr int vocab = 300;

std::shared_ptr<Engine> cuda_engine() {
  setenv("FRWKV_CUDA_LIBRARY", FR_EMULATED_LIBRARY, 1);
  RandomShape shape;
  shape.n_layer = 1;
  shape.n_embd = 64;
  shape.n_ffn = 64;
  shape.n_vocab = vocab;
  shape.rank_w = shape.rank_a = shape.rank_v = shape.rank_g = 8;
  auto file = random_checkpoint(shape);
  FR_CHECK(file.ok());
  LoadOptions options;
  options.strategy = "cuda fp32";
  auto engine = Engine::make(std::move(*file), options);
  if (!engine.ok()) ADD_FAILURE() << engine.error().message;
  return engine.ok() ? *engine : nullptr;
}

// Sequences with samplers of different profiles and seeds.
struct Sequences {
  Sequences(const std::shared_ptr<Engine>& engine, int count) {
    for (int i = 0; i < count; ++i) {
      SamplerParams p = default_params(static_cast<SamplerProfile>(i % 3));
      p.seed = static_cast<std::uint64_t>(i);
      p.top_p = 0.95;
      p.logit_bias = {{i, 2.0f}};
      p.banned = {299, 7};
      samplers.push_back(std::move(*Sampler::create(p, vocab)));
      states.push_back(std::move(*State::make(engine)));
    }
  }
  std::vector<SequenceInput> inputs(const std::vector<std::vector<std::int32_t>>& tokens) {
    std::vector<SequenceInput> all;
    for (std::size_t i = 0; i < states.size(); ++i) all.push_back({&states[i], tokens[i], Want::last});
    return all;
  }
  // By the device.
  std::vector<std::int32_t> step(const std::vector<std::vector<std::int32_t>>& tokens) {
    std::vector<Sampler*> all;
    for (Sampler& s : samplers) all.push_back(&s);
    std::vector<std::int32_t> drawn(states.size(), -1);
    const Status s = states[0].engine()->step_sample(inputs(tokens), all, drawn);
    EXPECT_TRUE(s.ok()) << s.error().message;
    return drawn;
  }
  // By the samplers.
  std::vector<std::int32_t> step_on_host(const std::vector<std::vector<std::int32_t>>& tokens) {
    std::vector<float> logits(states.size() * vocab);
    const Status s = states[0].engine()->step(inputs(tokens), logits);
    EXPECT_TRUE(s.ok()) << s.error().message;
    std::vector<std::int32_t> drawn;
    for (std::size_t i = 0; i < states.size(); ++i) {
      const auto token = samplers[i].sample(std::span(logits).subspan(i * vocab, vocab));
      EXPECT_TRUE(token.ok());
      drawn.push_back(token.ok() ? *token : -1);
      EXPECT_TRUE(samplers[i].accept(drawn.back()).ok());
    }
    return drawn;
  }
  std::vector<Sampler> samplers;
  std::vector<State> states;
};

std::vector<std::vector<std::int32_t>> one_each(const std::vector<std::int32_t>& tokens) {
  std::vector<std::vector<std::int32_t>> all;
  for (const std::int32_t t : tokens) all.push_back({t});
  return all;
}

// Prompts of more rows than a step runs at once, whose last tokens fall into different pieces; then single
// tokens.
TEST(CudaEngine, DrawsWhatTheHostWouldDraw) {
  const auto engine = cuda_engine();
  ASSERT_TRUE(engine);
  Sequences device(engine, 4), host(engine, 4);
  std::vector<std::vector<std::int32_t>> tokens(4);
  const std::size_t lengths[] = {3, 290, 1, 5};
  for (std::size_t i = 0; i < 4; ++i) {
    for (std::size_t j = 0; j < lengths[i]; ++j)
      tokens[i].push_back(static_cast<std::int32_t>((j * 37 + i) % vocab));
  }
  for (int step = 0; step < 12; ++step) {
    const std::vector<std::int32_t> drawn = device.step(tokens);
    ASSERT_EQ(drawn, host.step_on_host(tokens)) << "step " << step;
    ASSERT_EQ(device.samplers, host.samplers) << "step " << step;
    tokens = one_each(drawn);
  }
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(device.states[i].tokens_seen(), lengths[i] + 11);
    EXPECT_EQ(device.states[i].values(), host.states[i].values());
  }
}

TEST(CudaEngine, LeavesToTheHostWhatTheDeviceCannotDraw) {
  const auto engine = cuda_engine();
  ASSERT_TRUE(engine);
  Sequences mixed(engine, 2), host(engine, 2);
  for (Sequences* s : {&mixed, &host}) {
    SamplerParams p = s->samplers[1].params();
    p.typical_p = 0.9;
    ASSERT_TRUE(s->samplers[1].set_params(p).ok());
  }
  std::vector<std::vector<std::int32_t>> tokens{{1, 2}, {3}};
  for (int step = 0; step < 3; ++step) {
    const std::vector<std::int32_t> drawn = mixed.step(tokens);
    ASSERT_EQ(drawn, host.step_on_host(tokens));
    tokens = one_each(drawn);
  }
  EXPECT_EQ(mixed.samplers, host.samplers);
}

TEST(CudaEngine, OneSamplerDrawsForSeveralSequencesInTheirOrder) {
  const auto engine = cuda_engine();
  ASSERT_TRUE(engine);
  Sequences device(engine, 2);
  Sampler shared = device.samplers[0];
  Sampler* const both[] = {&shared, &shared};
  const std::vector<std::vector<std::int32_t>> tokens{{1}, {1}};
  std::int32_t drawn[2];
  ASSERT_TRUE(engine->step_sample(device.inputs(tokens), both, drawn).ok());
  EXPECT_EQ(shared.state().step, 2u);
}

// As the host: the step counts, the rows before the fault have their tokens.
TEST(CudaEngine, ReportsTheFaultOfARow) {
  const auto engine = cuda_engine();
  ASSERT_TRUE(engine);
  Sequences device(engine, 3);
  SamplerParams p = device.samplers[1].params();
  p.banned.clear();
  for (int id = 0; id < vocab; ++id) p.banned.push_back(id);
  ASSERT_TRUE(device.samplers[1].set_params(p).ok());
  std::vector<Sampler*> all;
  for (Sampler& s : device.samplers) all.push_back(&s);
  const std::vector<std::vector<std::int32_t>> tokens{{1}, {1}, {1}};
  std::vector<std::int32_t> drawn(3, -1);
  const Status s = engine->step_sample(device.inputs(tokens), all, drawn);
  ASSERT_FALSE(s.ok());
  EXPECT_EQ(s.error().message, "every token is banned (sampling): remove bans, or make the logits finite");
  EXPECT_GE(drawn[0], 0);
  EXPECT_EQ(drawn[2], -1);
  EXPECT_EQ(device.samplers[0].state().step, 1u);
  EXPECT_EQ(device.samplers[1].state().step, 0u);
  EXPECT_EQ(device.states[2].tokens_seen(), 1u);
}

}  // namespace
}  // namespace fr
