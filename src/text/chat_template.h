// How a chat is written as plain text for each family of models: RWKV has no special tokens for roles.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace fr {

enum class Role : std::uint8_t { system, user, assistant };

struct Message {
  Role role;
  std::string content;
};

// off: answer at once. fast: a think block that is closed already, which still makes the answers of G1 models
// better. on: the model opens the think block. low, medium, high: the same, and the user's text asks for that
// much of it.
enum class Think : std::uint8_t { off, fast, on, low, medium, high };
inline constexpr std::size_t kThinkModes = 6;
inline constexpr std::string_view kThinkNames = "off, fast, on, low, medium, high";

// A template is data. Its pieces are made to be fed to a state one after the other: a conversation costs only
// its new turn. The text of a whole conversation (render) is the pieces in order:
//
//   system(S) user(U1) reply(A1) ... user(Un, think) open_reply(think)
//
// When the reply is generated and not given as text, reply(A) is open_reply(Think::off), what the model
// generates, and `separator`, unless the model wrote that itself and the state has seen it.
struct ChatTemplate {
  std::string_view name;
  std::string_view summary;        // one line for help texts
  std::string_view system_prefix;  // before a system message
  std::string_view user_prefix;
  std::string_view input_prefix;  // the user prefix right after a system message; empty: user_prefix
  std::string_view reply_prefix;  // what the model continues; no space at its end, the model writes it
  std::string_view reply_space;   // between reply_prefix and a reply: the model's replies begin with it
  std::string_view separator;     // ends every message
  std::string_view stop;          // ends a reply besides id 0; empty: nothing does
  std::array<std::string_view, kThinkModes> think_open{};  // by Think: follows reply_prefix
  std::array<std::string_view, kThinkModes> think_ask{};   // by Think: follows the user's text
  std::string_view think_stop{};  // `stop` of a reply with a think block: blank lines may be in and after it
  bool thinks = false;            // has a think mode; without one only Think::off makes sense
  bool cleans = true;             // messages are cleaned (clean_message)
  bool leading_zero = false;      // a fresh state is fed id 0 before the first piece

  std::string system(std::string_view text) const;
  std::string user(std::string_view text, Think think = Think::off, bool after_system = false) const;
  std::string reply(std::string_view text) const;
  std::string open_reply(Think think = Think::off) const;

  // The prompt for a conversation. With open: the last message is the user's, `think` applies to it alone,
  // and the prompt ends where the model writes its reply. Without: only the messages.
  std::string render(std::span<const Message> messages, Think think = Think::off, bool open = true) const;
  // Stop strings for a reply. Id 0 (kEndOfText) ends a reply in every template.
  std::vector<std::string> stops(Think think = Think::off) const;
};

// "\r\n" becomes "\n", runs of newlines become one, ASCII white space at both ends goes. The blank line is
// what separates the messages, so no message can pretend to be the next one. (RWKV-LM
// RWKV-v7/RWKV7-G1x-templates.txt)
std::string clean_message(std::string_view text);

// All templates; they live as long as the program.
std::span<const ChatTemplate> chat_templates();
// "world, g1, ...".
std::string chat_template_names();
// Usage error naming all of them.
Result<const ChatTemplate*> find_chat_template(std::string_view name);
Result<Think> parse_think(std::string_view name);

struct TemplateGuess {
  const ChatTemplate* chat;
  std::string reason;  // to be shown: "the file name says G1 of 2026-09-30"
};

// From the name of the model file (a path is fine), the rows of its embedding and its version (4, 5, 6, 7).
TemplateGuess guess_chat_template(std::string_view file, std::int64_t n_vocab, int version);

}  // namespace fr
