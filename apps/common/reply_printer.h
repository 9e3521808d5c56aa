// Writes a streamed reply: reasoning dim on a terminal, no white space at the end, a blank line after it.
#pragma once
#include <cstdio>
#include <string>
#include <string_view>

namespace fr::app {

class ReplyPrinter {
 public:
  // styled: reasoning is dim instead of between its tags. terminal: control characters are dropped.
  ReplyPrinter(std::FILE* out, bool terminal, bool styled)
      : out_(out), terminal_(terminal), styled_(styled) {}
  ReplyPrinter(const ReplyPrinter&) = delete;
  ReplyPrinter& operator=(const ReplyPrinter&) = delete;
  ~ReplyPrinter();

  // A reply may begin with <think>...</think>; tags may be cut anywhere.
  void add(std::string_view piece);
  void finish();  // what was held back, and the blank line

 private:
  enum class Where { start, thoughts, answer };
  void write(std::string_view text);
  void emit(std::string_view text);

  std::FILE* out_;
  bool terminal_, styled_;
  bool dim_ = false;
  Where where_ = Where::start;
  std::string tag_;    // may be the beginning of a tag
  std::string space_;  // white space that is dropped if nothing follows
};

}  // namespace fr::app
