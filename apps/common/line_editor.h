// One line (or one pasted block) from the terminal, with editing, history and completion, by libedit.
#pragma once
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

namespace fr::app {

// One at a time per process. Needs catch_interrupts().
class LineEditor {
 public:
  // Prompts and the line are drawn on screen. history_file empty: the history ends with the program. words:
  // what Tab completes at the start of a line.
  LineEditor(std::FILE* screen, std::string history_file, std::vector<std::string> words);
  ~LineEditor();

  enum class Event { line, end, interrupt };  // end: Ctrl-D on an empty line; interrupt: Ctrl-C
  // text: the line without its newline; at an interrupt, what stood there. Alt-Enter and pasting put newlines
  // inside.
  Event read(const std::string& prompt, std::string& text);
  void remember(const std::string& text);  // into the history and its file

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace fr::app
