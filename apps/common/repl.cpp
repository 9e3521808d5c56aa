#include "common/repl.h"

#include <string>

#include "common/interrupt.h"
#include "common/line_editor.h"
#include "common/line_reader.h"
#include "common/terminal.h"
#include "common/words.h"

namespace fr::app {
namespace {

using faster_rwkv::Error;

int chat_on_terminal(Session& session, LineEditor& editor, const Screen& screen) {
  Joiner joiner;
  std::string line;
  bool warned = false;
  for (;;) {
    const LineEditor::Event event = editor.read(joiner.waiting() ? "... " : ">>> ", line);
    if (event != LineEditor::Event::line) std::fputc('\n', screen.notes);
    if (event == LineEditor::Event::end) return FR_OK;
    if (event == LineEditor::Event::interrupt) {
      clear_interrupt();
      if (line.empty() && !joiner.waiting()) {
        if (warned) return FR_INTERRUPTED;
        std::fputs("(Ctrl-C again or Ctrl-D leaves)\n", screen.notes);
        warned = true;
      }
      joiner.clear();
      continue;
    }
    warned = false;
    if (!joiner.add(line) || trim(joiner.text()).empty()) continue;
    editor.remember(joiner.text());
    try {
      if (!session.run(parse_input(joiner.text()))) return FR_OK;
    } catch (const Error& e) {
      std::fprintf(screen.notes, "error: %s\n", printable(e.what()).c_str());
    }
    clear_interrupt();
  }
}

// A line that fails is reported with its number, and the conversation goes on; the result is the last error.
int chat_in_pipe(Session& session, const Screen& screen) {
  LineReader reader;
  int status = FR_OK, number = 0;
  for (std::string line; reader.next(line);) {
    ++number;
    if (line.ends_with('\r')) line.pop_back();
    if (trim(line).empty()) continue;
    Input input = parse_input(line);
    if (input.verb == Verb::unknown) input = {Verb::say, {}, line};
    try {
      if (!session.run(input)) break;
    } catch (const Error& e) {
      if (e.code() == FR_INTERRUPTED) throw;
      status = e.code();
      std::fprintf(screen.notes, "error: line %d: %s\n", number, printable(e.what()).c_str());
    }
  }
  return status;
}

}  // namespace

int run_repl(const faster_rwkv::Model& model, const ChatSetup& setup) {
  const bool interactive = is_terminal(stdin);
  std::FILE* notes = interactive && is_terminal(stdout) ? stdout : stderr;
  const Screen screen{stdout, notes, interactive, may_style(notes) && may_style(stdout)};
  Session session(model, setup, screen);
  session.greet();
  if (!interactive) return chat_in_pipe(session, screen);
  std::vector<std::string> words;
  for (const Command& c : commands()) words.emplace_back(c.name);
  LineEditor editor(notes, setup.history_file, std::move(words));
  return chat_on_terminal(session, editor, screen);
}

}  // namespace fr::app
