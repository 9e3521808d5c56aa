// What the chat does with each input: messages, commands, copies of the conversation, free generation.
#pragma once
#include <cstdint>
#include <cstdio>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "common/input.h"
#include "common/settings.h"
#include "faster_rwkv/fr.hpp"

namespace fr::app {

struct ChatSetup {
  std::string template_name, think, system;  // empty: the defaults of the model
  Settings settings;                         // max_tokens 0: the chat's default
  std::string history_file;                  // empty: none
};

struct Screen {
  std::FILE* replies;
  std::FILE* notes;  // everything that is not a reply
  bool interactive;  // a person at a terminal
  bool styled;       // replies and notes may be dim
};

class Session {
 public:
  // The model must outlive the session. Throws faster_rwkv::Error, like run().
  Session(const faster_rwkv::Model& model, const ChatSetup& setup, const Screen& screen);

  void greet();  // what is running
  // False: the user wants to leave. An interruption ends a reply; without a terminal it is an error.
  bool run(const Input& input);

 private:
  using Draw = std::function<faster_rwkv::Generation(faster_rwkv::Sampler&, const fr_generate_options&,
                                                     const faster_rwkv::OnText&)>;
  faster_rwkv::Chat& chat() { return chats_.at(current_); }
  faster_rwkv::Chat new_chat() const;
  bool talk(const Input& input);
  bool manage(const Input& input);
  void reply(const Settings& settings, const Draw& draw);
  void say(std::string message);
  void free_text(std::string text, const char* template_name, std::vector<std::string> stops);
  void retry_free();
  void carry_on();
  void start_anew();
  void feed_opening();
  void fork(std::string name);
  void list_forks();
  void switch_to(const std::string& name);
  void set(const std::string& argument);
  void set_style(const std::string& name, const std::string& value);
  void show();
  void stats();
  void list_settings();
  void note(const std::string& line);

  const faster_rwkv::Model& model_;
  Settings settings_;
  std::string template_name_, think_, system_;
  std::string opening_;  // text of +prompt
  Screen screen_;
  bool show_think_, verbose_ = false;
  std::uint64_t seed_, replies_ = 0;  // reply i is drawn with seed_ + i

  std::map<std::string, faster_rwkv::Chat> chats_;
  std::string current_ = "main";
  std::optional<faster_rwkv::Chat> free_;  // the last free generation
  std::vector<std::string> free_stops_;
  bool last_was_free_ = false;
  fr_generate_result last_{};  // numbers of the last reply; its tokens are not kept
};

}  // namespace fr::app
