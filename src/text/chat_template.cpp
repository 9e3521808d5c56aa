#include "text/chat_template.h"

#include <algorithm>
#include <cctype>

namespace fr {
namespace {

using PerThink = std::array<std::string_view, kThinkModes>;

constexpr PerThink think_open(std::string_view fast, std::string_view on) {
  return {"", fast, on, on, on, on};
}
constexpr PerThink kAskInBrackets = {"", "", "", " (think a bit)", " (think)", " (think a lot)"};
constexpr PerThink kAskInWords = {"", "", "", " think a bit", " think", " think a lot"};

// User and Assistant, separated by blank lines: every World model since v4. The space after the last colon is
// left to the model, because " Hello" is one token.
constexpr ChatTemplate user_assistant(std::string_view name, std::string_view summary) {
  return {name, summary, "System: ", "User: ", "", "Assistant:", " ", "\n\n", "\n\n"};
}

// G1 models are World models that can think. "<think" and "</think" stay open: their ">" is the model's to
// write.
constexpr ChatTemplate g1(std::string_view name, std::string_view summary, PerThink open, PerThink ask = {}) {
  ChatTemplate t = user_assistant(name, summary);
  t.think_open = open;
  t.think_ask = ask;
  t.think_stop = "\n\nUser:";
  t.thinks = t.leading_zero = true;
  return t;
}

constexpr ChatTemplate raven() {
  return {"raven", "Bob and Alice (v4 Raven)", "", "Bob: ", "", "Alice:", " ", "\n\n", "\n\n"};
}

constexpr ChatTemplate raven_instruct() {
  return {
      "raven-instruct",
      "one instruction; a system message makes the user's text its input (v4 Raven)",
      "\nBelow is an instruction that describes a task, paired with an input that provides further context. "
      "Write a response that appropriately completes the request.\n\n# Instruction:\n",
      "\nBelow is an instruction that describes a task. "
      "Write a response that appropriately completes the request.\n\n# Instruction:\n",
      "# Input:\n",
      "# Response:\n",
      "",
      "\n\n",
      "\n\n# "};
}

constexpr ChatTemplate instruction() {
  return {"instruction",
          "one instruction; a system message makes the user's text its input (World)",
          "Instruction: ",
          "Instruction: ",
          "Input: ",
          "Response:",
          " ",
          "\n\n",
          "\n\nInstruction:"};
}

constexpr ChatTemplate plain() {
  ChatTemplate t{"plain", "the text as it is, continued by the model", "", "", "", "", "", "", ""};
  t.cleans = false;
  return t;
}

// Sources: ChatRWKV (README, API_DEMO_CHAT.py, v2/chat.py), RWKV-LM RWKV7-G1x-templates.txt (2026), the G1
// model cards (2025), wiki.rwkv.com (instruction), rwkv_lightning (g1-closed). Dates are those of the
// checkpoints.
constexpr ChatTemplate kTemplates[] = {
    user_assistant("world", "User and Assistant (World, v4 to v7)"),
    g1("g1", "G1 since 2026: asks with (think a bit)", think_open(" <think>\n</think", " <think"),
       kAskInBrackets),
    g1("g1-2509", "G1 of 2025-09-22 and later: asks with think a bit",
       think_open(" <think>\n</think", " <think"), kAskInWords),
    g1("g1-2503", "the first G1: cannot be asked for more or less",
       think_open(" <think>\n</think", " <think")),
    g1("g1-empty", "g1 with <think></think for fast", think_open(" <think></think", " <think"),
       kAskInBrackets),
    g1("g1-closed", "g1 with a wholly closed block for fast", think_open(" <think>\n</think>\n", " <think"),
       kAskInBrackets),
    g1("g1-zh", "g1, thinking in Chinese", think_open(" <think>\n</think", " <think>嗯")),
    raven(),
    raven_instruct(),
    instruction(),
    plain(),
};

constexpr std::string_view kThinkNameList[kThinkModes] = {"off", "fast", "on", "low", "medium", "high"};

std::string_view trim(std::string_view text) {
  constexpr std::string_view white = " \t\n\r\v\f";
  const std::size_t begin = text.find_first_not_of(white);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(white) - begin + 1);
}

const ChatTemplate* by_name(std::string_view name) {
  const auto* found = std::find_if(std::begin(kTemplates), std::end(kTemplates),
                                   [&](const ChatTemplate& t) { return t.name == name; });
  return found == std::end(kTemplates) ? nullptr : found;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return c >= 'a' && c <= 'z'; }

// The words of a lower-case file name: "rwkv7-g1k-1.5b-20260930.pth" has rwkv7, g1k, 1, 5b, 20260930, pth.
std::vector<std::string_view> words_of(std::string_view name) {
  std::vector<std::string_view> words;
  for (std::size_t at = 0; at < name.size();) {
    const std::size_t end = std::min(name.find_first_of("-_. ", at), name.size());
    if (end > at) words.push_back(name.substr(at, end - at));
    at = end + 1;
  }
  return words;
}

// g0, g1, g1k, g1a2: the name of a G series.
bool is_g_series(std::string_view word) {
  if (word.size() < 2 || word.size() > 4 || word[0] != 'g' || (word[1] != '0' && word[1] != '1'))
    return false;
  return (word.size() < 3 || is_letter(word[2])) && (word.size() < 4 || is_digit(word[3]));
}

bool is_date(std::string_view word) {
  return word.size() == 8 && word.starts_with("20") && std::all_of(word.begin(), word.end(), is_digit);
}

TemplateGuess guess_g1(const std::vector<std::string_view>& words) {
  const auto date = std::find_if(words.begin(), words.end(), is_date);
  if (date == words.end()) return {by_name("g1"), "the file name says G1"};
  const std::string day(*date);
  const char* name = day < "20250922" ? "g1-2503" : day < "20260418" ? "g1-2509" : "g1";
  return {by_name(name),
          "the file name says G1 of " + day.substr(0, 4) + "-" + day.substr(4, 2) + "-" + day.substr(6)};
}

}  // namespace

