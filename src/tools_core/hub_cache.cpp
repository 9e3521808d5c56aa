#include "tools_core/hub_cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/atomic_file.h"
#include "tools_core/hub_names.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

std::string first_word_of(const std::string& path) {
  std::string word;
  std::ifstream(path) >> word;
  return word;
}

}  // namespace

void each_file(const std::string& folder,
               const std::function<void(const std::string& name, const std::string& path)>& see) {
  std::error_code error;
  fs::recursive_directory_iterator it(folder, error), end;
  for (; !error && it != end; it.increment(error)) {
    std::error_code ignored;
    if (it->is_symlink(ignored) || it->is_regular_file(ignored))
      see(it->path().lexically_relative(folder).string(), it->path().string());
  }
}

RepoFolder::RepoFolder(const std::string& cache, const std::string& repo) {
  std::string folder = "models--";
  for (const char c : repo) folder += c == '/' ? "--" : std::string(1, c);
  root = cache + "/" + folder;
  locks = cache + "/.locks/" + folder;
}

std::string RepoFolder::commit_of(const std::string& revision) const {
  const std::string commit = first_word_of(reference(revision));
  if (is_plain_name(commit)) return commit;
  std::error_code ignored;
  return is_plain_name(revision) && fs::is_directory(snapshot(revision), ignored) ? revision : "";
}

std::vector<HubFile> RepoFolder::files_of(const std::string& commit) const {
  std::vector<HubFile> files;
  each_file(snapshot(commit), [&](const std::string& name, const std::string& path) {
    std::error_code error;
    const std::uintmax_t size = fs::file_size(path, error);  // of what the link points to
    if (!error) files.push_back({name, size});
  });
  std::sort(files.begin(), files.end(), [](const HubFile& a, const HubFile& b) { return a.name < b.name; });
  return files;
}

Status RepoFolder::link(const std::string& commit, const std::string& file, const std::string& etag) const {
  const fs::path path = fs::path(snapshot(commit)) / file;
  std::string target = "../../blobs/" + etag;
  for (const char c : file) {
    if (c == '/') target = "../" + target;
  }
  std::error_code error;
  if (fs::read_symlink(path, error) == target) return {};
  FR_OK(make_folders(path.parent_path().string()));
  const std::string temporary =
      (path.parent_path() / ("." + etag + "." + std::to_string(::getpid()))).string();
  ::unlink(temporary.c_str());
  if (::symlink(target.c_str(), temporary.c_str()) != 0) return disk_error("cannot make a link", temporary);
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    const Error failure = disk_error("cannot make a link", path.string());
    ::unlink(temporary.c_str());
    return failure;
  }
  return {};
}

Status RepoFolder::set_reference(const std::string& revision, const std::string& commit) const {
  if (revision == commit || first_word_of(reference(revision)) == commit) return {};
  FR_OK(make_folders(fs::path(reference(revision)).parent_path().string()));
  FR_TRY(AtomicFile file, AtomicFile::create(reference(revision)));
  FR_OK(file.write(std::as_bytes(std::span(commit))));
  return file.commit();
}

Result<FileLock> FileLock::take(const std::string& path, const std::function<bool()>& go_on) {
  for (;;) {
    FileLock lock(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
    if (lock.fd_ < 0) return disk_error("cannot lock", path);
    while (::flock(lock.fd_, LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK && errno != EINTR) return disk_error("cannot lock", path);
      if (!go_on()) return Error{ErrorCode::interrupted, "interrupted"};
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    // Whoever had the lock may have removed its file: then ours is not the one that others see.
    struct stat ours {
    }, named{};
    if (::fstat(lock.fd_, &ours) == 0 && ::stat(path.c_str(), &named) == 0 && ours.st_ino == named.st_ino)
      return lock;
  }
}

FileLock::~FileLock() {
  if (fd_ >= 0) ::close(fd_);
}

Status make_folders(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (!error) return {};
  errno = error.value();
  return disk_error("cannot make the folder", path);
}

Error disk_error(const char* what, const std::string& path) {
  return runtime_error(std::string(what) + " (" + path + "): " + std::strerror(errno));
}

Result<HubModel> find_in_cache(const HubName& name, const HubSettings& settings) {
  const RepoFolder repo(settings.cache, name.repo);
  const std::string commit = repo.commit_of(name.revision);
  const std::string what = name.repo + (name.file.empty() ? "" : ":" + name.file);
  const std::vector<HubFile> files = commit.empty() ? std::vector<HubFile>{} : repo.files_of(commit);
  const auto missing = [&] {
    return file_error(what + " is not in the cache, or not whole (" + settings.cache + "): run 'frwkv pull " +
                      what + "'");
  };
  if (!name.file.empty()) {
    const bool found =
        std::any_of(files.begin(), files.end(), [&](const HubFile& f) { return f.name == name.file; });
    if (!found) return missing();
    return HubModel{repo.snapshot(commit) + "/" + name.file, {}, 0};
  }
  const HubChoice choice = choose_model(files);
  if (choice.folder) return HubModel{repo.snapshot(commit), {}, 0};
  if (!choice.files.empty()) return HubModel{repo.snapshot(commit) + "/" + choice.files.back(), {}, 0};
  if (choice.candidates.empty()) return missing();
  return HubModel{"", choice.candidates, 0};
}

}  // namespace fr
