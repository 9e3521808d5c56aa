// The C API but for chats: arguments are checked here, the work is done by src/engine.
#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "api/handles.h"
#include "base/log.h"
#include "engine/file_info.h"
#include "engine/locate.h"
#include "engine/state_file.h"
#include "text/chat_template.h"

namespace fr::api {

Status fill(fr_buffer* out, std::string_view bytes) {
  auto* data = static_cast<char*>(std::malloc(bytes.size() + 1));
  if (data == nullptr)
    return runtime_error("out of memory for " + std::to_string(bytes.size()) + " bytes of text");
  std::copy(bytes.begin(), bytes.end(), data);
  data[bytes.size()] = '\0';
  *out = {data, bytes.size()};
  return {};
}

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

LoadOptions to_load_options(const fr_load_options* options) {
  LoadOptions out;
  if (options == nullptr) return out;
  out.strategy = text_or_empty(options->strategy);
  out.vocab = text_or_empty(options->vocab);
  out.state = text_or_empty(options->state);
  out.threads = options->threads;
  out.max_states = options->max_states;
  if (options->progress != nullptr) {
    out.progress = [callback = options->progress, user = options->user](
                       std::string_view step, std::uint64_t done, std::uint64_t total) {
      return callback(user, std::string(step).c_str(), done, total) != 0;
    };
  }
  return out;
}

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
}  // namespace fr::api

using namespace fr;
using namespace fr::api;

const char* fr_version(void) { return FR_VERSION; }

void fr_set_log_callback(fr_log_callback callback, void* user) {
  if (callback == nullptr) return set_log_sink({});
  set_log_sink([callback, user](LogLevel level, std::string_view message) {
    callback(user, static_cast<fr_log_level>(level), std::string(message).c_str());
  });
}

void fr_buffer_free(fr_buffer* buffer) {
  if (buffer == nullptr) return;
  std::free(buffer->data);
  *buffer = {nullptr, 0};
}

/* ---- models */

fr_load_options fr_load_options_default(void) { return {}; }

fr_error fr_model_load(const char* path, const fr_load_options* options, fr_model** out) {
  if (out == nullptr) return null_argument("out");
  return guarded([&]() -> Status {
    std::string file = text_or_empty(path);
    if (file.empty()) {
      FR_TRY(file, shipped_model());
    }
    auto model = std::make_unique<fr_model>();
    FR_TRY(model->engine, Engine::load(file, to_load_options(options)));
    const Engine& engine = *model->engine;
    if (const auto tokenizer = engine.tokenizer()) {
      model->tokenizer = std::make_unique<fr_tokenizer>(fr_tokenizer{tokenizer});
      for (int id = 0; id < engine.info().n_vocab; ++id) {
        if (rwkv_penalty_exempt(tokenizer->token_bytes(id))) model->penalty_exempt.push_back(id);
      }
    }
    model->strategy = strategy_string(engine.segments());
    model->devices = engine.devices();
    model->dtype = dtype_name(engine.file_dtype());
    const ChatTemplate& guess = guess_chat_template(engine);
    model->template_name = guess.name;
    model->think = think_name(default_think(guess));
    *out = model.release();
    return {};
  });
}

void fr_model_free(fr_model* model) { delete model; }

fr_model_info fr_model_get_info(const fr_model* model) {
  const Engine& e = *model->engine;
  const ModelInfo& i = e.info();
  const MemoryUse memory = e.memory();
  return {e.path().c_str(),
          e.format().c_str(),
          i.version.c_str(),
          model->strategy.c_str(),
          model->devices.c_str(),
          model->template_name.c_str(),
          model->think.c_str(),
          model->dtype.c_str(),
          i.n_layer,
          i.n_embd,
          i.n_vocab,
          i.n_ffn,
          i.n_head,
          i.head_size,
          is_shipped_model(e.path()) ? 1 : 0,
          e.n_parameters(),
          e.state_spec().size,
          memory.weights,
          memory.mapped};
}

fr_error fr_file_info_json(const char* path, int verify, fr_buffer* out) {
  if (out == nullptr) return null_argument("out");
  return guarded([&]() -> Status {
    std::string file = text_or_empty(path);
    if (file.empty()) {
      FR_TRY(file, shipped_model());
    }
    FR_TRY(const std::string json, file_info_json(file, verify != 0));
    return fill(out, json);
  });
}

/* ---- tokenizers */

fr_error fr_tokenizer_load(const char* path, fr_tokenizer** out) {
  if (out == nullptr) return null_argument("out");
  return guarded([&]() -> Status {
    std::shared_ptr<const Tokenizer> impl;
    if (path == nullptr || *path == '\0') {
      impl = builtin_world_tokenizer();
    } else {
      FR_TRY(impl, load_tokenizer(path));
    }
    *out = new fr_tokenizer{std::move(impl)};
    return {};
  });
}

void fr_tokenizer_free(fr_tokenizer* tokenizer) { delete tokenizer; }
const fr_tokenizer* fr_model_tokenizer(const fr_model* model) { return model->tokenizer.get(); }
int fr_tokenizer_vocab_size(const fr_tokenizer* tokenizer) {
  return static_cast<int>(tokenizer->impl->vocab_size());
}

fr_error fr_tokenizer_encode(const fr_tokenizer* tokenizer, const char* text, size_t size, int32_t* ids,
                             size_t capacity, size_t* count) {
  if (tokenizer == nullptr) return null_argument("tokenizer");
  if (count == nullptr) return null_argument("count");
  return guarded([&]() -> Status {
    FR_TRY(const std::vector<std::int32_t> encoded,
           tokenizer->impl->encode(size > 0 ? std::string_view(text, size) : std::string_view()));
    *count = encoded.size();
    if (encoded.size() <= capacity) std::copy(encoded.begin(), encoded.end(), ids);
    return {};
  });
}

fr_error fr_tokenizer_decode(const fr_tokenizer* tokenizer, const int32_t* ids, size_t count,
                             fr_buffer* out) {
  if (tokenizer == nullptr) return null_argument("tokenizer");
  if (out == nullptr) return null_argument("out");
  return guarded([&]() -> Status {
    const Tokenizer& t = *tokenizer->impl;
    for (size_t i = 0; i < count; ++i) {
      if (ids[i] != kEndOfText && t.token_bytes(ids[i]).empty()) {
        return usage_error("the vocabulary has no token " + std::to_string(ids[i]) + " (position " +
                           std::to_string(i) + "): give ids that its own encoding makes");
      }
    }
    return fill(out, t.decode({ids, count}));
  });
}

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

/* ---- sampling */

fr_sampler_params fr_sampler_params_default(void) {
  return {"rwkv", 1.0f, 0, 0.3f, 0.0f, 1.0f, 0.5f, 0.5f, 0.996f, 0, nullptr, 0, nullptr, 0};
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
