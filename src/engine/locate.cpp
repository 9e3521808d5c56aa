#include "engine/locate.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <vector>

#include "formats/formats.h"
#include "text/abc_tokenizer.h"
#include "text/gguf_vocabulary.h"
#include "text/vocabulary.h"

namespace fr {
namespace {

namespace fs = std::filesystem;
constexpr const char* shipped_name = "rwkv7-story-9m.pth";

bool is_there(const fs::path& p) {
  std::error_code ignored;
  return fs::exists(p, ignored);
}

// The folder of the program or library that this code is linked into.
fs::path own_folder() {
  Dl_info info{};
  if (::dladdr(reinterpret_cast<const void*>(&own_folder), &info) == 0 || info.dli_fname == nullptr)
    return {};
  std::error_code error;
  const fs::path self = fs::canonical(info.dli_fname, error);
  return error ? fs::path{} : self.parent_path();
}

// The first four bytes; empty if they cannot be read.
std::string magic_of(const std::string& path) {
  std::string magic(4, '\0');
  std::ifstream file(path, std::ios::binary);
  return file.read(magic.data(), 4) ? magic : "";
}

// Its name is the path of the model, which open_tokenizer takes.
Result<std::shared_ptr<const Tokenizer>> embedded_tokenizer(const Checkpoint& model) {
  const auto kind = model.metadata.find("tokenizer.ggml.model");
  return tokenizer_from_gguf(kind == model.metadata.end() ? "" : kind->second, model.tokens, model.path);
}

// Null when none can be read: folders of World models often have a tokenizer.json that means code to be run.
std::shared_ptr<const Tokenizer> tokenizer_in_folder(const fs::path& folder) {
  for (const char* name : {"rwkv_vocab_v20230424.txt", "vocab.txt", "tokenizer.json"}) {
    if (!is_there(folder / name)) continue;
    if (auto made = load_tokenizer((folder / name).string())) return *made;
  }
  return nullptr;
}

// ABC has as many characters as the model has entries.
std::shared_ptr<const Tokenizer> abc_for(int n_vocab) {
  return builtin_abc_tokenizer(std::min(static_cast<std::size_t>(n_vocab), kMaxTokenId));
}

}  // namespace

Result<std::string> shipped_model() {
  std::vector<fs::path> folders;
  if (const char* share = std::getenv("FRWKV_SHARE"); share != nullptr && *share != '\0')
    folders.emplace_back(share);
  if (const fs::path own = own_folder(); !own.empty()) {
    folders.push_back(own / "../share/faster_rwkv");
    folders.push_back(own / "../../share/faster_rwkv");  // lib/<multiarch>
  }
  folders.emplace_back(FR_SOURCE_ROOT);
  for (const fs::path& folder : folders) {
    const fs::path candidate = folder / "models" / shipped_name;
    if (is_there(candidate)) return candidate.lexically_normal().string();
  }
  return file_error("the model that ships is not installed (models/" + std::string(shipped_name) +
                    "): name a model file, or set FRWKV_SHARE to the folder that holds models/");
}

bool is_shipped_model(const std::string& path) { return fs::path(path).filename() == shipped_name; }

std::string_view exported_kind(const std::string& path) {
  const fs::path file(path);
  if (file.extension() == ".onnx") return "onnx";
  if (file.extension() == ".param") return "ncnn";
  if (!is_there(file)) return is_there(path + ".param") ? "ncnn" : "";
  const bool beside = file.extension() == ".bin" && is_there(fs::path(file).replace_extension(".param"));
  return beside && magic_of(path) != "fmgg" ? "ncnn" : "";
}

Status refuse_exported(const std::string& path) {
  if (exported_kind(path).empty()) return {};
  return file_error("this is an exported model (" + path + "): give the model that it was exported from");
}

std::string vocabulary_beside(const std::string& model) {
  std::string path = model;
  if (exported_kind(model) == "ncnn" && !model.ends_with(".param") && !model.ends_with(".bin"))
    path += ".param";
  return fs::path(path).replace_extension(".vocab.txt").string();
}

std::string copy_vocabulary(const std::string& model, const std::string& copy, bool dry_run) {
  const std::string from = vocabulary_beside(model), to = vocabulary_beside(copy);
  std::error_code error;
  if (fs::exists(to, error) || !fs::is_regular_file(from, error)) return "";
  if (dry_run || fs::copy_file(from, to, error)) return "the vocabulary " + from + " is copied to " + to;
  return "the vocabulary " + from + " could not be copied: give it with --vocab";
}

Error missing_runner(std::string_view kind, const std::string& path) {
  const std::string how =
      kind == "ncnn"
          ? "configure with -DFR_ENABLE_NCNN=ON, or give the model that was exported"
          : "install onnxruntime with its headers and configure with -DFR_ENABLE_ONNX=ON, or give the "
            "model that was exported";
  return usage_error("this build cannot run " + std::string(kind) + " exports (" + path + "): " + how);
}

Result<std::shared_ptr<const Tokenizer>> open_tokenizer(const std::string& vocab) {
  if (magic_of(vocab) != "GGUF") return load_tokenizer(vocab);
  FR_TRY(const Checkpoint model, open_checkpoint(vocab));
  return embedded_tokenizer(model);
}

Result<std::shared_ptr<const Tokenizer>> find_tokenizer(const std::string& vocab, const Checkpoint& model,
                                                        int n_vocab) {
  const std::string beside = vocabulary_beside(model.path);
  std::shared_ptr<const Tokenizer> found;
  if (!vocab.empty()) {
    FR_TRY(found, open_tokenizer(vocab));
    if (dynamic_cast<const AbcTokenizer*>(found.get()) != nullptr) found = abc_for(n_vocab);
  } else if (is_there(beside)) {
    FR_TRY(found, load_tokenizer(beside));
  } else if (auto in_folder = tokenizer_in_folder(model.path)) {
    found = std::move(in_folder);
  } else if (!model.tokens.empty()) {
    FR_TRY(found, embedded_tokenizer(model));
  } else if (n_vocab >= 65529 && n_vocab <= 65536) {
    found = builtin_world_tokenizer();
  } else if (n_vocab >= 50277 && n_vocab <= 50304) {
    found = builtin_20b_tokenizer();
  }
  if (!found) return found;
  // Models have a few rows more than their vocabulary (World: 65530 of 65536), never fewer, and never so many
  // more that 20B would fit a World model.
  const auto entries = static_cast<std::int64_t>(found->vocab_size());
  if (entries > n_vocab || entries * 8 < std::int64_t{n_vocab} * 7) {
    return file_error("the vocabulary has " + std::to_string(entries) + " entries, the model " +
                      std::to_string(n_vocab) + " (" + found->name() +
                      "): give the model's own with --vocab");
  }
  return found;
}

}  // namespace fr
