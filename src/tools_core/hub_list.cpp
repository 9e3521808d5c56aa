// The models in the cache.
#include <algorithm>
#include <filesystem>

#include "tools_core/hub_cache.h"
#include "tools_core/hub_names.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error))
    names.push_back(it->path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

// The shortest way to type a snapshot: "" for main, "@REVISION" for another, "@COMMIT" for none.
std::string suffix_of(const RepoFolder& repo, const std::string& commit) {
  if (repo.commit_of("main") == commit) return "";
  std::string found = commit;
  each_file(repo.root + "/refs", [&](const std::string& revision, const std::string&) {
    if (repo.commit_of(revision) == commit && (found == commit || revision < found)) found = revision;
  });
  return "@" + found;
}

void add_snapshot(const RepoFolder& repo, const std::string& name, const std::string& commit,
                  std::vector<LocalModel>& out) {
  const std::string prefix = "hf:" + name + suffix_of(repo, commit);
  const std::vector<HubFile> whole = repo.files_of(commit);
  const HubChoice choice = choose_model(whole);
  if (choice.folder) {
    LocalModel model{prefix, repo.snapshot(commit), 0, false};
    for (const HubFile& f : whole) {
      if (std::find(choice.files.begin(), choice.files.end(), f.name) != choice.files.end())
        model.size += f.size;
    }
    out.push_back(std::move(model));
  }
  each_file(repo.snapshot(commit), [&](const std::string& file, const std::string& path) {
    if (!is_model_file(file)) return;
    if (choice.folder && std::find(choice.files.begin(), choice.files.end(), file) != choice.files.end())
      return;
    std::error_code error;
    const std::uintmax_t size = fs::file_size(path, error);
    out.push_back({prefix + ":" + file, path, error ? 0 : size, bool(error)});
  });
}

}  // namespace

std::vector<LocalModel> local_models(const std::string& cache) {
  std::vector<LocalModel> out;
  for (const std::string& folder : names_in(cache)) {
    constexpr std::string_view prefix = "models--";
    if (!folder.starts_with(prefix)) continue;
    const std::string flat = folder.substr(prefix.size());
    const std::size_t dashes = flat.find("--");
    const std::string name =
        dashes == std::string::npos ? flat : flat.substr(0, dashes) + "/" + flat.substr(dashes + 2);
    const RepoFolder repo(cache, name);
    for (const std::string& commit : names_in(repo.root + "/snapshots"))
      add_snapshot(repo, name, commit, out);
  }
  std::sort(out.begin(), out.end(), [](const LocalModel& a, const LocalModel& b) { return a.name < b.name; });
  return out;
}

}  // namespace fr
