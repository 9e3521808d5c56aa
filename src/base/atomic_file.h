// Writes a file so that a reader sees the old one or the whole new one, never a part.
#pragma once
#include <cstddef>
#include <span>
#include <string>

#include "base/result.h"

namespace fr {

// Written without a name, or under a temporary one, in the same directory; commit() puts it in place. Without
// commit() it disappears and the old file stays. The new file has the old one's permissions; a symbolic link
// stays, its target is replaced; a device or pipe is written to directly. One thread at a time. Errors name
// the path and what the system says.
class AtomicFile {
 public:
  static Result<AtomicFile> create(const std::string& path);
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile();

  Status write(std::span<const std::byte> bytes);
  // Data to disk (fsync), rename, directory to disk. Call once, last.
  Status commit();

 private:
  AtomicFile() = default;
  Error failure(const char* step) const;  // with errno
  std::string path_, temporary_;  // temporary_: the name it gets before it is in place; empty for devices
  int fd_ = -1;
  bool named_ = false;  // temporary_ exists
};

}  // namespace fr
