// One file of a repository: what the hub says about it, and its content.
#pragma once
#include <string>
#include <vector>

#include "tools_core/hub.h"
#include "tools_core/hub_cache.h"
#include "tools_core/hub_http.h"

namespace fr {

struct RemoteFile {
  std::string url;     // of this very version
  std::string commit;  // of the revision
  std::string etag;    // the SHA-256 of the content if it has 64 digits; the name of the blob
  std::uint64_t size = 0;
};

// A repository of a hub, over one connection. Not thread safe.
class RemoteRepo {
 public:
  RemoteRepo(const HubName& name, const HubSettings& settings);

  struct Listing {
    std::string commit;
    std::vector<HubFile> files;
  };
  // Errors: network; invalid_file for a listing that is no listing, or has a name that leaves its folder.
  Result<Listing> list();
  // optional: a file that is not there gives an empty etag instead of an error.
  Result<RemoteFile> describe(const std::string& file, const std::string& revision, bool optional);
  // Downloads the content into the blob, unless it is there already. step: for the progress. Counts what came
  // over the wire in `received`.
  Status fetch(const RemoteFile& file, const RepoFolder& folder, const std::string& step,
               std::uint64_t& received);

 private:
  Error status_error(const HttpResponse& response, const std::string& file);
  Error missing_file(const std::string& file);
  std::string address(const std::string& file, const std::string& revision) const;
  bool go_on() const;

  HubName name_;
  const HubSettings& settings_;
  std::string step_;  // what the progress shows now
  std::uint64_t done_ = 0, total_ = 0;
  HttpClient http_;
};

}  // namespace fr
