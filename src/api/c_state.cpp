// States and steps of the C API.
#include <algorithm>
#include <cmath>

#include "api/handles.h"
#include "engine/state_file.h"

using namespace fr;
using namespace fr::api;

namespace {

Result<std::vector<SequenceInput>> to_inputs(const fr_model* model, const fr_sequence* sequences,
                                             std::size_t n) {
  if (n == 0) return usage_error("no sequences (fr_step): give at least one");
  std::vector<SequenceInput> inputs;
  for (std::size_t i = 0; i < n; ++i) {
    const fr_sequence& s = sequences[i];
    const std::string where = " (sequence " + std::to_string(i) + ")";
    if (s.state == nullptr) return usage_error("state is NULL" + where + ": make one with fr_state_new");
    if (s.state->impl.engine() != model->engine)
      return usage_error("the state is of another model" + where + ": make one of this model");
    if (s.n_tokens == 0 || s.tokens == nullptr)
      return usage_error("no tokens" + where + ": feed at least one");
    inputs.push_back({&s.state->impl,
                      {s.tokens, s.n_tokens},
                      s.want == FR_WANT_ALL    ? Want::all
                      : s.want == FR_WANT_LAST ? Want::last
                                               : Want::none});
  }
  return inputs;
}

}  // namespace

/* ---- states */

fr_error fr_state_new(fr_model* model, fr_state** out) {
  if (model == nullptr) return null_argument("model");
  if (out == nullptr) return null_argument("out");
  return guarded([&]() -> Status {
    FR_TRY(State state, State::make(model->engine));
    *out = new fr_state{std::move(state)};
    return {};
  });
}

void fr_state_free(fr_state* state) { delete state; }

fr_error fr_state_clone(const fr_state* state, fr_state** out) {
  if (state == nullptr) return null_argument("state");
  if (out == nullptr) return null_argument("out");
  return guarded([&]() -> Status {
    FR_TRY(State copy, state->impl.clone());
    *out = new fr_state{std::move(copy)};
    return {};
  });
}

namespace {
Status same_model(const fr_state* a, const fr_state* b) {
  if (a->impl.engine() == b->impl.engine()) return {};
  return usage_error("the two states are of different models: use states of one model");
}
}  // namespace

fr_error fr_state_copy(fr_state* to, const fr_state* from) {
  if (to == nullptr) return null_argument("to");
  if (from == nullptr) return null_argument("from");
  return guarded([&]() -> Status {
    FR_OK(same_model(to, from));
    to->impl.copy_from(from->impl);
    return {};
  });
}

void fr_state_reset(fr_state* state) { state->impl.reset(); }

fr_error fr_state_compare(const fr_state* a, const fr_state* b, float* max_abs) {
  if (a == nullptr || b == nullptr || max_abs == nullptr) return null_argument("an argument");
  return guarded([&]() -> Status {
    FR_OK(same_model(a, b));
    const std::vector<float> x = a->impl.values(), y = b->impl.values();
    float worst = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const float d = std::fabs(x[i] - y[i]);
      worst = d > worst || std::isnan(d) ? d : worst;
      if (std::isnan(worst)) break;
    }
    *max_abs = worst;
    return {};
  });
}

uint64_t fr_state_tokens_seen(const fr_state* state) { return state->impl.tokens_seen(); }

namespace {
Status check_count(const fr_state* state, size_t count) {
  const auto expected = static_cast<size_t>(state->impl.engine()->state_spec().size);
  if (count == expected) return {};
  return usage_error("the state has " + std::to_string(expected) + " floats, not " + std::to_string(count) +
                     ": give fr_model_info.state_size of them");
}
}  // namespace

fr_error fr_state_export(const fr_state* state, float* values, size_t count) {
  if (state == nullptr || values == nullptr) return null_argument("an argument");
  return guarded([&]() -> Status {
    FR_OK(check_count(state, count));
    const std::vector<float> v = state->impl.values();
    std::copy(v.begin(), v.end(), values);
    return {};
  });
}

fr_error fr_state_import(fr_state* state, const float* values, size_t count) {
  if (state == nullptr || values == nullptr) return null_argument("an argument");
  return guarded([&]() -> Status {
    FR_OK(check_count(state, count));
    state->impl.set_values({values, count}, 0);
    return {};
  });
}

fr_error fr_state_save(const fr_state* state, const char* path) {
  if (state == nullptr || path == nullptr) return null_argument("an argument");
  return guarded([&]() -> Status { return save_state(state->impl, path); });
}

fr_error fr_state_load(fr_state* state, const char* path) {
  if (state == nullptr || path == nullptr) return null_argument("an argument");
  return guarded([&]() -> Status { return load_state(state->impl, path); });
}

/* ---- steps */

fr_error fr_step(fr_model* model, const fr_sequence* sequences, size_t n_sequences, float* logits,
                 size_t logits_capacity, float* hidden, size_t hidden_capacity) {
  if (model == nullptr) return null_argument("model");
  return guarded([&]() -> Status {
    FR_TRY(const auto inputs, to_inputs(model, sequences, n_sequences));
    return model->engine->step(inputs, {logits, logits != nullptr ? logits_capacity : 0},
                               {hidden, hidden != nullptr ? hidden_capacity : 0});
  });
}

fr_error fr_step_sample(fr_model* model, const fr_sequence* sequences, size_t n_sequences,
                        fr_sampler* const* samplers, int32_t* tokens) {
  if (model == nullptr || samplers == nullptr || tokens == nullptr) return null_argument("an argument");
  return guarded([&]() -> Status {
    FR_TRY(const auto inputs, to_inputs(model, sequences, n_sequences));
    std::vector<Sampler*> impls;
    for (size_t i = 0; i < n_sequences; ++i) {
      if (samplers[i] == nullptr)
        return usage_error("sampler " + std::to_string(i) + " is NULL: give one per sequence");
      impls.push_back(&samplers[i]->impl);
    }
    return model->engine->step_sample(inputs, impls, {tokens, n_sequences});
  });
}
