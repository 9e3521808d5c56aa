// A conversation: the state, the template that turns messages into text, and snapshots for undo and retry.
#pragma once
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "engine/engine.h"
#include "engine/generate.h"
#include "text/chat_template.h"
#include "text/reply_reader.h"

namespace fr {

struct ChatOptions {
  std::string template_name;  // empty or "auto": guessed
  std::string think;          // empty: default_think
  std::string system;
};

const ChatTemplate& guess_chat_template(const Engine& engine);
Think default_think(const ChatTemplate& t);  // fast where the template thinks
std::string_view think_name(Think think);

// Resolves names. Errors name the template or think mode, and say which there are.
struct ChatStyle {
  const ChatTemplate* chat = nullptr;
  Think think = Think::off;
};
Result<ChatStyle> resolve_style(const ChatOptions& options, const ChatTemplate& guess);

// One thread at a time. Memory does not grow with the conversation: at most max_snapshots + 1 states are
// kept.
class Chat {
 public:
  static constexpr std::size_t max_snapshots = 8;

  // Error: the model has no vocabulary; an unknown template or think mode.
  static Result<Chat> make(std::shared_ptr<Engine> engine, const ChatOptions& options);

  // One turn. The result's text is the answer; on_text gets it without the white space it begins with, and
  // with think_visible the reasoning before it, as <think>...</think>. The stop strings of the template are
  // added to the options'. An error takes the turn back.
  Result<Generation> send(std::string_view user, Sampler& sampler, GenerateOptions options,
                          bool think_visible, const OnText& on_text);
  Result<Generation> retry(Sampler& sampler, GenerateOptions options, bool think_visible,
                           const OnText& on_text);
  // Goes on with a reply that a limit or a cancellation ended.
  Result<Generation> resume(Sampler& sampler, GenerateOptions options, bool think_visible,
                            const OnText& on_text);

  Status undo();
  Status reset();
  Result<Chat> fork() const;
  Status set_options(const ChatOptions& options);  // and starts anew
  Status save(const std::string& path);
  Status load(const std::string& path);

  const ChatTemplate& chat_template() const { return *style_.chat; }
  Think think() const { return style_.think; }
  int turns() const { return n_turns_; }
  std::uint64_t tokens_seen() const { return state_.tokens_seen(); }

 private:
  // Where a conversation stands: the state, and what has to be fed before anything else.
  struct Position {
    State state;
    std::string owed;           // text between what the state has seen and the next message
    bool fresh = true;          // nothing was fed yet: the template may want id 0 first
    bool after_system = false;  // the last message was the system's
  };
  struct Turn {
    Position before;
    std::string user;
    std::string thoughts, answer;
  };

  Chat(std::shared_ptr<Engine> engine, State state) : engine_(std::move(engine)), state_(std::move(state)) {}
  Result<Position> position() const;
  Status go_back(const Position& position);
  void start();
  Status drop_thoughts();
  Result<Generation> reply(const std::string& prompt, Sampler& sampler, GenerateOptions options,
                           bool think_visible, const OnText& on_text);
  std::string show(ReplyReader::Piece piece, bool think_visible);

  std::shared_ptr<Engine> engine_;
  ChatStyle style_;
  std::string system_;
  State state_;
  std::string owed_;
  bool fresh_ = true, after_system_ = false;
  std::optional<ReplyReader> reader_;  // of the last turn's reply; resume goes on with it
  std::int32_t unfed_ = -1;            // the last token of an open reply, which the state has not seen
  std::deque<Turn> turns_;             // the newest last
  int n_turns_ = 0;
};

}  // namespace fr
