#include "common/reply_printer.h"

#include <algorithm>

#include "common/terminal.h"

namespace fr::app {
namespace {

constexpr std::string_view open_tag = "<think>", close_tag = "</think>";

// Length of the longest end of text that is a beginning of tag.
std::size_t partial_tag(std::string_view text, std::string_view tag) {
  for (std::size_t n = std::min(text.size(), tag.size() - 1); n > 0; --n) {
    if (text.ends_with(tag.substr(0, n))) return n;
  }
  return 0;
}

}  // namespace

ReplyPrinter::~ReplyPrinter() {
  if (dim_) std::fputs("\033[0m", out_);
}

void ReplyPrinter::add(std::string_view piece) {
  if (!styled_) return write(piece);
  tag_ += piece;
  if (where_ == Where::start) {
    if (tag_.size() < open_tag.size() && open_tag.starts_with(tag_)) return;
    where_ = tag_.starts_with(open_tag) ? Where::thoughts : Where::answer;
    if (where_ == Where::thoughts) {
      tag_.erase(0, open_tag.size());
      std::fputs("\033[2m", out_);
      dim_ = true;
    }
  }
  std::string text = std::move(tag_);
  tag_.clear();
  if (where_ == Where::thoughts) {
    const std::size_t end = text.find(close_tag);
    if (end == std::string::npos) {
      const std::size_t held = partial_tag(text, close_tag);
      tag_ = text.substr(text.size() - held);
      text.resize(text.size() - held);
    } else {
      write(text.substr(0, end));
      std::fputs("\033[0m", out_);
      dim_ = false;
      where_ = Where::answer;
      text.erase(0, end + close_tag.size());
    }
  }
  write(text);
}

void ReplyPrinter::finish() {
  if (!tag_.empty()) write(tag_);  // it was none
  tag_.clear();
  space_.clear();
  if (dim_) std::fputs("\033[0m", out_);
  dim_ = false;
  std::fputs("\n\n", out_);
  std::fflush(out_);
}

void ReplyPrinter::write(std::string_view text) {
  const std::size_t last = text.find_last_not_of(" \t\r\n");
  if (last == std::string_view::npos) {
    space_ += text;
    return;
  }
  emit(space_);
  emit(text.substr(0, last + 1));
  space_ = text.substr(last + 1);
  std::fflush(out_);
}

void ReplyPrinter::emit(std::string_view text) {
  const std::string shown = terminal_ ? printable(text) : std::string(text);
  std::fwrite(shown.data(), 1, shown.size(), out_);
}

}  // namespace fr::app
