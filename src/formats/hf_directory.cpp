#include "formats/hf_directory.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <iterator>
#include <set>

#include "formats/json_scalars.h"
#include "formats/reader.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t max_shards = 4096;
constexpr std::string_view config_prefix = "config.";
// What is kept of config.json.
constexpr std::array<std::string_view, 12> config_keys{
    "architectures", "model_type",        "torch_dtype", "dtype",    "hidden_size", "num_hidden_layers",
    "head_dim",      "intermediate_size", "vocab_size",  "norm_eps", "num_heads",   "tie_word_embeddings"};

// How people write the names of some model types.
constexpr std::array<std::pair<std::string_view, std::string_view>, 12> known_types{{{"llama", "LLaMA"},
                                                                                     {"mistral", "Mistral"},
                                                                                     {"mixtral", "Mixtral"},
                                                                                     {"qwen2", "Qwen2"},
                                                                                     {"qwen3", "Qwen3"},
                                                                                     {"gpt2", "GPT-2"},
                                                                                     {"gpt_neox", "GPT-NeoX"},
                                                                                     {"gemma", "Gemma"},
                                                                                     {"phi3", "Phi-3"},
                                                                                     {"bert", "BERT"},
                                                                                     {"mamba", "Mamba"},
                                                                                     {"t5", "T5"}}};

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

bool names_rwkv(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return text.find("rwkv") != text.npos;
}

// printable() without the quotes.
std::string bare(std::string_view text) {
  const std::string quoted = printable(text);
  return quoted.substr(1, quoted.size() - 2);
}

// "a, b and 3 more"
std::string listed(const std::vector<std::string>& names) {
  constexpr std::size_t most = 4;
  std::string list;
  for (std::size_t i = 0; i < std::min(names.size(), most); ++i)
    list += (i > 0 ? ", " : "") + printable(names[i]);
  return names.size() > most ? list + " and " + std::to_string(names.size() - most) + " more" : list;
}

std::string_view text_of(const MappedFile& file) {
  const auto bytes = file.bytes();
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Moves the tensors of one shard into the whole.
Status add_shard(Checkpoint& whole, Checkpoint shard, const std::string& directory) {
  if (!whole.format.empty() && whole.format != shard.format) {
    return file_fault(directory, "some shards are " + whole.format + ", others " + shard.format + " files",
                      "download the directory again");
  }
  if (whole.tensors.size() + shard.tensors.size() > max_tensors) {
    return file_fault(directory, "the shards have more than " + std::to_string(max_tensors) + " tensors");
  }
  whole.format = shard.format;
  std::move(shard.tensors.begin(), shard.tensors.end(), std::back_inserter(whole.tensors));
  std::move(shard.files.begin(), shard.files.end(), std::back_inserter(whole.files));
  whole.metadata.merge(shard.metadata);
  for (const std::string& note : shard.notes) {
    if (std::find(whole.notes.begin(), whole.notes.end(), note) == whole.notes.end())
      whole.notes.push_back(note);
  }
  return {};
}

Result<Checkpoint> open_shards(const fs::path& directory, const char* index, const OpenFile& open_file) {
  const std::string index_path = (directory / index).string();
  FR_TRY(const auto json, MappedFile::open(index_path));
  FR_TRY(const auto files, read_shard_index(text_of(*json), index_path));
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : files) shards.insert(shard);
  std::vector<std::string> missing;
  for (const std::string& shard : shards) {
    if (!is_there(directory / shard)) missing.push_back(shard);
  }
  if (!missing.empty()) {
    return file_fault(directory.string(),
                      std::to_string(missing.size()) + " of " + std::to_string(shards.size()) +
                          " weight files are missing or cannot be opened: " + listed(missing),
                      "download them into the directory");
  }
  Checkpoint whole;
  whole.path = directory.string();
  for (const std::string& shard : shards) {
    FR_TRY(Checkpoint part, open_file((directory / shard).string()));
    FR_OK(add_shard(whole, std::move(part), directory.string()));
  }
  FR_OK(finish_checkpoint(whole));
  for (const auto& [tensor, shard] : files) {
    if (whole.find(tensor) != nullptr) continue;
    return file_fault((directory / shard).string(), "tensor " + printable(tensor) + " is not in this file",
                      "download the directory again");
  }
  return whole;
}

