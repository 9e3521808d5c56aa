// Splits a generated reply into the thoughts and the answer while it arrives.
#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "text/chat_template.h"
#include "text/stop_strings.h"

namespace fr {

// Knows the part of the reply that is in the prompt already (ChatTemplate::open_reply), so "<think" +
// ">\n..." is read as one. Spaces before the answer and white space after the thoughts are left out.
// Templates without a think mode give the text as answer. Text comes in pieces of whole characters, cut
// anywhere. Not thread-safe.
class ReplyReader {
 public:
  struct Piece {
    std::string thoughts, answer;
  };

  ReplyReader(const ChatTemplate& chat, Think think);

  Piece push(std::string_view text);
  Piece finish();  // what was held back because it could become a tag

 private:
  enum class Part { opening, thoughts_begin, thoughts, answer_begin, answer };

  Part part_;
  bool thinks_;
  std::string opening_;  // a beginning of "<think>"
  StopStrings end_tag_;
  Piece first_;  // from the part of the reply that is in the prompt
};

}  // namespace fr
