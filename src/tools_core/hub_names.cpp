#include "tools_core/hub_names.h"

#include <algorithm>
#include <set>

namespace fr {
namespace {

bool is_word_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
         c == '-';
}

bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }

std::string_view last_part(std::string_view path) { return path.substr(path.find_last_of('/') + 1); }

bool is_repository(std::string_view text) {
  const std::size_t slash = text.find('/');
  if (slash == std::string_view::npos) return is_plain_name(text);
  return is_plain_name(text.substr(0, slash)) && is_plain_name(text.substr(slash + 1));
}

// "model-00002-of-00003.safetensors" -> 3; 0 for other names.
std::size_t shards_of(std::string_view name) {
  constexpr std::string_view form = "-NNNNN-of-NNNNN";
  const std::size_t dot = std::min(name.find_last_of('.'), name.size());
  if (dot < form.size()) return 0;
  const std::string_view end = name.substr(dot - form.size(), form.size());
  for (std::size_t i = 0; i < form.size(); ++i) {
    const bool digit = end[i] >= '0' && end[i] <= '9';
    if (form[i] == 'N' ? !digit : end[i] != form[i]) return 0;
  }
  return static_cast<std::size_t>(std::stoul(std::string(end.substr(form.size() - 5))));
}

// "<stem><ending>", or all of its shards; empty when some are missing.
std::vector<std::string> weights_of(const std::set<std::string>& names, const std::string& stem,
                                    const std::string& ending) {
  if (names.contains(stem + ending)) return {stem + ending};
  std::vector<std::string> shards;
  std::size_t total = 0;
  for (const std::string& name : names) {
    const std::size_t n = shards_of(name);
    if (n == 0 || !name.starts_with(stem + "-") || !name.ends_with(ending)) continue;
    shards.push_back(name);
    total = std::max(total, n);
  }
  return shards.size() == total ? shards : std::vector<std::string>{};
}

// The files of a folder as transformers writes it, config.json last; empty when something is missing.
std::vector<std::string> folder_model(const std::vector<HubFile>& files) {
  std::set<std::string> names;
  for (const HubFile& f : files) names.insert(f.name);
  if (!names.contains("config.json")) return {};
  std::vector<std::string> weights = weights_of(names, "model", ".safetensors");
  if (weights.empty()) weights = weights_of(names, "pytorch_model", ".bin");
  if (weights.empty()) return {};
  std::vector<std::string> out;
  for (const std::string& name : names) {
    const bool text = name.ends_with(".json") || name.ends_with(".txt") || name == "tokenizer_model";
    if (text && name.find('/') == std::string::npos && name != "config.json") out.push_back(name);
  }
  out.insert(out.end(), weights.begin(), weights.end());
  out.emplace_back("config.json");
  return out;
}

// How many characters two names begin with alike: files of one model differ at their ends.
std::size_t common_prefix(std::string_view a, std::string_view b) {
  return static_cast<std::size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

}  // namespace

bool is_plain_name(std::string_view text) {
  return !text.empty() && text.size() <= 128 && text[0] != '.' &&
         std::all_of(text.begin(), text.end(), is_word_character);
}

bool is_safe_path(std::string_view text) {
  if (text.empty() || text.size() > 1024) return false;
  if (std::any_of(text.begin(), text.end(), [](char c) { return is_control(c) || c == '\\'; })) return false;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find('/', begin), text.size());
    const std::string_view part = text.substr(begin, end - begin);
    if (part.empty() || part == "." || part == ".." || part.size() > 250) return false;
    begin = end + 1;
  }
  return true;
}

