#include "common/terminal.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "common/interrupt.h"
#include "common/words.h"

namespace fr::app {

bool is_terminal(std::FILE* stream) { return ::isatty(::fileno(stream)) == 1; }

bool may_style(std::FILE* stream) {
  const char* no_color = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  return is_terminal(stream) && (no_color == nullptr || *no_color == '\0') && term != nullptr &&
         std::string_view(term) != "dumb";
}

std::string printable(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f) continue;
    // U+0080..U+009F, which some terminals obey too: two bytes, C2 80..9F.
    if (c == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0) {
      ++i;
      continue;
    }
    out += text[i];
  }
  return out;
}

void show_messages(const char* program) {
  fr_set_log_callback(
      [](void* user, fr_log_level level, const char* message) {
        if (level < FR_LOG_INFO) return;
        const char* const clear = is_terminal(stderr) ? "\r\033[K" : "";  // a progress bar may be there
        std::fprintf(stderr, "%s%s: %s\n", clear, static_cast<const char*>(user), printable(message).c_str());
      },
      const_cast<char*>(program));
}

int report(const char* program, const faster_rwkv::Error& error) {
  if (error.code() == FR_INTERRUPTED) return FR_INTERRUPTED;
  std::string line = error.what();
  std::replace_if(
      line.begin(), line.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
  std::fflush(stdout);
  std::fprintf(stderr, "%s: error: %s\n", program, line.c_str());
  return error.code();
}

int with_output_written(int code) {
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    throw faster_rwkv::Error(FR_ERROR_RUNTIME,
                             "cannot write all of the output (standard output): is the disk full?");
  }
  return code;
}

int ProgressBar::callback(void* user, const char* step, std::uint64_t done, std::uint64_t total) {
  static_cast<ProgressBar*>(user)->show(step, done, total, true);
  return interrupted() ? 0 : 1;
}

void ProgressBar::show(std::string_view step, std::uint64_t done, std::uint64_t total, bool unit_bytes) {
  using std::chrono::duration;
  if (!visible_) return;
  const auto now = Clock::now();
  if (step != step_) {
    step_ = step;
    start_ = now;
    last_ = {};
  }
  // Short steps show nothing, long ones ten pictures a second.
  if (now - start_ < std::chrono::milliseconds(300) || now - last_ < std::chrono::milliseconds(100)) return;
  last_ = now;
  const double seconds = duration<double>(now - start_).count();
  const double share = total == 0 ? 0 : std::min(1.0, static_cast<double>(done) / static_cast<double>(total));
  constexpr int width = 24;
  const auto filled = static_cast<std::size_t>(share * width);
  const std::string bar = std::string(filled, '#') + std::string(width - filled, '.');
  const auto amount = [&](double n) { return unit_bytes ? bytes(static_cast<std::uint64_t>(n)) : count(n); };
  std::fprintf(
      stderr, "\r\033[K%s [%s] %3.0f%%  %s of %s, %s/s, %.0f s left", step_.c_str(), bar.c_str(), 100 * share,
      amount(static_cast<double>(done)).c_str(), amount(static_cast<double>(total)).c_str(),
      amount(static_cast<double>(done) / seconds).c_str(), share > 0 ? seconds / share - seconds : 0);
  std::fflush(stderr);
  drawn_ = true;
}

void ProgressBar::clear() {
  if (drawn_) std::fputs("\r\033[K", stderr);
  drawn_ = false;
}

}  // namespace fr::app
