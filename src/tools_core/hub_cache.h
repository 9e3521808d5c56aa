// The files of the cache: where things are, how they are found, how they appear.
#pragma once
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "tools_core/hub.h"

namespace fr {

// The folder of one repository. The names were checked by the caller (hub_names.h).
struct RepoFolder {
  RepoFolder(const std::string& cache, const std::string& repo);
  std::string blob(const std::string& etag) const { return root + "/blobs/" + etag; }
  std::string snapshot(const std::string& commit) const { return root + "/snapshots/" + commit; }
  std::string reference(const std::string& revision) const { return root + "/refs/" + revision; }
  std::string lock(const std::string& etag) const { return locks + "/" + etag + ".lock"; }

  // The commit that a revision had at the last download; empty: unknown here.
  std::string commit_of(const std::string& revision) const;
  // The files of a snapshot that are all there (a link to nowhere does not count), and their sizes.
  std::vector<HubFile> files_of(const std::string& commit) const;

  // snapshots/COMMIT/FILE becomes a link to the blob, at once or not at all.
  Status link(const std::string& commit, const std::string& file, const std::string& etag) const;
  Status set_reference(const std::string& revision, const std::string& commit) const;

  std::string root, locks;
};

// A lock between processes, as huggingface_hub takes it (flock on a file). Released when it goes out of
// scope.
class FileLock {
 public:
  // Waits; go_on is asked ten times a second, false ends with ErrorCode::interrupted.
  static Result<FileLock> take(const std::string& path, const std::function<bool()>& go_on);
  FileLock(FileLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileLock& operator=(FileLock&&) = delete;
  ~FileLock();

 private:
  explicit FileLock(int fd) : fd_(fd) {}
  int fd_;
};

// Calls see for every file or link below a folder, with its path relative to it. A missing folder has none.
void each_file(const std::string& folder,
               const std::function<void(const std::string& name, const std::string& path)>& see);
Status make_folders(const std::string& path);                 // with those above
Error disk_error(const char* what, const std::string& path);  // with errno

}  // namespace fr
