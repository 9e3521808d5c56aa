// The part of the ZIP format that PyTorch writes, read in place: stored (uncompressed) entries, zip64, data
// descriptors. Anything else, and every contradiction in the directory, is an error.
// Format: PKWARE APPNOTE.TXT 6.3.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace fr {

struct ZipEntry {
  std::string_view name;            // points into the archive
  std::span<const std::byte> data;  // points into the archive
  std::uint32_t crc = 0;            // CRC-32 as stored; PyTorch can be told to store 0 instead
};

class ZipArchive {
 public:
  // Reads the directory at the end of `bytes`, which must outlive the result. `path` is for error messages.
  // Names are unique and relative without "..", entries do not overlap and lie before the directory.
  // Time O(n log n) and memory O(n) for n entries, whatever the file claims.
  static Result<ZipArchive> open(std::span<const std::byte> bytes, std::string_view path);

  const std::vector<ZipEntry>& entries() const { return entries_; }  // in directory order
  const ZipEntry* find(std::string_view name) const;                 // null when absent

 private:
  std::vector<ZipEntry> entries_;
  std::vector<std::uint32_t> by_name_;  // indices of entries_, sorted by name
};

// True when `bytes` begins as a ZIP archive does.
bool looks_like_zip(std::span<const std::byte> bytes);

// CRC-32 of ZIP (polynomial 0xedb88320) of `bytes`, continuing from `crc`.
std::uint32_t crc32(std::span<const std::byte> bytes, std::uint32_t crc = 0);

// Whether the stored CRC agrees with the data; an entry saved without CRC (0) passes.
bool crc_matches(const ZipEntry& entry);

}  // namespace fr
