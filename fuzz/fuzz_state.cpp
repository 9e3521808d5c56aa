// Any bytes as a saved state of a small model: an error, or finite values of the right number.
#include <cmath>

#include "engine/engine.h"
#include "engine/state_file.h"
#include "formats/safetensors.h"
#include "models/random_checkpoint.h"

namespace {

std::shared_ptr<fr::Engine> small_engine() {
  fr::RandomShape shape;
  shape.n_layer = 1;
  shape.n_embd = shape.n_vocab = 16;
  shape.n_ffn = 32;
  shape.head_size = 8;
  shape.rank_w = shape.rank_a = shape.rank_v = shape.rank_g = 4;
  fr::LoadOptions options;
  options.strategy = "reference fp32";
  auto file = fr::random_checkpoint(shape, {fr::DType::f32});
  FR_CHECK(file.ok());
  auto engine = fr::Engine::make(std::move(*file), options);
  FR_CHECK(engine.ok());
  return *engine;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::shared_ptr<fr::Engine> engine = small_engine();
  const auto file = fr::parse_safetensors({reinterpret_cast<const std::byte*>(data), size}, "fuzz");
  if (!file) return 0;
  const auto state = fr::to_state(*file, *engine);
  if (!state) {
    FR_CHECK(!state.error().message.empty());
    return 0;
  }
  FR_CHECK(state->values.size() == static_cast<std::size_t>(engine->state_spec().size));
  for (const float v : state->values) FR_CHECK(std::isfinite(v));
  return 0;
}