std::string clean_message(std::string_view text) {
  std::string clean;
  clean.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\r' && i + 1 < text.size() && text[i + 1] == '\n') continue;
    if (text[i] == '\n' && clean.ends_with('\n')) continue;
    clean += text[i];
  }
  return std::string(trim(clean));
}

std::string ChatTemplate::system(std::string_view text) const {
  return std::string(system_prefix) + (cleans ? clean_message(text) : std::string(text)) +
         std::string(separator);
}

std::string ChatTemplate::user(std::string_view text, Think think, bool after_system) const {
  return std::string(after_system && !input_prefix.empty() ? input_prefix : user_prefix) +
         (cleans ? clean_message(text) : std::string(text)) +
         std::string(think_ask[static_cast<std::size_t>(think)]) + std::string(separator);
}

std::string ChatTemplate::reply(std::string_view text) const {
  return std::string(reply_prefix) + std::string(reply_space) +
         (cleans ? clean_message(text) : std::string(text)) + std::string(separator);
}

std::string ChatTemplate::open_reply(Think think) const {
  return std::string(reply_prefix) + std::string(think_open[static_cast<std::size_t>(think)]);
}

std::string ChatTemplate::render(std::span<const Message> messages, Think think, bool open) const {
  std::string text;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const Message& message = messages[i];
    switch (message.role) {
      case Role::system:
        text += system(message.content);
        break;
      case Role::user: {
        const bool last = open && i + 1 == messages.size();
        text +=
            user(message.content, last ? think : Think::off, i > 0 && messages[i - 1].role == Role::system);
        break;
      }
      case Role::assistant:
        text += reply(message.content);
        break;
    }
  }
  return open ? text + open_reply(think) : text;
}

std::vector<std::string> ChatTemplate::stops(Think think) const {
  const std::string_view found = think != Think::off && !think_stop.empty() ? think_stop : stop;
  if (found.empty()) return {};
  return {std::string(found)};
}

std::span<const ChatTemplate> chat_templates() { return kTemplates; }

std::string chat_template_names() {
  std::string names;
  for (const ChatTemplate& t : kTemplates) names += (names.empty() ? "" : ", ") + std::string(t.name);
  return names;
}

Result<const ChatTemplate*> find_chat_template(std::string_view name) {
  if (const ChatTemplate* found = by_name(name)) return found;
  return usage_error("no such chat template (" + std::string(name) + "): use one of " +
                     chat_template_names());
}

Result<Think> parse_think(std::string_view name) {
  const auto* found = std::find(std::begin(kThinkNameList), std::end(kThinkNameList), name);
  if (found != std::end(kThinkNameList)) return static_cast<Think>(found - std::begin(kThinkNameList));
  return usage_error("no such think mode (" + std::string(name) + "): use one of " +
                     std::string(kThinkNames));
}

TemplateGuess guess_chat_template(std::string_view file, std::int64_t n_vocab, int version) {
  std::string name(file.substr(file.find_last_of('/') + 1));
  std::transform(name.begin(), name.end(), name.begin(),
                 [](char c) { return static_cast<char>(std::tolower(static_cast<unsigned char>(c))); });
  const auto words = words_of(name);
  const auto has_word = [&](auto... word) {
    return ((std::count(words.begin(), words.end(), word) > 0) || ...);
  };

  if (has_word("raven")) return {by_name("raven"), "the file name says Raven"};
  if (has_word("midi", "music", "abc", "novel"))
    return {by_name("plain"), "the file name says music or novels"};
  if (std::any_of(words.begin(), words.end(), is_g_series)) return guess_g1(words);
  if (has_word("world")) return {by_name("world"), "the file name says World"};
  if (n_vocab > 50000 && n_vocab < 51000) return {by_name("plain"), "the vocabulary is the Pile's"};
  if (n_vocab < 512) return {by_name("plain"), "the vocabulary is tiny"};
  if (version == 7 && n_vocab >= 65529) return {by_name("g1"), "the model is a v7 with the World vocabulary"};
  return {by_name("world"), "nothing says otherwise"};
}

}  // namespace fr
