// Standard input line by line, from a pipe or from a terminal that edits lines itself.
#pragma once
#include <string>

namespace fr::app {

class LineReader {
 public:
  // The next line without its newline; false at the end. Throws faster_rwkv::Error: FR_INTERRUPTED at Ctrl-C,
  // FR_ERROR_FILE when standard input cannot be read.
  bool next(std::string& line);
  // What was read of a line that has not ended.
  std::string take_rest();

 private:
  std::string buffer_;
};

}  // namespace fr::app
