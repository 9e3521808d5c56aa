#include "formats/atomic_file.h"

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

Error AtomicFile::failure(const char* step) const {
  return runtime_error(std::string(step) + " (" + path_ + "): " + std::strerror(errno));
}

Result<AtomicFile> AtomicFile::create(const std::string& path) {
  static std::atomic<unsigned> serial{0};
  namespace fs = std::filesystem;
  AtomicFile file;
  std::error_code none;
  file.path_ = fs::is_symlink(path, none) ? fs::weakly_canonical(path, none).string() : path;
  if (file.path_.empty()) file.path_ = path;
  const fs::file_status there = fs::status(file.path_, none);
  if (fs::exists(there) && !fs::is_regular_file(there)) {  // a device or a pipe is written to, never replaced
    file.fd_ = ::open(file.path_.c_str(), O_WRONLY | O_CLOEXEC);
    if (file.fd_ < 0) return file.failure("cannot write the file");
    return file;
  }
  if (fs::exists(there) && ::access(file.path_.c_str(), W_OK) != 0)
    return file.failure("cannot replace the file");
  const std::string name =
      file.path_ + "." + std::to_string(::getpid()) + "." + std::to_string(serial++) + ".tmp";
  file.fd_ = ::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (file.fd_ < 0) return file.failure("cannot create the file");
  file.temporary_ = name;
  if (fs::exists(there)) ::fchmod(file.fd_, static_cast<mode_t>(there.permissions()) & 07777);
  return file;
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::exchange(other.temporary_, {})),
      fd_(std::exchange(other.fd_, -1)) {}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) ::close(fd_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
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
  if (::close(std::exchange(fd_, -1)) != 0) return failure("cannot write the file to disk");
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) return failure("cannot put the new file in place");
  temporary_.clear();
  const std::filesystem::path parent = std::filesystem::path(path_).parent_path();
  const int directory = ::open(parent.empty() ? "." : parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory >= 0) {  // some file systems cannot; the rename itself has succeeded
    ::fsync(directory);
    ::close(directory);
  }
  return {};
}

}  // namespace fr
