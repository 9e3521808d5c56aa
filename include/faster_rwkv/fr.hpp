// C++17 over fr.h, header-only: objects free themselves, errors are exceptions of type faster_rwkv::Error.
// Shapes, units and thread rules are those of fr.h. Moving is cheap; clone() copies.
#pragma once
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "faster_rwkv/fr.h"

namespace faster_rwkv {

class Error : public std::runtime_error {
 public:
  explicit Error(const fr_error& e) : std::runtime_error(e.message), code_(e.code) {}
  Error(fr_code code, const std::string& message) : std::runtime_error(message), code_(code) {}
  fr_code code() const { return code_; }

 private:
  fr_code code_;
};

inline void check(const fr_error& e) {
  if (e.code != FR_OK) throw Error(e);
}

namespace detail {
template <class T, void (*release)(T*)>
struct Free {
  void operator()(T* p) const { release(p); }
};
template <class T, void (*release)(T*)>
using Handle = std::unique_ptr<T, Free<T, release>>;

inline std::string take(fr_buffer& b) {
  std::string s(b.data, b.size);
  fr_buffer_free(&b);
  return s;
}
}  // namespace detail

class Tokenizer {
 public:
  // Empty path: the built-in World vocabulary.
  static Tokenizer load(const std::string& path = {}) {
    fr_tokenizer* t = nullptr;
    check(fr_tokenizer_load(path.empty() ? nullptr : path.c_str(), &t));
    Tokenizer out(t);
    out.owned_.reset(t);
    return out;
  }
  explicit Tokenizer(const fr_tokenizer* borrowed) : t_(borrowed) {}
  explicit operator bool() const { return t_ != nullptr; }
  int vocab_size() const { return fr_tokenizer_vocab_size(t_); }
  std::vector<std::int32_t> encode(std::string_view text) const {
    std::vector<std::int32_t> ids(text.size() + 1);  // a token is at least one byte
    std::size_t n = 0;
    check(fr_tokenizer_encode(t_, text.data(), text.size(), ids.data(), ids.size(), &n));
    ids.resize(n);
    return ids;
  }
  std::string decode(const std::vector<std::int32_t>& ids) const {
    fr_buffer b{};
    check(fr_tokenizer_decode(t_, ids.data(), ids.size(), &b));
    return detail::take(b);
  }
  const fr_tokenizer* get() const { return t_; }

 private:
  const fr_tokenizer* t_ = nullptr;
  detail::Handle<fr_tokenizer, fr_tokenizer_free> owned_;
};

class Model {
 public:
  // Empty path: the model that ships.
  explicit Model(const std::string& path = {}, fr_load_options options = fr_load_options_default()) {
    fr_model* m = nullptr;
    check(fr_model_load(path.empty() ? nullptr : path.c_str(), &options, &m));
    m_.reset(m);
  }
  fr_model_info info() const { return fr_model_get_info(m_.get()); }
  Tokenizer tokenizer() const { return Tokenizer(fr_model_tokenizer(m_.get())); }  // false when unknown
  fr_model* get() const { return m_.get(); }

 private:
  detail::Handle<fr_model, fr_model_free> m_;
};

class State {
 public:
  explicit State(const Model& model) {
    fr_state* s = nullptr;
    check(fr_state_new(model.get(), &s));
    s_.reset(s);
  }
  State clone() const {
    fr_state* s = nullptr;
    check(fr_state_clone(get(), &s));
    return State(s);
  }
  void copy_from(const State& other) { check(fr_state_copy(get(), other.get())); }
  void reset() { fr_state_reset(get()); }
  float compare(const State& other) const {
    float d = 0;
    check(fr_state_compare(get(), other.get(), &d));
    return d;
  }
  std::uint64_t tokens_seen() const { return fr_state_tokens_seen(get()); }
  std::vector<float> export_values(const Model& model) const {
    std::vector<float> v(static_cast<std::size_t>(model.info().state_size));
    check(fr_state_export(get(), v.data(), v.size()));
    return v;
  }
  void import_values(const std::vector<float>& v) { check(fr_state_import(get(), v.data(), v.size())); }
  void save(const std::string& path) const { check(fr_state_save(get(), path.c_str())); }
  void load(const std::string& path) { check(fr_state_load(get(), path.c_str())); }
  fr_state* get() const { return s_.get(); }

 private:
  explicit State(fr_state* s) : s_(s) {}
  detail::Handle<fr_state, fr_state_free> s_;
};

class Sampler {
 public:
  explicit Sampler(const Model& model, const fr_sampler_params& params = fr_sampler_params_default()) {
    fr_sampler* s = nullptr;
    check(fr_sampler_new(model.get(), &params, &s));
    s_.reset(s);
  }
  Sampler clone() const {
    fr_sampler* s = nullptr;
    check(fr_sampler_clone(get(), &s));
    return Sampler(s);
  }
  void set_params(const fr_sampler_params& params) { check(fr_sampler_set_params(get(), &params)); }
  void reset() { fr_sampler_reset(get()); }
  std::int32_t sample(const float* logits) {
    std::int32_t token = 0;
    check(fr_sampler_sample(get(), logits, &token));
    return token;
  }
  fr_sampler* get() const { return s_.get(); }

