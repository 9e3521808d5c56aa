// For builds without libedit (cross builds, by default): the terminal's own line editing, no history, no
// completion.
#include "common/line_editor.h"
#include "common/line_reader.h"
#include "faster_rwkv/fr.hpp"

namespace fr::app {

struct LineEditor::Impl {
  std::FILE* screen = nullptr;
  LineReader lines;
};

LineEditor::LineEditor(std::FILE* screen, std::string, std::vector<std::string>)
    : impl_(std::make_unique<Impl>(screen)) {}
LineEditor::~LineEditor() = default;

LineEditor::Event LineEditor::read(const std::string& prompt, std::string& text) {
  std::fputs(prompt.c_str(), impl_->screen);
  std::fflush(impl_->screen);
  try {
    return impl_->lines.next(text) ? Event::line : Event::end;
  } catch (const faster_rwkv::Error& e) {
    if (e.code() != FR_INTERRUPTED) throw;
    text = impl_->lines.take_rest();
    return Event::interrupt;
  }
}

void LineEditor::remember(const std::string&) {}

}  // namespace fr::app
