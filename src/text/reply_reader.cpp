#include "text/reply_reader.h"

#include <algorithm>
#include <utility>

namespace fr {
namespace {

constexpr std::string_view kBeginTag = "<think>", kEndTag = "</think>", kWhite = " \t\n\r";

// Removes leading characters of the set; true when something is left.
bool skip(std::string& text, std::string_view set) {
  text.erase(0, std::min(text.find_first_not_of(set), text.size()));
  return !text.empty();
}

}  // namespace

ReplyReader::ReplyReader(const ChatTemplate& chat, Think think)
    : part_(chat.reply_space.empty() ? Part::answer : Part::opening),
      thinks_(chat.thinks),
      end_tag_(*StopStrings::create({std::string(kEndTag)})) {
  first_ = push(chat.think_open[static_cast<std::size_t>(think)]);
}

ReplyReader::Piece ReplyReader::push(std::string_view piece) {
  Piece out = std::exchange(first_, {});
  std::string text(piece);
  if (part_ == Part::opening) {
    if (opening_.empty() && !skip(text, " ")) return out;
    opening_ += std::exchange(text, {});
    if (thinks_ && opening_.size() < kBeginTag.size() && kBeginTag.starts_with(opening_)) return out;
    text = std::exchange(opening_, {});
    part_ = Part::answer;
    if (thinks_ && text.starts_with(kBeginTag)) {
      text.erase(0, kBeginTag.size());
      part_ = Part::thoughts_begin;
    }
  }
  if (part_ == Part::thoughts_begin && skip(text, kWhite)) part_ = Part::thoughts;
  if (part_ == Part::thoughts) {
    StopStrings::Piece thoughts = end_tag_.push(text);
    out.thoughts += thoughts.text;
    text = std::move(thoughts.after);
    if (thoughts.match) part_ = Part::answer_begin;
  }
  if (part_ == Part::answer_begin && skip(text, kWhite)) part_ = Part::answer;
  if (part_ == Part::answer) out.answer += text;
  return out;
}

ReplyReader::Piece ReplyReader::finish() {
  Piece out = std::exchange(first_, {});
  out.thoughts += end_tag_.finish();
  out.answer += std::exchange(opening_, {});
  return out;
}

}  // namespace fr
