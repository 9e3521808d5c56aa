#include "common/history_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string_view>

#include "common/words.h"

namespace fr::app {
namespace {

namespace fs = std::filesystem;
constexpr std::size_t kept_entries = 1000;

std::string escaped(std::string_view entry) {
  std::string out;
  for (const char c : entry) {
    if (c == '\\')
      out += "\\\\";
    else if (c == '\n')
      out += "\\n";
    else if (c != '\r')
      out += c;
  }
  return out + '\n';
}

void write_private(const std::string& path, int flags, std::string_view text) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | flags, S_IRUSR | S_IWUSR);
  if (fd < 0) return;
  [[maybe_unused]] const auto ignored = ::write(fd, text.data(), text.size());
  ::close(fd);
}

}  // namespace

std::string default_history_file() {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value == nullptr ? "" : value);
  };
  const std::string wanted = lower(variable("FRWKV_HISTORY"));
  if (wanted == "off" || wanted == "false" || wanted == "no" || wanted == "0") return {};
  if (const std::string state = variable("XDG_STATE_HOME"); state.starts_with('/'))
    return state + "/frwkv/history";
  if (const std::string home = variable("HOME"); !home.empty()) return home + "/.local/state/frwkv/history";
  return {};
}

std::vector<std::string> load_history(const std::string& path) {
  std::vector<std::string> entries;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.empty()) entries.push_back(unescape(line));
  }
  if (entries.size() > kept_entries) {
    const bool rewrite = entries.size() > 2 * kept_entries;
    entries.erase(entries.begin(), entries.end() - kept_entries);
    if (rewrite) {
      std::string text;
      for (const std::string& e : entries) text += escaped(e);
      write_private(path + ".new", O_TRUNC, text);
      std::error_code ignored;
      fs::rename(path + ".new", path, ignored);
    }
  }
  return entries;
}

void append_history(const std::string& path, const std::string& entry) {
  std::error_code ignored;
  fs::create_directories(fs::path(path).parent_path(), ignored);
  write_private(path, O_APPEND, escaped(entry));
}

}  // namespace fr::app
