// pull: from a name to files in the cache.
#include "tools_core/hub_cache.h"
#include "tools_core/hub_download.h"
#include "tools_core/hub_names.h"

namespace fr {
namespace {

struct Wanted {
  std::string name;
  bool optional = false;
};

// Downloads the files in this order, all of one commit, and names them. The revision points to the commit
// only when all is there.
Result<std::string> pull_files(RemoteRepo& remote, const RepoFolder& folder, const std::vector<Wanted>& files,
                               const std::string& from, const std::string& revision,
                               std::uint64_t& received) {
  std::string commit = from;
  for (std::size_t i = 0; i < files.size(); ++i) {
    FR_TRY(const RemoteFile file, remote.describe(files[i].name, commit, files[i].optional));
    if (file.etag.empty()) continue;
    commit = file.commit;
    const std::string step = files.size() == 1 ? files[i].name
                                               : files[i].name + " (" + std::to_string(i + 1) + " of " +
                                                     std::to_string(files.size()) + ")";
    FR_OK(remote.fetch(file, folder, step, received));
    FR_OK(folder.link(commit, files[i].name, file.etag));
  }
  FR_OK(folder.set_reference(revision, commit));
  return commit;
}

}  // namespace

Result<HubModel> pull(const HubName& name, const HubSettings& settings) {
  if (settings.offline) return find_in_cache(name, settings);
  RemoteRepo remote(name, settings);
  const RepoFolder folder(settings.cache, name.repo);
  HubModel model;
  if (!name.file.empty()) {
    std::vector<Wanted> files;
    if (is_model_file(name.file)) files.push_back({vocabulary_beside(name.file), true});
    files.push_back({name.file, false});
    FR_TRY(const std::string commit,
           pull_files(remote, folder, files, name.revision, name.revision, model.received));
    model.path = folder.snapshot(commit) + "/" + name.file;
    return model;
  }
  FR_TRY(const RemoteRepo::Listing listing, remote.list());
  const HubChoice choice = choose_model(listing.files);
  if (choice.files.empty()) {
    if (choice.candidates.empty())
      return Error{ErrorCode::invalid_file, "no model files (" + settings.endpoint + "/" + name.repo +
                                                "): name a file, " + name.repo + ":FILE, if you know better"};
    model.choices = choice.candidates;
    return model;
  }
  std::vector<Wanted> files;
  for (const std::string& file : choice.files) files.push_back({file, false});
  FR_TRY(const std::string commit,
         pull_files(remote, folder, files, listing.commit, name.revision, model.received));
  model.path = folder.snapshot(commit) + (choice.folder ? "" : "/" + choice.files.back());
  return model;
}

}  // namespace fr
