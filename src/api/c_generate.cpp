// Samplers and generation of the C API.
#include <algorithm>
#include <cstdlib>

#include "api/handles.h"

namespace fr::api {

GenerateOptions to_options(const fr_generate_options* options) {
  const fr_generate_options o = options != nullptr ? *options : fr_generate_options_default();
  GenerateOptions out;
  out.max_tokens = o.max_tokens;
  for (std::size_t i = 0; i < o.n_stops; ++i) out.stops.emplace_back(text_or_empty(o.stops[i]));
  out.stop_tokens.assign(o.stop_tokens, o.stop_tokens + o.n_stop_tokens);
  out.ignore_eos = o.ignore_eos != 0;
  return out;
}

OnText to_callback(fr_text_callback callback, void* user) {
  if (callback == nullptr) return {};
  return [callback, user](std::string_view text) { return callback(user, text.data(), text.size()) != 0; };
}

void to_result(Generation&& g, fr_generate_result* out) {
  if (out == nullptr) return;
  *out = {static_cast<fr_finish>(g.finish),
          g.n_prompt,
          g.n_generated,
          g.prompt_seconds,
          g.generate_seconds,
          nullptr,
          0};
  if (g.tokens.empty()) return;
  out->tokens = static_cast<std::int32_t*>(std::malloc(g.tokens.size() * sizeof(std::int32_t)));
  if (out->tokens == nullptr) throw std::bad_alloc();
  std::copy(g.tokens.begin(), g.tokens.end(), out->tokens);
  out->n_tokens = g.tokens.size();
}

}  // namespace fr::api

using namespace fr;
using namespace fr::api;

namespace {

Result<SamplerParams> to_params(const fr_sampler_params& p, const std::vector<int>& penalty_exempt) {
  SamplerParams out;
  FR_TRY(out.profile, parse_profile(p.profile != nullptr ? p.profile : "rwkv"));
  out.temperature = p.temperature;
  out.top_k = p.top_k;
  out.top_p = p.top_p;
  out.min_p = p.min_p;
  out.typical_p = p.typical_p;
  out.presence_penalty = p.presence_penalty;
  out.frequency_penalty = p.frequency_penalty;
  out.penalty_decay = p.penalty_decay;
  out.seed = p.seed;
  for (std::size_t i = 0; i < p.n_logit_bias; ++i)
    out.logit_bias.push_back({p.logit_bias[i].token, p.logit_bias[i].bias});
  out.banned.assign(p.banned, p.banned + p.n_banned);
  out.penalty_exempt = penalty_exempt;
  return out;
}

}  // namespace

/* ---- sampling */

fr_sampler_params fr_sampler_params_default(void) {
  return {"rwkv", 1.0, 0, 0.3, 0.0, 1.0, 0.5, 0.5, 0.996, 0, nullptr, 0, nullptr, 0};
}

fr_error fr_sampler_params_for(const char* profile, fr_sampler_params* out) {
  if (profile == nullptr || out == nullptr) return null_argument("an argument");
  return guarded([&]() -> Status {
    FR_TRY(const SamplerProfile known, parse_profile(profile));
    *out = fr_sampler_params_default();
    if (known == SamplerProfile::rwkv) return {};
    const SamplerParams p = default_params(known);
    out->profile = known == SamplerProfile::albatross ? "albatross" : "ai00";
    out->temperature = p.temperature;
    out->top_k = p.top_k;
    out->top_p = p.top_p;
    out->presence_penalty = p.presence_penalty;
    out->frequency_penalty = p.frequency_penalty;
    out->penalty_decay = p.penalty_decay;
    return {};
  });
}

fr_error fr_sampler_new(const fr_model* model, const fr_sampler_params* params, fr_sampler** out) {
  if (model == nullptr || out == nullptr) return null_argument("an argument");
  return guarded([&]() -> Status {
    FR_TRY(SamplerParams p,
           to_params(params != nullptr ? *params : fr_sampler_params_default(), model->penalty_exempt));
    FR_TRY(Sampler sampler, Sampler::create(std::move(p), model->engine->info().n_vocab));
    *out = new fr_sampler{std::move(sampler)};
    return {};
  });
}

void fr_sampler_free(fr_sampler* sampler) { delete sampler; }

fr_error fr_sampler_clone(const fr_sampler* sampler, fr_sampler** out) {
  if (sampler == nullptr || out == nullptr) return null_argument("an argument");
  return guarded([&]() -> Status {
    *out = new fr_sampler{sampler->impl};
    return {};
  });
}

fr_error fr_sampler_set_params(fr_sampler* sampler, const fr_sampler_params* params) {
  if (sampler == nullptr || params == nullptr) return null_argument("an argument");
  return guarded([&]() -> Status {
    FR_TRY(SamplerParams p, to_params(*params, sampler->impl.params().penalty_exempt));
    return sampler->impl.set_params(std::move(p));
  });
}

void fr_sampler_reset(fr_sampler* sampler) { sampler->impl.reset(); }

fr_error fr_sampler_sample(fr_sampler* sampler, const float* logits, int32_t* token) {
  if (sampler == nullptr || logits == nullptr || token == nullptr) return null_argument("an argument");
  return guarded([&]() -> Status {
    FR_TRY(*token, sampler->impl.sample({logits, static_cast<std::size_t>(sampler->impl.vocab_size())}));
    return sampler->impl.accept(*token);
  });
}

/* ---- generation */

fr_generate_options fr_generate_options_default(void) {
  fr_generate_options o{};
  o.max_tokens = 256;
  return o;
}

void fr_generate_result_free(fr_generate_result* result) {
  if (result == nullptr) return;
  std::free(result->tokens);
  *result = {};
}

fr_error fr_generate(fr_model* model, fr_state* state, const int32_t* prompt, size_t n_prompt,
                     fr_sampler* sampler, const fr_generate_options* options, fr_text_callback callback,
                     void* user, fr_generate_result* result) {
  if (model == nullptr || state == nullptr || sampler == nullptr) return null_argument("an argument");
  return guarded([&]() -> Status {
    if (state->impl.engine() != model->engine)
      return usage_error("the state is of another model: make one of this model");
    FR_TRY(Generation g, generate(state->impl, {prompt, n_prompt}, sampler->impl, to_options(options),
                                  to_callback(callback, user)));
    to_result(std::move(g), result);
    return {};
  });
}
