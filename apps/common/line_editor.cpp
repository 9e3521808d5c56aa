#include "common/line_editor.h"

#include <histedit.h>
#include <langinfo.h>
#include <unistd.h>

#include <clocale>
#include <cstring>
#include <cwchar>
#include <string_view>

#include "common/history_file.h"
#include "common/interrupt.h"
#include "common/terminal.h"

namespace fr::app {

struct LineEditor::Impl {
  std::FILE* screen = nullptr;
  std::string prompt;
  std::string history_file;
  std::vector<std::string> words;
  EditLine* editor = nullptr;
  History* history = nullptr;
  bool interrupted = false;
  std::string interrupted_text;

  static Impl* of(EditLine* el) {
    void* self = nullptr;
    el_get(el, EL_CLIENTDATA, &self);
    return static_cast<Impl*>(self);
  }
  static std::string text_of(EditLine* el) {
    const LineInfo* line = el_line(el);
    return std::string(line->buffer, line->lastchar);
  }
  static char* prompt_of(EditLine* el) { return of(el)->prompt.data(); }
  static int get_char(EditLine* el, wchar_t* out);
  static unsigned char paste(EditLine* el, int);
  static unsigned char newline(EditLine* el, int);
  static unsigned char complete(EditLine* el, int);
  void bind_keys() const;
};

// Reads one character; the line ends early when Ctrl-C came.
int LineEditor::Impl::get_char(EditLine* el, wchar_t* out) {
  std::mbstate_t state{};
  for (;;) {
    switch (wait_for_input(STDIN_FILENO)) {
      case Wake::interrupt:
        of(el)->interrupted = true;
        of(el)->interrupted_text = text_of(el);
        return -1;
      case Wake::screen_changed:  // also after Ctrl-Z and fg, when the shell has changed the terminal's mode
        el_resize(el);
        el_set(el, EL_PREP_TERM, 0);
        el_set(el, EL_PREP_TERM, 1);
        el_set(el, EL_REFRESH);
        continue;
      case Wake::input:
        break;
    }
    char byte = 0;
    if (::read(STDIN_FILENO, &byte, 1) != 1) return 0;
    const std::size_t n = std::mbrtowc(out, &byte, 1, &state);
    if (n == static_cast<std::size_t>(-2)) continue;  // the character goes on
    if (n == static_cast<std::size_t>(-1)) {          // not UTF-8: skip it
      state = {};
      continue;
    }
    return 1;
  }
}

// The terminal announced pasted text: everything up to its end mark is text, newlines included.
unsigned char LineEditor::Impl::paste(EditLine* el, int) {
  constexpr std::wstring_view end_mark = L"\033[201~";
  std::wstring text;
  wchar_t c = 0;
  while (!text.ends_with(end_mark)) {
    if (el_wgetc(el, &c) != 1) return CC_EOF;
    if (c == L'\0') continue;
    if (c == L'\n' && text.ends_with(L'\r'))
      text.pop_back();
    else if (!text.empty() && text.back() == L'\r')
      text.back() = L'\n';
    text += c;
  }
  text.resize(text.size() - end_mark.size());
  for (wchar_t& t : text) {
    if (t == L'\r') t = L'\n';
  }
  if (!text.empty()) el_winsertstr(el, text.c_str());
  return CC_REFRESH;
}

unsigned char LineEditor::Impl::newline(EditLine* el, int) {
  el_winsertstr(el, L"\n");
  return CC_REFRESH;
}

// Completes the command at the start of the line as far as it is certain.
unsigned char LineEditor::Impl::complete(EditLine* el, int) {
  const LineInfo* line = el_line(el);
  const std::string typed(line->buffer, line->cursor);
  std::string common;
  std::size_t matches = 0;
  for (const std::string& word : of(el)->words) {
    if (typed.empty() || !word.starts_with(typed)) continue;
    if (++matches == 1) {
      common = word;
      continue;
    }
    while (!word.starts_with(common)) common.pop_back();
  }
  if (matches == 1) common += ' ';
  if (common.size() <= typed.size()) return CC_REFRESH_BEEP;
  el_insertstr(el, common.substr(typed.size()).c_str());
  return CC_REFRESH;
}

void LineEditor::Impl::bind_keys() const {
  // With wide strings: of narrow ones libedit would keep copies that it never frees.
  el_wset(editor, EL_ADDFN, L"frwkv-paste", L"insert pasted text", &Impl::paste);
  el_wset(editor, EL_ADDFN, L"frwkv-newline", L"insert a newline", &Impl::newline);
  el_wset(editor, EL_ADDFN, L"frwkv-complete", L"complete a command", &Impl::complete);
  constexpr const char* keys[][2] = {
      {"\\e[200~", "frwkv-paste"},       {"\\e\\r", "frwkv-newline"},  {"\\e\\n", "frwkv-newline"},
      {"\\t", "frwkv-complete"},         {"^R", "em-inc-search-prev"}, {"^W", "ed-delete-prev-word"},
      {"\\e[3~", "ed-delete-next-char"}, {"\\e[1;5C", "em-next-word"}, {"\\e[1;5D", "ed-prev-word"},
      {"\\e[H", "ed-move-to-beg"},       {"\\e[F", "ed-move-to-end"},
  };
  for (const auto& [key, function] : keys) el_set(editor, EL_BIND, key, function, nullptr);
}

LineEditor::LineEditor(std::FILE* screen, std::string history_file, std::vector<std::string> words)
    : impl_(std::make_unique<Impl>()) {
  std::setlocale(LC_CTYPE, "");
  if (std::strcmp(::nl_langinfo(CODESET), "UTF-8") != 0) std::setlocale(LC_CTYPE, "C.UTF-8");
  Impl& me = *impl_;
  me.screen = screen;
  me.history_file = std::move(history_file);
  me.words = std::move(words);
  me.editor = el_init("frwkv", stdin, screen, stderr);
  el_set(me.editor, EL_CLIENTDATA, &me);
  el_set(me.editor, EL_PROMPT, &Impl::prompt_of);
  el_set(me.editor, EL_EDITOR, "emacs");
  el_set(me.editor, EL_GETCFN, &Impl::get_char);
  me.bind_keys();
  el_source(me.editor, nullptr);  // ~/.editrc

  HistEvent event;
  me.history = history_init();
  history(me.history, &event, H_SETSIZE, 1000);
  history(me.history, &event, H_SETUNIQUE, 1);
  if (!me.history_file.empty()) {
    for (const std::string& entry : load_history(me.history_file))
      history(me.history, &event, H_ENTER, entry.c_str());
  }
  el_set(me.editor, EL_HIST, history, me.history);
}

LineEditor::~LineEditor() {
  el_end(impl_->editor);
  history_end(impl_->history);
}

LineEditor::Event LineEditor::read(const std::string& prompt, std::string& text) {
  Impl& me = *impl_;
  me.prompt = prompt;
  me.interrupted = false;
  const bool marks_pastes = is_terminal(me.screen);
  if (marks_pastes) std::fputs("\033[?2004h", me.screen);
  std::fflush(me.screen);
  // Before the prompt is seen, so that no key is taken as in a plain line.
  el_set(me.editor, EL_PREP_TERM, 1);
  int n = 0;
  const char* line = el_gets(me.editor, &n);
  if (marks_pastes) std::fputs("\033[?2004l", me.screen);
  std::fflush(me.screen);
  if (me.interrupted) {
    el_reset(me.editor);
    text = me.interrupted_text;
    return Event::interrupt;
  }
  if (line == nullptr || n <= 0) return Event::end;
  text.assign(line, static_cast<std::size_t>(n));
  if (text.ends_with('\n')) text.pop_back();
  return Event::line;
}

void LineEditor::remember(const std::string& text) {
  HistEvent event;
  history(impl_->history, &event, H_ENTER, text.c_str());
  if (!impl_->history_file.empty()) append_history(impl_->history_file, text);
}

}  // namespace fr::app
