#include "common/line_reader.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "common/interrupt.h"
#include "faster_rwkv/fr.hpp"

namespace fr::app {

using faster_rwkv::Error;

bool LineReader::next(std::string& line) {
  for (;;) {
    if (const std::size_t end = buffer_.find('\n'); end != std::string::npos) {
      line = buffer_.substr(0, end);
      buffer_.erase(0, end + 1);
      return true;
    }
    char block[4096];
    if (wait_for_input(STDIN_FILENO) == Wake::interrupt) throw Error(FR_INTERRUPTED, "interrupted");
    const ssize_t n = ::read(STDIN_FILENO, block, sizeof block);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw Error(FR_ERROR_FILE, std::string("cannot read standard input: ") + std::strerror(errno));
    if (n > 0) {
      buffer_.append(block, static_cast<std::size_t>(n));
      continue;
    }
    line = take_rest();
    return !line.empty();
  }
}

std::string LineReader::take_rest() { return std::exchange(buffer_, {}); }

}  // namespace fr::app
