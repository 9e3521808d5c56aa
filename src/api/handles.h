// What the opaque handles of fr.h are, and how C++ errors become fr_error.
#pragma once
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "engine/chat.h"
#include "engine/engine.h"
#include "faster_rwkv/fr.h"

struct fr_model {
  std::shared_ptr<fr::Engine> engine;
  std::unique_ptr<fr_tokenizer> tokenizer;  // null when unknown
  std::vector<int> penalty_exempt;
  std::string strategy, devices, template_name, think, dtype;  // what fr_model_info points to
};
struct fr_tokenizer {
  std::shared_ptr<const fr::Tokenizer> impl;
};
struct fr_state {
  fr::State impl;
};
struct fr_sampler {
  fr::Sampler impl;
};
struct fr_chat {
  fr::Chat impl;
  std::string template_name, think;  // what fr_chat_template and fr_chat_think point to
};

namespace fr::api {

inline fr_error success() { return {FR_OK, ""}; }

inline fr_error failure(fr_code code, const std::string& message) {
  fr_error e{code, ""};
  std::snprintf(e.message, sizeof e.message, "%s", message.c_str());
  return e;
}
inline fr_error failure(const Error& error) {
  return failure(static_cast<fr_code>(error.code), error.message);
}
inline fr_error null_argument(const char* name) {
  return failure(FR_ERROR_USAGE, std::string(name) + " is NULL: give a valid pointer");
}

// Runs f() -> Status; nothing thrown below crosses the C border.
template <class F>
fr_error guarded(F&& f) {
  try {
    const Status status = std::forward<F>(f)();
    return status.ok() ? success() : failure(status.error());
  } catch (const std::bad_alloc&) {
    return failure(FR_ERROR_RUNTIME, "out of memory: free some, or use a smaller model or number format");
  } catch (const std::exception& e) {
    return failure(FR_ERROR_RUNTIME, std::string("internal error: ") + e.what());
  }
}

inline std::string text_or_empty(const char* s) { return s != nullptr ? s : ""; }

// A progress callback of the C API as the engine calls it; empty if there is none.
Progress to_progress(fr_progress_callback callback, void* user);
// Copies bytes into a buffer that fr_buffer_free frees.
Status fill(fr_buffer* out, std::string_view bytes);
GenerateOptions to_options(const fr_generate_options* options);
OnText to_callback(fr_text_callback callback, void* user);
void to_result(Generation&& generation, fr_generate_result* out);

}  // namespace fr::api