std::string shown(std::string_view text) {
  std::string out(text.substr(0, 200));
  // C1 controls (C2 80..9F) and what turns the direction of text (E2 80 8E..AE, E2 81 A6..A9) too.
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto at = [&](std::size_t k) { return k < out.size() ? static_cast<unsigned char>(out[k]) : 0u; };
    const bool c1 = at(i) == 0xc2 && at(i + 1) < 0xa0;
    const bool turns = at(i) == 0xe2 && ((at(i + 1) == 0x80 && at(i + 2) >= 0x8e && at(i + 2) <= 0xae) ||
                                         (at(i + 1) == 0x81 && at(i + 2) >= 0xa6 && at(i + 2) <= 0xa9));
    const std::size_t hide = std::min<std::size_t>(c1                   ? 2
                                                   : turns              ? 3
                                                   : is_control(out[i]) ? 1
                                                                        : 0,
                                                   out.size() - i);
    for (std::size_t k = 0; k < hide; ++k) out[i + k] = '?';
  }
  return text.size() > 200 ? out + "..." : out;
}

std::string percent_encoded(std::string_view text, bool keep_slash) {
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("-._~").find(c) != std::string_view::npos || (keep_slash && c == '/');
    const auto byte = static_cast<unsigned char>(c);
    if (plain)
      out += c;
    else
      (out += '%') += {"0123456789ABCDEF"[byte >> 4], "0123456789ABCDEF"[byte & 15]};
  }
  return out;
}

bool is_model_file(std::string_view name) {
  const std::string_view base = last_part(name);
  if (base == "training_args.bin" || base == "optimizer.bin" || base == "scheduler.bin") return false;
  for (const std::string_view ending : {".pth", ".safetensors", ".gguf", ".st", ".bin", ".fr"}) {
    if (base.size() > ending.size() && base.ends_with(ending)) return true;
  }
  return false;
}

std::string vocabulary_beside(std::string_view model) {
  const std::size_t base = model.size() - last_part(model).size();
  const std::size_t dot = model.find_last_of('.');
  return std::string(dot == std::string_view::npos || dot < base ? model : model.substr(0, dot)) +
         ".vocab.txt";
}

HubChoice choose_model(const std::vector<HubFile>& files) {
  HubChoice choice;
  choice.files = folder_model(files);
  choice.folder = !choice.files.empty();
  if (choice.folder) return choice;
  for (const HubFile& f : files) {
    if (is_model_file(f.name) && shards_of(last_part(f.name)) <= 1) choice.candidates.push_back(f);
  }
  if (choice.candidates.size() != 1) return choice;
  const std::string model = choice.candidates[0].name, vocabulary = vocabulary_beside(model);
  for (const HubFile& f : files) {
    if (f.name == vocabulary) choice.files.push_back(vocabulary);
  }
  choice.files.push_back(model);
  choice.candidates.clear();
  return choice;
}

std::vector<std::string> closest_names(std::string_view name, const std::vector<HubFile>& files,
                                       std::size_t count) {
  std::vector<std::string> found;
  for (const HubFile& f : files) {
    if (is_model_file(f.name)) found.push_back(f.name);
  }
  std::stable_sort(found.begin(), found.end(), [&](const std::string& a, const std::string& b) {
    return common_prefix(name, a) > common_prefix(name, b);
  });
  if (found.size() > count) found.resize(count);
  return found;
}

Result<HubName> parse_hub_name(std::string_view text) {
  const auto wrong = [&](const char* what) {
    return usage_error(std::string(what) + " (" + shown(text) +
                       "): write ORG/NAME, ORG/NAME:FILE or ORG/NAME@REVISION:FILE");
  };
  HubName name;
  const std::size_t colon = text.find(':');
  std::string_view repo = text.substr(0, colon);
  if (colon != std::string_view::npos) name.file = text.substr(colon + 1);
  if (const std::size_t at = repo.find('@'); at != std::string_view::npos) {
    name.revision = repo.substr(at + 1);
    repo = repo.substr(0, at);
  }
  name.repo = repo;
  if (!is_repository(repo)) return wrong("this is no name of a repository");
  if (!is_safe_path(name.revision)) return wrong("this is no name of a revision");
  if (colon != std::string_view::npos && !is_safe_path(name.file)) return wrong("this is no name of a file");
  return name;
}

}  // namespace fr
