#include "process.h"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <thread>

extern char** environ;

namespace fr::test {
namespace {

std::vector<std::string> environment(const Variables& variables) {
  Variables all;
  for (char** e = environ; *e != nullptr; ++e) {
    const std::string entry = *e;
    const std::size_t equals = entry.find('=');
    if (!entry.starts_with("FRWKV_")) all[entry.substr(0, equals)] = entry.substr(equals + 1);
  }
  all["TERM"] = "xterm";
  all["LC_ALL"] = "C.UTF-8";
  all["FRWKV_HISTORY"] = "off";
  for (const auto& [name, value] : variables) all[name] = value;
  std::vector<std::string> out;
  for (const auto& [name, value] : all) out.push_back(name + "=" + value);
  return out;
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> out;
  for (std::string& s : strings) out.push_back(s.data());
  out.push_back(nullptr);
  return out;
}

// In the child: becomes the program.
[[noreturn]] void become(Arguments command, std::vector<std::string> variables) {
  const std::vector<char*> argv = pointers(command), env = pointers(variables);
  ::execve(argv[0], argv.data(), env.data());
  ::_exit(127);
}

int exit_code(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status); }

std::pair<int, int> make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("pipe");
  return {ends[0], ends[1]};
}

}  // namespace

std::string frwkv() { return FR_FRWKV_PROGRAM; }
std::string chat() { return FR_CHAT_PROGRAM; }
std::string model_path() { return FR_SOURCE_DIR "/models/rwkv7-story-9m.pth"; }
std::string vocab_path() { return FR_SOURCE_DIR "/models/rwkv7-story-9m.vocab.txt"; }

Finished run(const Arguments& command, const std::string& input, const Variables& variables) {
  std::signal(SIGPIPE, SIG_IGN);
  const Folder folder;
  const std::string in = folder.write("in", input), out = folder.path("out"), err = folder.path("err");
  const std::vector<std::string> env = environment(variables);
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::dup2(::open(in.c_str(), O_RDONLY), 0);
    ::dup2(::open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), 1);
    ::dup2(::open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), 2);
    become(command, env);
  }
  int status = 0;
  rusage usage{};
  ::wait4(pid, &status, 0, &usage);
  return {exit_code(status), Folder::read(out), Folder::read(err), usage.ru_maxrss * 1024};
}

Child::Child(Kind kind, const Arguments& command, const Variables& variables) {
  std::signal(SIGPIPE, SIG_IGN);
  const std::vector<std::string> env = environment(variables);
  if (kind == Kind::terminal) {
    winsize size{24, 80, 0, 0};
    pid_ = ::forkpty(&in_, nullptr, nullptr, &size);
    if (pid_ == 0) become(command, env);
    out_ = in_;
    return;
  }
  const auto [in_read, in_write] = make_pipe();
  const auto [out_read, out_write] = make_pipe();
  pid_ = ::fork();
  if (pid_ == 0) {
    ::dup2(in_read, 0);
    ::dup2(out_write, 1);
    ::dup2(::open("/dev/null", O_WRONLY), 2);
    become(command, env);
  }
  ::close(in_read);
  ::close(out_write);
  in_ = in_write;
  out_ = out_read;
}

Child::~Child() {
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  if (in_ >= 0 && in_ != out_) ::close(in_);
  if (out_ >= 0) ::close(out_);
}

void Child::send(const std::string& text) {
  for (std::size_t at = 0; at < text.size();) {
    const ssize_t n = ::write(in_, text.data() + at, text.size() - at);
    if (n <= 0) return;
    at += static_cast<std::size_t>(n);
  }
}

void Child::close_input() {
  ::close(in_);
  in_ = -1;
}

bool Child::read_some(int timeout_ms) {
  pollfd fd{out_, POLLIN, 0};
  if (::poll(&fd, 1, timeout_ms) <= 0) return true;
  char buffer[1 << 16];
  const ssize_t n = ::read(out_, buffer, sizeof buffer);
  if (n <= 0) return false;  // the end; a terminal whose program is gone gives EIO
  output_.append(buffer, static_cast<std::size_t>(n));
  return true;
}

bool Child::expect(const std::string& text, double seconds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  for (bool open = true;;) {
    if (const std::size_t at = output_.find(text, seen_); at != std::string::npos) {
      seen_ = at + text.size();
      return true;
    }
    if (!open || std::chrono::steady_clock::now() > end) return false;
    open = read_some(50);
  }
}

void Child::signal(int number) const { ::kill(pid_, number); }

long Child::rss_anon() const {
  std::ifstream status("/proc/" + std::to_string(pid_) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("RssAnon:")) return std::stol(line.substr(8)) * 1024;
  }
  return 0;
}

int Child::wait() {
  while (read_some(-1)) {
  }
  int status = 0;
  ::waitpid(pid_, &status, 0);
  pid_ = -1;
  return exit_code(status);
}

Folder::Folder() {
  folder_ = (std::filesystem::temp_directory_path() / "frwkv_cli_XXXXXX").string();
  if (::mkdtemp(folder_.data()) == nullptr) throw std::runtime_error("mkdtemp");
}
Folder::~Folder() { std::filesystem::remove_all(folder_); }

std::string Folder::write(const std::string& name, const std::string& content) const {
  std::ofstream(path(name), std::ios::binary) << content;
  return path(name);
}

std::string Folder::read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream all;
  all << file.rdbuf();
  return std::move(all).str();
}

}  // namespace fr::test
