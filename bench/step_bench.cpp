// What a step costs beside its arithmetic: a model so narrow that its products take next to no time, per
// layer.
#include <benchmark/benchmark.h>

#include "engine/engine.h"
#include "models/random_checkpoint.h"

namespace fr {
namespace {

// Arguments: layers, threads. Few layers, so that weights stay in the caches; what more layers add is the
// cost of one.
void narrow_step(benchmark::State& state) {
  RandomShape shape;
  shape.version = "7";
  shape.n_layer = static_cast<int>(state.range(0));
  shape.n_embd = 64;
  shape.n_ffn = 64;
  shape.n_vocab = 64;
  shape.rank_w = shape.rank_a = shape.rank_v = shape.rank_g = 1;
  auto file = random_checkpoint(shape);
  LoadOptions options;
  options.strategy = "cpu fp16";
  options.threads = static_cast<int>(state.range(1));
  const std::shared_ptr<Engine> engine = *Engine::make(std::move(*file), options);
  State sequence = std::move(State::make(engine)).value();
  std::vector<float> logits(64);
  const std::int32_t token = 1;
  const SequenceInput input{&sequence, {&token, 1}, Want::last};
  for (auto _ : state) {
    if (!engine->step({&input, 1}, logits).ok()) state.SkipWithError("step");
  }
}
BENCHMARK(narrow_step)->ArgsProduct({{1, 5}, {1, 2}})->UseRealTime()->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace fr
