#include "base/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

namespace fr {
namespace {

// Where a chain of symbolic links ends, be there a file or not.
std::string target_of(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code none;
  fs::path at = path;
  for (int links = 0; links < 40 && fs::is_symlink(at, none); ++links) {
    const fs::path target = fs::read_symlink(at, none);
    at = target.is_absolute() ? target : at.parent_path() / target;
  }
  return at.string();
}

}  // namespace

Error AtomicFile::failure(const char* step) const {
  return runtime_error(std::string(step) + " (" + path_ + "): " + std::strerror(errno));
}

Result<AtomicFile> AtomicFile::create(const std::string& path) {
  static std::atomic<unsigned> serial{0};
  namespace fs = std::filesystem;
  AtomicFile file;
  std::error_code none;
  file.path_ = target_of(path);
  const fs::file_status there = fs::status(file.path_, none);
  if (fs::exists(there) && !fs::is_regular_file(there)) {  // a device or a pipe is written to, never replaced
    file.fd_ = ::open(file.path_.c_str(), O_WRONLY | O_CLOEXEC);
    if (file.fd_ < 0) return file.failure("cannot write the file");
    return file;
  }
  if (fs::exists(there) && ::access(file.path_.c_str(), W_OK) != 0)
    return file.failure("cannot replace the file");
  const std::string folder = fs::path(file.path_).parent_path().string();
  file.temporary_ = (folder.empty() ? "" : folder + "/") + ".frwkv-" + std::to_string(::getpid()) + "-" +
                    std::to_string(serial++) + ".tmp";
  // Without a name until it is complete, where the file system can do that: then nothing is left of a killed
  // process.
  file.fd_ = ::open(folder.empty() ? "." : folder.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666);
  file.named_ = file.fd_ < 0;
  if (file.named_) file.fd_ = ::open(file.temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (file.fd_ < 0) return file.failure("cannot create the file");
  if (fs::exists(there)) ::fchmod(file.fd_, static_cast<mode_t>(there.permissions()) & 07777);
  return file;
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::exchange(other.temporary_, {})),
      fd_(std::exchange(other.fd_, -1)),
      named_(std::exchange(other.named_, false)) {}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) ::close(fd_);
  if (named_) ::unlink(temporary_.c_str());
}

Status AtomicFile::write(std::span<const std::byte> bytes) {
  constexpr std::size_t most = std::size_t{1} << 30;  // one write() takes no more than 2 GB
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd_, bytes.data(), std::min(bytes.size(), most));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return failure("cannot write the file");
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
  return {};
}

Status AtomicFile::commit() {
  if (temporary_.empty()) return {};  // no regular file: there is nothing to put in place
  if (::fsync(fd_) != 0) return failure("cannot write the file to disk");
  if (!named_) {
    const std::string open_file = "/proc/self/fd/" + std::to_string(fd_);
    if (::linkat(AT_FDCWD, open_file.c_str(), AT_FDCWD, temporary_.c_str(), AT_SYMLINK_FOLLOW) != 0)
      return failure("cannot name the new file");
    named_ = true;
  }
  if (::close(std::exchange(fd_, -1)) != 0) return failure("cannot write the file to disk");
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) return failure("cannot put the new file in place");
  named_ = false;
  const std::filesystem::path parent = std::filesystem::path(path_).parent_path();
  const int directory = ::open(parent.empty() ? "." : parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory >= 0) {  // some file systems cannot; the rename itself has succeeded
    ::fsync(directory);
    ::close(directory);
  }
  return {};
}

}  // namespace fr
