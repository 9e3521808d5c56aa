// For the tests of this folder: the shipped model, loaded once per strategy.
#pragma once
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>

#include "engine/engine.h"

namespace fr {

inline std::string shipped_path() { return std::string(FR_SOURCE_DIR) + "/models/rwkv7-story-9m.pth"; }

inline std::shared_ptr<Engine> shipped_engine(const std::string& strategy = "cpu fp32", int threads = 2) {
  static std::map<std::pair<std::string, int>, std::shared_ptr<Engine>> engines;
  std::shared_ptr<Engine>& engine = engines[{strategy, threads}];
  if (!engine) {
    LoadOptions options;
    options.strategy = strategy;
    options.threads = threads;
    auto loaded = Engine::load(shipped_path(), options);
    if (!loaded.ok()) {
      ADD_FAILURE() << loaded.error().message;
      std::exit(1);
    }
    engine = *loaded;
  }
  return engine;
}

inline State new_state(const std::shared_ptr<Engine>& engine) {
  auto state = State::make(engine);
  FR_CHECK(state.ok());
  return std::move(*state);
}

inline Sampler greedy_sampler(const Engine& engine) {
  SamplerParams params;
  params.temperature = 0;
  params.presence_penalty = params.frequency_penalty = 0;
  auto sampler = Sampler::create(params, engine.info().n_vocab);
  FR_CHECK(sampler.ok());
  return std::move(*sampler);
}

inline std::vector<std::int32_t> encode(const Engine& engine, std::string_view text) {
  auto ids = engine.tokenizer()->encode(text);
  FR_CHECK(ids.ok());
  return std::move(*ids);
}

inline void feed(State& state, std::span<const std::int32_t> tokens) {
  const SequenceInput input{&state, tokens, Want::none};
  const Status status = state.engine()->step({&input, 1}, {});
  ASSERT_TRUE(status.ok()) << status.error().message;
}

}  // namespace fr
