// What a line typed into the chat means: a message, or a command with / or ChatRWKV's +.
#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fr::app {

enum class Verb {
  say,
  unknown,
  help,
  reset,
  undo,
  retry,
  carry_on,
  fork,
  forks,
  switch_fork,
  save,
  load,
  system,
  set,
  show,
  stats,
  read,
  quit,
  generate,
  instruct,
  answer,
  question,
  retry_free,
  prompt,
};

struct Input {
  Verb verb = Verb::say;
  std::string name;      // the command as typed, "/sav"
  std::string argument;  // the rest of the line, or the whole message
};

struct Command {
  std::string_view name;  // "/save", "+gen"
  Verb verb;
  std::string_view
      argument;           // what it takes, for the help: "FILE"; "[NAME]": may be left out; empty: nothing
  std::string_view help;  // empty: an alias
};
std::span<const Command> commands();

// Commands are words at the very start of a line; case does not matter. A line that begins with / and is no
// command is Verb::unknown (the name tells which); one with + is then a message.
Input parse_input(std::string_view line);
// What is wrong with a command's argument (missing, or one too many); empty: nothing.
std::string argument_error(const Input& input);
// "/sav" -> "unknown command '/sav': did you mean /save? ..."
std::string unknown_command(std::string_view name);
std::string help_text();

// Joins the lines of one input: a line that ends with \ goes on in the next one; """ begins a block that ends
// with """.
class Joiner {
 public:
  // Returns true when the input is complete: take it from text().
  bool add(std::string_view line);
  const std::string& text() const { return text_; }
  bool waiting() const { return waiting_; }  // for more lines
  void clear();

 private:
  std::string text_;
  bool waiting_ = false, block_ = false;
};

}  // namespace fr::app
