#include "formats/pth.h"

#include <algorithm>
#include <map>
#include <string>

#include "formats/reader.h"
#include "formats/torch_pickle.h"
#include "formats/zip.h"

namespace fr {
namespace {

using Kind = PickleValue::Kind;

// The pickle of a 61-layer model has about 60,000 values.
constexpr std::size_t max_values = 1u << 19, max_header_values = 256, max_key_values = 4 * max_tensors;

// ---- ZIP form: <top>/data.pkl, <top>/data/<key>, <top>/byteorder, ... with any name for <top>.

Status check_crc(const ZipEntry& entry, std::string_view path) {
  if (crc_matches(entry)) return {};
  return file_fault(path, "the data of ZIP entry " + printable(entry.name) + " does not match its checksum");
}

Result<Checkpoint> parse_zip(std::span<const std::byte> bytes, std::string_view path) {
  FR_TRY(const ZipArchive archive, ZipArchive::open(bytes, path));
  std::string top;
  if (!archive.entries().empty()) {
    const std::string_view first = archive.entries().front().name;
    top = first.substr(0, first.find('/') + 1);
  }
  const ZipEntry* pickled = archive.find(top + "data.pkl");
  if (top.empty() || pickled == nullptr) {
    return file_fault(path, "this ZIP archive is not a PyTorch checkpoint (it has no data.pkl)",
                      "if it was packed by hand, unpack it and give the model file inside it");
  }
  if (archive.find(top + "constants.pkl") != nullptr) {
    return file_fault(path, "this is a TorchScript program",
                      "give the checkpoint that holds its weights (state_dict)");
  }
  FR_OK(check_crc(*pickled, path));
  if (const ZipEntry* order = archive.find(top + "byteorder")) {
    FR_OK(check_crc(*order, path));
    const std::string_view text(reinterpret_cast<const char*>(order->data.data()), order->data.size());
    if (text != "little") {
      return file_fault(path, "the checkpoint has byte order " + printable(text),
                        "save it again on a little-endian machine");
    }
  }
  Storages storages;
  const std::string prefix = top + "data/";
  for (const ZipEntry& entry : archive.entries()) {
    if (entry.name.starts_with(prefix)) storages.emplace(entry.name.substr(prefix.size()), entry.data);
  }
  const auto begin = static_cast<std::size_t>(pickled->data.data() - bytes.data());
  FR_TRY(const Pickle pickle,
         Pickle::read(bytes, begin, begin + pickled->data.size(), torch_globals(), max_values, path));
  return checkpoint_of(pickle, storages, bytes.size(), path);
}

// ---- Legacy form: five pickles (magic number, protocol, system, checkpoint, storage keys), then the
// storages.

constexpr std::string_view legacy_magic("\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", 10);
constexpr std::int64_t legacy_protocol = 1001;

bool saved_little_endian(const Pickle& system) {
  if (!system.root().is(Kind::dict)) return false;
  const auto items = system.items(system.root());
  for (std::size_t i = 0; i + 1 < items.size(); i += 2) {
    if (items[i].is(Kind::text) && items[i].text() == "little_endian") {
      return items[i + 1].is(Kind::boolean) && items[i + 1].integer == 1;
    }
  }
  return false;
}

// After the pickles, for each key in the order of `keys`: the number of elements (int64), then the elements.
Result<Storages> legacy_storages(std::span<const std::byte> bytes, const Pickle& pickle, const Pickle& keys,
                                 std::string_view path) {
  std::map<std::string_view, StorageId> known;
  for (const PickleValue& value : pickle.persistent()) {
    if (const auto id = storage_id(pickle, value)) known.emplace(id->key, *id);
  }
  if (!keys.root().is(Kind::list)) return file_fault(path, "the list of storages is missing");
  Storages storages;
  std::size_t position = keys.end();
  for (const PickleValue& key : keys.items(keys.root())) {
    const auto id = key.is(Kind::text) ? known.find(key.text()) : known.end();
    if (id == known.end()) return file_fault(path, "the list of storages has a key that no tensor uses");
    const std::string storage = "storage " + printable(id->first);
    if (bytes.size() - position < 8) return file_fault(path, storage + " is missing at the end of the file");
    const auto count = load_le<std::int64_t>(bytes.data() + position);
    position += 8;
    if (count != id->second.count)
      return file_fault(path, storage + " has another size than its tensors say");
    const auto size = checked_mul(count, static_cast<std::int64_t>(id->second.element_size()));
    if (!size || static_cast<std::uint64_t>(*size) > bytes.size() - position) {
      return file_fault(path, storage + " is larger than the rest of the file");
    }
    const auto data = bytes.subspan(position, static_cast<std::size_t>(*size));
    position += data.size();
    if (!storages.emplace(id->first, data).second)
      return file_fault(path, storage + " occurs more than once");
  }
  if (position != bytes.size()) return file_fault(path, "there are bytes after the last storage");
  return storages;
}

Result<Checkpoint> parse_legacy(std::span<const std::byte> bytes, std::string_view path) {
  const std::string_view head(reinterpret_cast<const char*>(bytes.data()),
                              std::min<std::size_t>(bytes.size(), 32));
  if (head.find(legacy_magic) == head.npos) {
    return file_fault(path, "this is a Python pickle, but not a PyTorch checkpoint", not_weights);
  }
  std::size_t position = 0;
  const auto next = [&](std::size_t limit) -> Result<Pickle> {
    auto pickle = Pickle::read(bytes, position, bytes.size(), torch_globals(), limit, path);
    if (pickle) position = pickle->end();
    return pickle;
  };
  FR_TRY(const Pickle magic, next(max_header_values));
  FR_TRY(const Pickle protocol, next(max_header_values));
  FR_TRY(const Pickle system, next(max_header_values));
  FR_TRY(const Pickle pickle, next(max_values));
  FR_TRY(const Pickle keys, next(max_key_values));
  if (!magic.root().is(Kind::big_integer) || magic.root().text() != legacy_magic ||
      !protocol.root().is(Kind::integer) || protocol.root().integer != legacy_protocol) {
    return file_fault(path, "the header of the legacy PyTorch checkpoint is wrong");
  }
  if (!saved_little_endian(system)) {
    return file_fault(path, "the checkpoint was not saved on a little-endian machine",
                      "save it again on one");
  }
  FR_TRY(const Storages storages, legacy_storages(bytes, pickle, keys, path));
  FR_TRY(Checkpoint checkpoint, checkpoint_of(pickle, storages, bytes.size(), path));
  checkpoint.notes.push_back("legacy form of PyTorch before 1.6, without checksums");
  return checkpoint;
}

}  // namespace

bool looks_like_pth(std::span<const std::byte> bytes) {
  const bool pickle = bytes.size() >= 2 && bytes[0] == std::byte{0x80} && bytes[1] >= std::byte{2} &&
                      bytes[1] <= std::byte{5};
  return pickle || looks_like_zip(bytes);
}

Result<Checkpoint> parse_pth(std::span<const std::byte> bytes, std::string_view path) {
  return looks_like_zip(bytes) ? parse_zip(bytes, path) : parse_legacy(bytes, path);
}

Result<bool> verify_pth(std::span<const std::byte> bytes, std::string_view path, const Progress& progress) {
  if (!looks_like_zip(bytes)) return false;
  FR_TRY(const ZipArchive archive, ZipArchive::open(bytes, path));
  for (const ZipEntry& entry : archive.entries()) {
    FR_OK(check_crc(entry, path));
    const auto done = static_cast<std::uint64_t>(entry.data.data() + entry.data.size() - bytes.data());
    if (progress && !progress("verifying", done, bytes.size())) {
      return Error{ErrorCode::interrupted,
                   "verification was interrupted (" + std::string(path) + "): start it again"};
    }
  }
  return true;
}

}  // namespace fr
