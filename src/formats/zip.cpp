#include "formats/zip.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <optional>

#include "formats/reader.h"

namespace fr {
namespace {

constexpr std::uint32_t local_signature = 0x04034b50, central_signature = 0x02014b50,
                        end_signature = 0x06054b50, end64_signature = 0x06064b50,
                        locator_signature = 0x07064b50;
constexpr std::size_t local_size = 30, central_size = 46, end_size = 22, end64_size = 56, locator_size = 20;
constexpr std::uint32_t in_zip64 = 0xffffffff;  // a 32-bit field whose value stands in the zip64 part
constexpr std::uint16_t flag_encrypted = 1u << 0, flag_descriptor = 1u << 3, flag_patch = 1u << 5,
                        flag_strong_encryption = 1u << 6, flag_masked = 1u << 13;

constexpr std::uint64_t max_entries = 2 * max_tensors;
constexpr std::string_view cut_short = "the download or copy was cut short, fetch the file again";

// Where the central directory is, and where the records after it begin.
struct Directory {
  std::uint64_t offset = 0, size = 0, count = 0;
};

// One record of the central directory, zip64 fields resolved.
struct Central {
  std::string_view name;
  std::uint16_t flags = 0, method = 0;
  std::uint32_t crc = 0;
  std::uint64_t packed = 0, size = 0, header = 0;
};

class Parser {
 public:
  Parser(std::span<const std::byte> bytes, std::string_view path) : bytes_(bytes), path_(path) {}

  Result<std::vector<ZipEntry>> entries() {
    FR_TRY(const Directory directory, find_directory());
    if (directory.count > directory.size / central_size)
      return fault("the ZIP directory claims more entries than fit");
    if (directory.count > max_entries)
      return fault("the ZIP archive has too many entries", "give a .pth of one model");
    std::vector<ZipEntry> entries;
    entries.reserve(directory.count);
    std::vector<Extent> extents;
    extents.reserve(directory.count);
    std::uint64_t position = directory.offset;
    const std::uint64_t end = directory.offset + directory.size;
    for (std::uint64_t i = 0; i < directory.count; ++i) {
      FR_TRY(const Central central, read_central(position, end));
      FR_OK(check_central(central));
      FR_TRY(const auto data, locate(central, directory.offset));
      extents.push_back(
          {central.header, static_cast<std::uint64_t>(data.data() - bytes_.data()) + data.size()});
      if (!central.name.ends_with('/')) entries.push_back({central.name, data, central.crc});
    }
    if (position != end) return fault("the ZIP directory has bytes after its last entry");
    std::sort(extents.begin(), extents.end());
    for (std::size_t i = 1; i < extents.size(); ++i) {
      if (extents[i].begin < extents[i - 1].end) {
        return fault("two ZIP entries overlap at byte " + std::to_string(extents[i].begin));
      }
    }
    return entries;
  }

 private:
  struct Extent {
    std::uint64_t begin, end;
    auto operator<=>(const Extent&) const = default;
  };

  Error fault(std::string_view what, std::string_view what_to_do = damaged_file) const {
    return file_fault(path_, what, what_to_do);
  }
  Error entry_fault(const Central& c, const std::string& what,
                    std::string_view what_to_do = damaged_file) const {
    return fault("ZIP entry " + printable(c.name) + what, what_to_do);
  }
  template <class T>
  T at(std::uint64_t offset) const {
    return load_le<T>(bytes_.data() + offset);
  }
  std::string_view text(std::uint64_t offset, std::size_t length) const {
    return {reinterpret_cast<const char*>(bytes_.data() + offset), length};
  }

  // The end record stands last, followed only by its comment.
  std::optional<std::uint64_t> find_end() const {
    if (bytes_.size() < end_size) return std::nullopt;
    const std::size_t last = bytes_.size() - end_size;
    const std::size_t first = last - std::min<std::size_t>(last, 0xffff);
    for (std::size_t p = last + 1; p-- > first;) {
      if (at<std::uint32_t>(p) == end_signature && at<std::uint16_t>(p + 20) == last - p) return p;
    }
    return std::nullopt;
  }

