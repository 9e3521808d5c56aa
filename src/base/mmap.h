// A file mapped read-only into memory.
#pragma once
#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "base/result.h"

namespace fr {

// Gives the whole pages within a range of mapped or allocated memory back to the system: of files they are
// read again when they are needed, other memory is then zeros. A hint.
void drop_pages(std::span<const std::byte> range);

class MappedFile {
 public:
  // Errors (with the path): missing, a directory, not a regular file, empty, unreadable.
  static Result<std::shared_ptr<const MappedFile>> open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }
  // Size of the file on disk now; smaller than bytes().size() means that it was cut while in use.
  std::size_t size_on_disk() const;
  // The caller has copied these bytes: give the pages back to the system (a hint).
  void release(std::span<const std::byte> range) const;

 private:
  MappedFile() = default;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  int fd_ = -1;
  std::string path_;
};

}  // namespace fr
