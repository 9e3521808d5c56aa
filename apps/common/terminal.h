// What goes to the screen: errors in one line, a progress bar on terminals, model text without control
// characters.
#pragma once
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

#include "faster_rwkv/fr.hpp"

namespace fr::app {

bool is_terminal(std::FILE* stream);
// A terminal that may be styled: NO_COLOR is not set and TERM is not "dumb".
bool may_style(std::FILE* stream);
// Text of a model or file for a terminal: control characters except newline and tab are dropped, so that it
// cannot send escape sequences. The text may end inside a UTF-8 character.
std::string printable(std::string_view text);

// What the library has to say ("the file's weights become int8") goes to stderr, "<program>: <message>".
// `program` must outlive all of it.
void show_messages(const char* program);

// "<program>: error: <message>" on stderr, always one line. An interruption is silent. Returns the exit code.
int report(const char* program, const faster_rwkv::Error& error);
// `code`, the exit code of a program that is done. Throws when not all of its output could be written.
int with_output_written(int code);

// Shows the loading of a model on stderr, if that is a terminal; also notices Ctrl-C.
class ProgressBar {
 public:
  ProgressBar() : visible_(is_terminal(stderr)) {}
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  ~ProgressBar() { clear(); }
  // An fr_progress_callback; user is the ProgressBar.
  static int callback(void* user, const char* step, std::uint64_t done, std::uint64_t total);
  // unit_bytes: done and total are bytes, else things.
  void show(std::string_view step, std::uint64_t done, std::uint64_t total, bool unit_bytes);
  void clear();  // removes the bar from the screen

 private:
  using Clock = std::chrono::steady_clock;
  bool visible_;
  bool drawn_ = false;
  std::string step_;
  Clock::time_point start_ = Clock::now(), last_ = start_;
};

}  // namespace fr::app
