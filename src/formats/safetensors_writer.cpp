// write_safetensors: header, then the elements of each tensor in row-major order.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "formats/reader.h"
#include "formats/safetensors.h"
#include "formats/safetensors_dtype.h"
#include "formats/writer.h"

namespace fr {
namespace {

std::string json_text(std::string_view text) { return nlohmann::json(text).dump(); }  // throws when not UTF-8

std::string header_of(const std::vector<const StoredTensor*>& tensors,
                      const std::map<std::string, std::string>& metadata) {
  std::string json = "{";
  if (!metadata.empty()) {
    json += "\"__metadata__\":{";
    for (const auto& [key, value] : metadata) json += json_text(key) + ":" + json_text(value) + ",";
    json.back() = '}';
    json += ",";
  }
  std::uint64_t offset = 0;
  for (const StoredTensor* t : tensors) {
    json += json_text(t->view.name) + ":{\"dtype\":\"" + std::string(safetensors_name(t->dtype)) +
            "\",\"shape\":[";
    for (const std::int64_t size : t->view.shape) json += std::to_string(size) + ",";
    if (json.back() == ',') json.pop_back();
    const std::uint64_t end = offset + stored_bytes(t->view, t->dtype);
    json += "],\"data_offsets\":[" + std::to_string(offset) + "," + std::to_string(end) + "]},";
    offset = end;
  }
  json.back() = '}';
  json.append((8 - json.size() % 8) % 8, ' ');
  return json;
}

}  // namespace

Status write_safetensors(const std::string& path, std::span<const StoredTensor> tensors,
                         const std::map<std::string, std::string>& metadata, const Checkpoint& source,
                         const Progress& progress) {
  if (tensors.empty()) return usage_error("there are no tensors to write (" + path + "): give at least one");
  std::set<std::string_view> names;
  std::vector<const StoredTensor*> ordered;
  std::uint64_t total = 0, done = 0;
  for (const StoredTensor& t : tensors) {
    const std::string& name = t.view.name;
    if (name.empty() || name == "__metadata__" || !names.insert(name).second) {
      return usage_error("tensor name " + printable(name) + " cannot be written (" + path +
                         "): use unique names");
    }
    FR_CHECK(!is_block_dtype(t.dtype));  // safetensors holds plain numbers only
    ordered.push_back(&t);
    total += stored_bytes(t.view, t.dtype);
  }
  std::stable_sort(ordered.begin(), ordered.end(), [](const StoredTensor* a, const StoredTensor* b) {
    return dtype_size(a->dtype) > dtype_size(b->dtype);
  });
  std::string header;
  try {
    header = header_of(ordered, metadata);
  } catch (const nlohmann::json::exception& e) {
    return usage_error("a name or metadata text is not UTF-8 (" + path + "): " + e.what());
  }
  FR_TRY(AtomicFile file, AtomicFile::create(path));
  const std::uint64_t length = header.size();
  FR_OK(file.write(std::as_bytes(std::span(&length, 1))));
  FR_OK(file.write(std::as_bytes(std::span(header))));
  for (const StoredTensor* t : ordered) {
    FR_OK(write_tensor(file, t->view, t->dtype, source));
    done += stored_bytes(t->view, t->dtype);
    FR_OK(report_writing(progress, path, done, total));
  }
  return file.commit();
}

Status write_safetensors(const std::string& path, std::span<const TensorView> tensors,
                         const std::map<std::string, std::string>& metadata) {
  std::vector<StoredTensor> stored;
  for (const TensorView& t : tensors) stored.push_back({t, t.dtype});
  return write_safetensors(path, stored, metadata, Checkpoint{});
}

}  // namespace fr
