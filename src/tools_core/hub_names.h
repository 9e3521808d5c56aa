// Names that come from users and servers: which are safe, which are models.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "tools_core/hub.h"

namespace fr {

// Letters, digits, '.', '_', '-', not beginning with '.', at most 128: what may become one file name.
bool is_plain_name(std::string_view text);
// A relative path that stays in its folder: no empty part, no "." or "..", no backslash or control character.
bool is_safe_path(std::string_view text);
// Text of a server for a message: control characters become '?', long texts are cut.
std::string shown(std::string_view text);

std::string percent_encoded(std::string_view text, bool keep_slash);  // for an address

bool is_model_file(std::string_view name);  // by its ending: .pth .safetensors .gguf .st .bin .fr
// "dir/a.pth" -> "dir/a.vocab.txt"
std::string vocabulary_beside(std::string_view model);

// What a repository or folder offers.
struct HubChoice {
  std::vector<std::string> files;   // what belongs to the one model, the file that completes it last; or none
  bool folder = false;              // the model is the folder: config.json and all its weights
  std::vector<HubFile> candidates;  // the model files, when they are several or none
};
// The folder layout (config.json beside model.safetensors or pytorch_model.bin, or all shards of it) comes
// first, then a single model file. A shard alone is no model.
HubChoice choose_model(const std::vector<HubFile>& files);

// At most `count` names, those that begin most like `name` first.
std::vector<std::string> closest_names(std::string_view name, const std::vector<HubFile>& files,
                                       std::size_t count);

}  // namespace fr
