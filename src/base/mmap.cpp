#include "base/mmap.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

namespace fr {
namespace {

// From errno. A machine that has run out of something is no fault of the file.
Error system_error(const char* step, const std::string& path) {
  const int code = errno;
  const bool exhausted = code == ENOMEM || code == EMFILE || code == ENFILE;
  const std::string message =
      std::string("cannot ") + step + " the file (" + path + "): " + std::strerror(code);
  if (exhausted) return runtime_error(message + ", free some or raise the limit");
  return file_error(message + (code == EACCES ? ", you need the right to read it" : ", check the path"));
}

}  // namespace

void drop_pages(std::span<const std::byte> range) {
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = (reinterpret_cast<std::uintptr_t>(range.data()) + page - 1) / page * page;
  const auto end = reinterpret_cast<std::uintptr_t>(range.data() + range.size()) / page * page;
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

Result<std::shared_ptr<const MappedFile>> MappedFile::open(const std::string& path) {
  std::shared_ptr<MappedFile> file(new MappedFile);
  file->path_ = path;
  // O_NONBLOCK: opening a named pipe must not wait for a writer.
  file->fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file->fd_ < 0) return system_error("open", path);
  struct stat info {};
  if (::fstat(file->fd_, &info) != 0) return system_error("read", path);
  if (S_ISDIR(info.st_mode))
    return file_error("this is a directory (" + path + "): give the model file inside it");
  if (!S_ISREG(info.st_mode)) return file_error("not a regular file (" + path + "): copy it to disk first");
  if (info.st_size == 0) return file_error("the file is empty (" + path + "): download it again");
  file->size_ = static_cast<std::size_t>(info.st_size);
  void* data = ::mmap(nullptr, file->size_, PROT_READ, MAP_PRIVATE, file->fd_, 0);
  if (data == MAP_FAILED) return system_error("map", path);
  file->data_ = static_cast<const std::byte*>(data);
  return std::shared_ptr<const MappedFile>(std::move(file));
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
  if (fd_ >= 0) ::close(fd_);
}

std::size_t MappedFile::size_on_disk() const {
  struct stat info {};
  return ::fstat(fd_, &info) == 0 ? static_cast<std::size_t>(info.st_size) : 0;
}

void MappedFile::release(std::span<const std::byte> range) const { drop_pages(range); }

}  // namespace fr