// The model file beside which there is no other.
Result<std::string> only_model_file(const fs::path& directory) {
  constexpr std::array<std::string_view, 5> endings{".pth", ".safetensors", ".st", ".gguf", ".fr"};
  std::vector<std::string> found;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    const std::string ending = it->path().extension().string();
    if (std::find(endings.begin(), endings.end(), ending) != endings.end())
      found.push_back(it->path().filename().string());
  }
  std::sort(found.begin(), found.end());
  if (error) return file_fault(directory.string(), "cannot list this directory", error.message());
  if (found.size() == 1) return (directory / found[0]).string();
  if (found.empty()) {
    return file_fault(directory.string(), "this is a directory without weights",
                      "give a model file or directory");
  }
  return file_fault(directory.string(), "this directory has several models: " + listed(found),
                    "give one of them");
}

Result<Checkpoint> open_weights(const fs::path& directory, const OpenFile& open_file) {
  for (const std::string stem : {"model.safetensors", "pytorch_model.bin"}) {
    const std::string index = stem + ".index.json";
    if (is_there(directory / index)) return open_shards(directory, index.c_str(), open_file);
    if (is_there(directory / stem)) return open_file((directory / stem).string());
  }
  FR_TRY(const std::string file, only_model_file(directory));
  return open_file(file);
}

}  // namespace

Result<std::map<std::string, std::string>> read_shard_index(std::string_view json, std::string_view path) {
  std::map<std::string, std::string> files;
  std::set<std::string, std::less<>> names;
  FR_OK(visit_json_scalars(json, path, [&](auto keys, std::string_view value) -> Status {
    if (keys.size() != 2 || keys[0] != "weight_map") return {};
    if (value.empty() || value.size() > 255 || value == "." || value == ".." ||
        value.find_first_of(std::string_view("/\\\0", 3)) != value.npos) {
      return file_fault(path, "weight file " + printable(value) + " is not a file name in this directory");
    }
    if (files.size() == max_tensors) return file_fault(path, "the index has too many tensors");
    if (!files.emplace(keys[1], value).second) {
      return file_fault(path, "the index has tensor " + printable(keys[1]) + " twice");
    }
    names.emplace(value);
    if (names.size() > max_shards) return file_fault(path, "the index has too many weight files");
    return {};
  }));
  if (files.empty()) return file_fault(path, "the index has no weight_map with tensors");
  return files;
}

Result<std::map<std::string, std::string>> read_model_config(std::string_view json, std::string_view path) {
  std::map<std::string, std::string> config;
  FR_OK(visit_json_scalars(json, path, [&](auto keys, std::string_view value) -> Status {
    const bool kept = std::find(config_keys.begin(), config_keys.end(), keys[0]) != config_keys.end();
    if (keys.size() == 1 && kept && value.size() <= max_name_length)
      config.emplace(std::string(config_prefix) + keys[0], value);
    return {};
  }));
  const auto said = [&](const char* key) {
    const auto it = config.find(std::string(config_prefix) + key);
    return it == config.end() ? std::string() : it->second;
  };
  const std::string type = said("model_type"), architecture = said("architectures");
  if ((type.empty() && architecture.empty()) || names_rwkv(type) || names_rwkv(architecture)) return config;
  const auto known =
      std::find_if(known_types.begin(), known_types.end(), [&](const auto& k) { return k.first == type; });
  const std::string name = known != known_types.end() ? std::string(known->second) : bare(type);
  return file_fault(
      path, "this is a " + name + " model" + (architecture.empty() ? "" : " (" + bare(architecture) + ")"),
      "give an RWKV model");
}

Result<Checkpoint> open_hf_directory(const std::string& path, const OpenFile& open_file) {
  const fs::path directory(path), config_path = directory / "config.json";
  std::map<std::string, std::string> config;
  if (is_there(config_path)) {
    FR_TRY(const auto json, MappedFile::open(config_path.string()));
    FR_TRY(config, read_model_config(text_of(*json), config_path.string()));
  }
  FR_TRY(Checkpoint checkpoint, open_weights(directory, open_file));
  checkpoint.path = path;
  checkpoint.metadata.merge(config);
  return checkpoint;
}

}  // namespace fr
