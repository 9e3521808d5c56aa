// Chats and templates of the C API.
#include "api/handles.h"

using namespace fr;
using namespace fr::api;

namespace {

ChatOptions to_chat_options(const fr_chat_options* options) {
  if (options == nullptr) return {};
  return {text_or_empty(options->template_name), text_or_empty(options->think),
          text_or_empty(options->system)};
}

void refresh_names(fr_chat& chat) {
  chat.template_name = chat.impl.chat_template().name;
  chat.think = think_name(chat.impl.think());
}

fr_chat* make_handle(Chat&& chat) {
  auto handle = std::make_unique<fr_chat>(fr_chat{std::move(chat), {}, {}});
  refresh_names(*handle);
  return handle.release();
}

// send, retry and resume differ in the call alone.
template <class Call>
fr_error run_reply(fr_chat* chat, fr_sampler* sampler, const fr_generate_options* options,
                   fr_text_callback callback, void* user, fr_generate_result* result, Call&& call) {
  if (chat == nullptr || sampler == nullptr) return null_argument("an argument");
  return guarded([&]() -> Status {
    const bool think_visible = options != nullptr && options->think_visible != 0;
    FR_TRY(Generation g,
           call(chat->impl, sampler->impl, to_options(options), think_visible, to_callback(callback, user)));
    to_result(std::move(g), result);
    return {};
  });
}

}  // namespace

const char* fr_template_names(void) {
  static const std::string names = chat_template_names();
  return names.c_str();
}

fr_error fr_template_render(const fr_chat_options* options, const char* user_text, fr_buffer* out) {
  if (user_text == nullptr || out == nullptr) return null_argument("an argument");
  return guarded([&]() -> Status {
    const ChatOptions o = to_chat_options(options);
    FR_TRY(const ChatTemplate* fallback, find_chat_template("world"));
    FR_TRY(const ChatStyle style, resolve_style(o, *fallback));
    std::vector<Message> messages;
    if (!o.system.empty()) messages.push_back({Role::system, o.system});
    messages.push_back({Role::user, user_text});
    return fill(out, style.chat->render(messages, style.think));
  });
}

fr_error fr_chat_new(fr_model* model, const fr_chat_options* options, fr_chat** out) {
  if (model == nullptr || out == nullptr) return null_argument("an argument");
  return guarded([&]() -> Status {
    FR_TRY(Chat chat, Chat::make(model->engine, to_chat_options(options)));
    *out = make_handle(std::move(chat));
    return {};
  });
}

void fr_chat_free(fr_chat* chat) { delete chat; }

fr_error fr_chat_send(fr_chat* chat, const char* user_text, fr_sampler* sampler,
                      const fr_generate_options* options, fr_text_callback callback, void* user,
                      fr_generate_result* result) {
  if (user_text == nullptr) return null_argument("user_text");
  return run_reply(chat, sampler, options, callback, user, result,
                   [user_text](Chat& c, Sampler& s, GenerateOptions o, bool v, const OnText& f) {
                     return c.send(user_text, s, std::move(o), v, f);
                   });
}

fr_error fr_chat_retry(fr_chat* chat, fr_sampler* sampler, const fr_generate_options* options,
                       fr_text_callback callback, void* user, fr_generate_result* result) {
  return run_reply(chat, sampler, options, callback, user, result,
                   [](Chat& c, Sampler& s, GenerateOptions o, bool v, const OnText& f) {
                     return c.retry(s, std::move(o), v, f);
                   });
}

fr_error fr_chat_continue(fr_chat* chat, fr_sampler* sampler, const fr_generate_options* options,
                          fr_text_callback callback, void* user, fr_generate_result* result) {
  return run_reply(chat, sampler, options, callback, user, result,
                   [](Chat& c, Sampler& s, GenerateOptions o, bool v, const OnText& f) {
                     return c.resume(s, std::move(o), v, f);
                   });
}

fr_error fr_chat_undo(fr_chat* chat) {
  if (chat == nullptr) return null_argument("chat");
  return guarded([&] { return chat->impl.undo(); });
}

fr_error fr_chat_reset(fr_chat* chat) {
  if (chat == nullptr) return null_argument("chat");
  return guarded([&] { return chat->impl.reset(); });
}

fr_error fr_chat_fork(const fr_chat* chat, fr_chat** out) {
  if (chat == nullptr || out == nullptr) return null_argument("an argument");
  return guarded([&]() -> Status {
    FR_TRY(Chat copy, chat->impl.fork());
    *out = make_handle(std::move(copy));
    return {};
  });
}

fr_error fr_chat_set_options(fr_chat* chat, const fr_chat_options* options) {
  if (chat == nullptr) return null_argument("chat");
  return guarded([&]() -> Status {
    FR_OK(chat->impl.set_options(to_chat_options(options)));
    refresh_names(*chat);
    return {};
  });
}

fr_error fr_chat_save(fr_chat* chat, const char* path) {
  if (chat == nullptr || path == nullptr) return null_argument("an argument");
  return guarded([&] { return chat->impl.save(path); });
}

fr_error fr_chat_load(fr_chat* chat, const char* path) {
  if (chat == nullptr || path == nullptr) return null_argument("an argument");
  return guarded([&]() -> Status {
    FR_OK(chat->impl.load(path));
    refresh_names(*chat);
    return {};
  });
}

const char* fr_chat_template(const fr_chat* chat) { return chat->template_name.c_str(); }
const char* fr_chat_think(const fr_chat* chat) { return chat->think.c_str(); }
int fr_chat_turns(const fr_chat* chat) { return chat->impl.turns(); }
uint64_t fr_chat_tokens_seen(const fr_chat* chat) { return chat->impl.tokens_seen(); }
