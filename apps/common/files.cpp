#include "common/files.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "common/interrupt.h"
#include "faster_rwkv/fr.hpp"

namespace fr::app {
namespace {

using faster_rwkv::Error;

std::string read_all(int fd, const std::string& name, const char* what) {
  std::string out;
  char buffer[1 << 16];
  for (;;) {
    if (wait_for_input(fd) == Wake::interrupt) throw Error(FR_INTERRUPTED, "interrupted");
    const ssize_t n = ::read(fd, buffer, sizeof buffer);
    if (n == 0) return out;
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      throw Error(FR_ERROR_FILE,
                  std::string("cannot read ") + what + " (" + name + "): " + std::strerror(errno));
    }
    out.append(buffer, static_cast<std::size_t>(n));
  }
}

}  // namespace

std::string expand_home(std::string_view path) {
  const char* home = std::getenv("HOME");
  if (!path.starts_with("~/") || home == nullptr) return std::string(path);
  return home + std::string(path.substr(1));
}

std::string read_file(const std::string& path, const char* what) {
  struct Fd {
    int fd;
    ~Fd() {
      if (fd >= 0) ::close(fd);
    }
  } const file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.fd < 0) {
    throw Error(FR_ERROR_FILE, std::string("cannot open ") + what + " (" + path +
                                   "): " + std::strerror(errno) + ", check the path");
  }
  return read_all(file.fd, path, what);
}

std::string read_stdin() { return read_all(STDIN_FILENO, "standard input", "the input"); }

void refuse_overwriting(const std::string& out, const char* model) {
  std::error_code none;
  if (out.empty() || !std::filesystem::equivalent(out, model, none)) return;
  throw faster_rwkv::Error(FR_ERROR_USAGE,
                           "the output is the model file itself (" + out + "): name another file");
}

}  // namespace fr::app
