// Messages, models and tokenizers of the C API.
#include <algorithm>
#include <cstdlib>

#include "api/handles.h"
#include "base/log.h"
#include "engine/file_info.h"
#include "engine/locate.h"
#include "text/chat_template.h"

namespace fr::api {

Progress to_progress(fr_progress_callback callback, void* user) {
  if (callback == nullptr) return {};
  return [callback, user](std::string_view step, std::uint64_t done, std::uint64_t total) {
    return callback(user, std::string(step).c_str(), done, total) != 0;
  };
}

Status fill(fr_buffer* out, std::string_view bytes) {
  auto* data = static_cast<char*>(std::malloc(bytes.size() + 1));
  if (data == nullptr)
    return runtime_error("out of memory for " + std::to_string(bytes.size()) + " bytes of text");
  std::copy(bytes.begin(), bytes.end(), data);
  data[bytes.size()] = '\0';
  *out = {data, bytes.size()};
  return {};
}

}  // namespace fr::api

using namespace fr;
using namespace fr::api;

namespace {

LoadOptions to_load_options(const fr_load_options* options) {
  LoadOptions out;
  if (options == nullptr) return out;
  out.strategy = text_or_empty(options->strategy);
  out.vocab = text_or_empty(options->vocab);
  out.state = text_or_empty(options->state);
  out.threads = options->threads;
  out.deterministic = options->deterministic != 0;
  out.exact_activations = options->exact_activations != 0;
  out.max_states = options->max_states;
  out.progress = to_progress(options->progress, options->user);
  return out;
}

}  // namespace

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
      FR_TRY(impl, open_tokenizer(path));
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
