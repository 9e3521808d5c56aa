// Hugging Face model directories: config.json, and weights in one file or in shards that an index lists.
#pragma once
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/checkpoint.h"
#include "base/log.h"
#include "base/result.h"

namespace fr {

// Reads one file's container, without its layout.
using OpenFile = std::function<Result<Checkpoint>(const std::string& path)>;

// Takes the weights of a directory: model.safetensors or pytorch_model.bin, as shards if there is an index,
// else the only model file in it. Names are raw (formats/layout.h comes after); what config.json says becomes
// metadata "config.*". Errors: no weights, several models, a model of another kind (by its name in
// config.json), shards that are missing (named) or lie outside the directory, a tensor that two shards have
// or none.
Result<Checkpoint> open_hf_directory(const std::string& path, const OpenFile& open_file);

// The parts, for tests. Tensor name to file name; `path` is the index itself, for errors.
Result<std::map<std::string, std::string>> read_shard_index(std::string_view json, std::string_view path);
// "config.*" of a config.json; an error when it belongs to another kind of model.
Result<std::map<std::string, std::string>> read_model_config(std::string_view json, std::string_view path);

}  // namespace fr