  Result<Directory> find_directory() const {
    const auto end = find_end();
    if (!end) return fault("the ZIP directory at the end of the file is missing", cut_short);
    Directory d{at<std::uint32_t>(*end + 16), at<std::uint32_t>(*end + 12), at<std::uint16_t>(*end + 10)};
    bool one_disk = at<std::uint16_t>(*end + 4) == 0 && at<std::uint16_t>(*end + 6) == 0 &&
                    at<std::uint16_t>(*end + 8) == d.count;
    std::uint64_t after = *end;  // what the directory must end at
    const bool has_locator =
        *end >= locator_size && at<std::uint32_t>(*end - locator_size) == locator_signature;
    if (has_locator) {
      const std::uint64_t locator = *end - locator_size;
      const auto record = at<std::uint64_t>(locator + 8);
      if (record > locator || locator - record < end64_size || at<std::uint32_t>(record) != end64_signature ||
          at<std::uint64_t>(record + 4) != locator - record - 12) {
        return fault("the zip64 end record is not where its locator says");
      }
      const Directory d64{at<std::uint64_t>(record + 48), at<std::uint64_t>(record + 40),
                          at<std::uint64_t>(record + 32)};
      if ((d.count != 0xffff && d.count != d64.count) || (d.size != in_zip64 && d.size != d64.size) ||
          (d.offset != in_zip64 && d.offset != d64.offset)) {
        return fault("the two end records of the ZIP archive contradict each other");
      }
      one_disk = one_disk && at<std::uint32_t>(record + 16) == 0 && at<std::uint32_t>(record + 20) == 0 &&
                 at<std::uint64_t>(record + 24) == d64.count;
      d = d64;
      after = record;
    }
    if (!one_disk) return fault("the ZIP archive is split over several files", "join its parts first");
    if (d.offset > after || d.size != after - d.offset) {
      return fault("the ZIP directory does not end where its end record begins");
    }
    return d;
  }

  // Reads the record at `position` and moves past it.
  Result<Central> read_central(std::uint64_t& position, std::uint64_t end) const {
    const std::uint64_t p = position;
    if (end - p < central_size || at<std::uint32_t>(p) != central_signature) {
      return fault("the ZIP directory has no entry at byte " + std::to_string(p));
    }
    const std::size_t name = at<std::uint16_t>(p + 28), extra = at<std::uint16_t>(p + 30),
                      comment = at<std::uint16_t>(p + 32);
    if (end - p - central_size < name + extra + comment) {
      return fault("a ZIP directory entry runs past the directory, at byte " + std::to_string(p));
    }
    Central c{text(p + central_size, name), at<std::uint16_t>(p + 8),  at<std::uint16_t>(p + 10),
              at<std::uint32_t>(p + 16),    at<std::uint32_t>(p + 20), at<std::uint32_t>(p + 24),
              at<std::uint32_t>(p + 42)};
    if (!resolve_zip64(c, p + central_size + name, extra)) return entry_fault(c, " lacks its zip64 sizes");
    position = p + central_size + name + extra + comment;
    return c;
  }

  // Fields that hold `in_zip64` are taken, in this order, from the extra field with id 1.
  bool resolve_zip64(Central& c, std::uint64_t extra, std::size_t length) const {
    std::uint64_t* const wanted[] = {&c.size, &c.packed, &c.header};
    if (std::none_of(std::begin(wanted), std::end(wanted),
                     [](const auto* field) { return *field == in_zip64; }))
      return true;
    const std::uint64_t end = extra + length;
    while (end - extra >= 4) {
      const auto id = at<std::uint16_t>(extra);
      const std::size_t size = at<std::uint16_t>(extra + 2);
      extra += 4;
      if (end - extra < size) return false;
      if (id != 1) {
        extra += size;
        continue;
      }
      std::size_t used = 0;
      for (std::uint64_t* field : wanted) {
        if (*field != in_zip64) continue;
        if (size - used < 8) return false;
        *field = at<std::uint64_t>(extra + used);
        used += 8;
      }
      return true;
    }
    return false;
  }

  Status check_central(const Central& c) const {
    if (c.name.empty() || c.name.front() == '/' || c.name.find('\\') != c.name.npos ||
        c.name.find('\0') != c.name.npos || c.name == ".." || c.name.starts_with("../") ||
        c.name.ends_with("/..") || c.name.find("/../") != c.name.npos) {
      return entry_fault(c, " has a name that leaves the archive", "do not use this file");
    }
    if (c.flags & (flag_encrypted | flag_strong_encryption | flag_masked)) {
      return entry_fault(c, " is encrypted", "unpack the archive and give the model file inside it");
    }
    if (c.method != 0 || (c.flags & flag_patch)) {
      return entry_fault(c, " is compressed",
                         "PyTorch does not compress; unpack the archive and give the model file inside it");
    }
    if (c.packed != c.size) return entry_fault(c, " is stored, but its two sizes differ");
    return {};
  }