 private:
  explicit Sampler(fr_sampler* s) : s_(s) {}
  detail::Handle<fr_sampler, fr_sampler_free> s_;
};

// Feeds one sequence and returns the logits of its last token, or of every token ([n][n_vocab]).
inline std::vector<float> step(const Model& model, State& state, const std::vector<std::int32_t>& tokens,
                               fr_want want = FR_WANT_LAST) {
  const std::size_t rows = want == FR_WANT_ALL ? tokens.size() : want == FR_WANT_LAST ? 1 : 0;
  std::vector<float> logits(rows * static_cast<std::size_t>(model.info().n_vocab));
  const fr_sequence s{state.get(), tokens.data(), tokens.size(), want};
  check(fr_step(model.get(), &s, 1, logits.data(), logits.size(), nullptr, 0));
  return logits;
}

// What fr_generate and the chat functions report. Copy what you need: tokens live as long as this object.
class Generation {
 public:
  Generation() = default;
  Generation(Generation&& other) noexcept
      : result(std::exchange(other.result, {})), text(std::move(other.text)) {}
  Generation& operator=(Generation&& other) noexcept {
    std::swap(result, other.result);
    text.swap(other.text);
    return *this;
  }
  ~Generation() { fr_generate_result_free(&result); }
  fr_generate_result result{};
  std::string text;  // everything the callback was given
};

// Receives pieces of text; returns false to stop.
using OnText = std::function<bool(std::string_view)>;

namespace detail {
struct Collector {
  const OnText* on_text;
  std::string* text;
  std::exception_ptr thrown;  // an exception of the callback waits here: it must not cross the C library
  static int call(void* user, const char* data, std::size_t size) {
    auto* self = static_cast<Collector*>(user);
    try {
      self->text->append(data, size);
      return !*self->on_text || (*self->on_text)({data, size}) ? 1 : 0;
    } catch (...) {
      self->thrown = std::current_exception();
      return 0;
    }
  }
};
template <class Call>
Generation collect(const OnText& on_text, Call&& call) {
  Generation g;
  Collector c{&on_text, &g.text, nullptr};
  const fr_error e = call(&Collector::call, &c, &g.result);
  if (c.thrown) std::rethrow_exception(c.thrown);
  check(e);
  return g;
}
}  // namespace detail

inline Generation generate(const Model& model, State& state, const std::vector<std::int32_t>& prompt,
                           Sampler& sampler,
                           const fr_generate_options& options = fr_generate_options_default(),
                           const OnText& on_text = {}) {
  return detail::collect(on_text, [&](fr_text_callback f, void* user, fr_generate_result* r) {
    return fr_generate(model.get(), state.get(), prompt.data(), prompt.size(), sampler.get(), &options, f,
                       user, r);
  });
}

class Chat {
 public:
  explicit Chat(const Model& model, const fr_chat_options& options = {}) {
    fr_chat* c = nullptr;
    check(fr_chat_new(model.get(), &options, &c));
    c_.reset(c);
  }
  Generation send(const std::string& user_text, Sampler& sampler, const fr_generate_options& options,
                  const OnText& on_text = {}) {
    return detail::collect(on_text, [&](fr_text_callback f, void* user, fr_generate_result* r) {
      return fr_chat_send(get(), user_text.c_str(), sampler.get(), &options, f, user, r);
    });
  }
  Generation retry(Sampler& sampler, const fr_generate_options& options, const OnText& on_text = {}) {
    return detail::collect(on_text, [&](fr_text_callback f, void* user, fr_generate_result* r) {
      return fr_chat_retry(get(), sampler.get(), &options, f, user, r);
    });
  }
  Generation resume(Sampler& sampler, const fr_generate_options& options, const OnText& on_text = {}) {
    return detail::collect(on_text, [&](fr_text_callback f, void* user, fr_generate_result* r) {
      return fr_chat_continue(get(), sampler.get(), &options, f, user, r);
    });
  }
  void undo() { check(fr_chat_undo(get())); }
  void reset() { check(fr_chat_reset(get())); }
  Chat fork() const {
    fr_chat* c = nullptr;
    check(fr_chat_fork(get(), &c));
    return Chat(c);
  }
  void set_options(const fr_chat_options& options) { check(fr_chat_set_options(get(), &options)); }
  void save(const std::string& path) { check(fr_chat_save(get(), path.c_str())); }
  void load(const std::string& path) { check(fr_chat_load(get(), path.c_str())); }
  std::string template_name() const { return fr_chat_template(get()); }
  std::string think() const { return fr_chat_think(get()); }
  int turns() const { return fr_chat_turns(get()); }
  std::uint64_t tokens_seen() const { return fr_chat_tokens_seen(get()); }
  fr_chat* get() const { return c_.get(); }

 private:
  explicit Chat(fr_chat* c) : c_(c) {}
  detail::Handle<fr_chat, fr_chat_free> c_;
};

// Exports a model to "ncnn" or "onnx" and returns the JSON report; see fr_export.
inline std::string export_model(const char* kind, const std::string& path, const std::string& out,
                                const fr_export_options& options = fr_export_options_default()) {
  fr_buffer b{};
  check(fr_export(kind, path.empty() ? nullptr : path.c_str(), out.c_str(), &options, &b));
  return detail::take(b);
}

// JSON description of a file; see fr_file_info_json.
inline std::string file_info_json(const std::string& path, bool verify = false) {
  fr_buffer b{};
  check(fr_file_info_json(path.c_str(), verify ? 1 : 0, &b));
  return detail::take(b);
}

inline std::string render_template(const fr_chat_options& options, const std::string& user_text) {
  fr_buffer b{};
  check(fr_template_render(&options, user_text.c_str(), &b));
  return detail::take(b);
}

}  // namespace faster_rwkv
