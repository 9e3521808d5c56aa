// What the environment says about the hub; the variables and their meaning are huggingface_hub's.
#include <algorithm>
#include <cstdlib>
#include <fstream>

#include "tools_core/hub.h"
#include "tools_core/hub_names.h"

namespace fr {
namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// "~/x" in the home folder, as Python's expanduser.
std::string expanded(const std::string& path) {
  return path.starts_with("~/") ? variable("HOME") + path.substr(1) : path;
}

std::string trimmed(const std::string& text) {
  constexpr const char* space = " \t\r\n";
  const std::size_t begin = text.find_first_not_of(space);
  return begin == std::string::npos ? "" : text.substr(begin, text.find_last_not_of(space) - begin + 1);
}

bool is_true(std::string value) {
  std::transform(value.begin(), value.end(), value.begin(),
                 [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; });
  return value == "1" || value == "ON" || value == "YES" || value == "TRUE";
}

std::string home_of_hub() {
  if (const std::string home = variable("HF_HOME"); !home.empty()) return expanded(home);
  if (const std::string cache = variable("XDG_CACHE_HOME"); !cache.empty())
    return expanded(cache) + "/huggingface";
  const std::string home = variable("HOME");
  return home.empty() ? "" : home + "/.cache/huggingface";
}

Result<std::string> token_of(const std::string& hub_home) {
  std::string token = trimmed(variable("HF_TOKEN"));
  if (token.empty()) {
    const std::string path = variable("HF_TOKEN_PATH");
    std::ifstream(path.empty() ? hub_home + "/token" : expanded(path)) >> token;
  }
  if (std::any_of(token.begin(), token.end(), [](char c) { return c <= ' ' || c > '~'; }))
    return usage_error("the token has characters that no token has (HF_TOKEN): copy it again");
  return token;
}

}  // namespace

Result<HubSettings> hub_settings_from_environment() {
  HubSettings s;
  const std::string endpoint = variable("HF_ENDPOINT");
  s.endpoint = endpoint.empty() ? std::string("https://huggingface.co") : endpoint;
  while (s.endpoint.ends_with('/')) s.endpoint.pop_back();
  if (!s.endpoint.starts_with("https://") && !s.endpoint.starts_with("http://"))
    return usage_error("no http address, " + shown(s.endpoint) + " (HF_ENDPOINT): write https://HOST");
  const std::string home = home_of_hub();
  s.cache = expanded(variable("HF_HUB_CACHE"));
  if (s.cache.empty() && !home.empty()) s.cache = home + "/hub";
  if (s.cache.empty())
    return usage_error("no home folder is known (HOME): name a folder for models in HF_HUB_CACHE");
  FR_TRY(s.token, token_of(home));
  s.offline = is_true(variable("HF_HUB_OFFLINE"));
  return s;
}

}  // namespace fr