  // The data of an entry: behind its local header, which must agree with the directory.
  Result<std::span<const std::byte>> locate(const Central& c, std::uint64_t directory) const {
    if (c.header > directory || directory - c.header < local_size) {
      return entry_fault(c, " begins outside the file", cut_short);
    }
    const std::uint64_t p = c.header;
    const std::size_t name = at<std::uint16_t>(p + 26), extra = at<std::uint16_t>(p + 28);
    const std::uint64_t room = directory - p - local_size;
    if (at<std::uint32_t>(p) != local_signature || room < name + extra ||
        text(p + local_size, name) != c.name || at<std::uint16_t>(p + 6) != c.flags ||
        at<std::uint16_t>(p + 8) != c.method) {
      return entry_fault(c, " has no matching header at byte " + std::to_string(p));
    }
    if (c.size > room - name - extra) return entry_fault(c, " is larger than the file", cut_short);
    if (!(c.flags & flag_descriptor)) {  // else sizes and CRC follow the data, and 0 stands here
      const auto packed = at<std::uint32_t>(p + 18), size = at<std::uint32_t>(p + 22);
      if (at<std::uint32_t>(p + 14) != c.crc || (packed != in_zip64 && packed != c.size) ||
          (size != in_zip64 && size != c.size)) {
        return entry_fault(c, " has another size or CRC in its header than in the directory");
      }
    }
    return bytes_.subspan(p + local_size + name + extra, c.size);
  }

  std::span<const std::byte> bytes_;
  std::string_view path_;
};

}  // namespace

Result<ZipArchive> ZipArchive::open(std::span<const std::byte> bytes, std::string_view path) {
  ZipArchive archive;
  FR_TRY(archive.entries_, Parser(bytes, path).entries());
  const auto& entries = archive.entries_;
  auto& order = archive.by_name_;
  order.resize(entries.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(), [&](auto a, auto b) { return entries[a].name < entries[b].name; });
  const auto twice = std::adjacent_find(order.begin(), order.end(),
                                        [&](auto a, auto b) { return entries[a].name == entries[b].name; });
  if (twice != order.end()) {
    return file_fault(path, "ZIP entry " + printable(entries[*twice].name) + " occurs more than once");
  }
  return archive;
}

const ZipEntry* ZipArchive::find(std::string_view name) const {
  const auto it =
      std::lower_bound(by_name_.begin(), by_name_.end(), name,
                       [&](std::uint32_t i, std::string_view wanted) { return entries_[i].name < wanted; });
  return it != by_name_.end() && entries_[*it].name == name ? &entries_[*it] : nullptr;
}

bool looks_like_zip(std::span<const std::byte> bytes) {
  if (bytes.size() < 4) return false;
  const auto signature = load_le<std::uint32_t>(bytes.data());
  return signature == local_signature || signature == end_signature;
}

namespace {

// tables[k][b]: CRC of byte b followed by k zero bytes, so that eight bytes can be taken at once.
constexpr auto crc_tables = [] {
  std::array<std::array<std::uint32_t, 256>, 8> tables{};
  for (std::uint32_t b = 0; b < 256; ++b) {
    std::uint32_t c = b;
    for (int bit = 0; bit < 8; ++bit) c = (c >> 1) ^ ((c & 1u) ? 0xedb88320u : 0u);
    tables[0][b] = c;
  }
  for (std::size_t k = 1; k < 8; ++k) {
    for (std::size_t b = 0; b < 256; ++b)
      tables[k][b] = (tables[k - 1][b] >> 8) ^ tables[0][tables[k - 1][b] & 0xff];
  }
  return tables;
}();

}  // namespace

std::uint32_t crc32(std::span<const std::byte> bytes, std::uint32_t crc) {
  crc = ~crc;
  const std::byte* p = bytes.data();
  std::size_t left = bytes.size();
  for (; left >= 8; left -= 8, p += 8) {
    const std::uint64_t word = load_le<std::uint64_t>(p) ^ crc;
    crc = 0;
    for (std::size_t k = 0; k < 8; ++k) crc ^= crc_tables[7 - k][(word >> (8 * k)) & 0xff];
  }
  for (; left > 0; --left, ++p)
    crc = (crc >> 8) ^ crc_tables[0][(crc ^ static_cast<std::uint32_t>(*p)) & 0xff];
  return ~crc;
}

bool crc_matches(const ZipEntry& entry) { return entry.crc == 0 || crc32(entry.data) == entry.crc; }

}  // namespace fr
