#include "engine/locate.h"

#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>
#include <vector>

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

Result<std::shared_ptr<const Tokenizer>> find_tokenizer(const std::string& vocab,
                                                        const std::string& model_path, int n_vocab) {
  std::shared_ptr<const Tokenizer> found;
  const fs::path beside = fs::path(model_path).replace_extension(".vocab.txt");
  if (!vocab.empty()) {
    FR_TRY(found, load_tokenizer(vocab));
  } else if (is_there(beside)) {
    FR_TRY(found, load_tokenizer(beside.string()));
  } else if (n_vocab >= 65529 && n_vocab <= 65536) {
    found = builtin_world_tokenizer();
  }
  if (!found) return found;
  // Models have a few rows more than their vocabulary (World: 65530 of 65536), never far more, never fewer.
  const auto entries = static_cast<std::int64_t>(found->vocab_size());
  if (entries > n_vocab || entries * 4 < std::int64_t{n_vocab} * 3) {
    return file_error("the vocabulary has " + std::to_string(entries) + " entries, the model " +
                      std::to_string(n_vocab) + " (" + found->name() +
                      "): give the model's own with --vocab");
  }
  return found;
}

}  // namespace fr
