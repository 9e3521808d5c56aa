// write_safetensors: header, then the elements of each tensor in row-major order.
#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "formats/atomic_file.h"
#include "formats/reader.h"
#include "formats/safetensors.h"
#include "formats/safetensors_dtype.h"

namespace fr {
namespace {

std::string json_text(std::string_view text) { return nlohmann::json(text).dump(); }  // throws when not UTF-8

std::uint64_t byte_count(const TensorView& t) {
  return static_cast<std::uint64_t>(t.size()) * dtype_size(t.dtype);
}

std::string header_of(const std::vector<const TensorView*>& tensors,
                      const std::map<std::string, std::string>& metadata) {
  std::string json = "{";
  if (!metadata.empty()) {
    json += "\"__metadata__\":{";
    for (const auto& [key, value] : metadata) json += json_text(key) + ":" + json_text(value) + ",";
    json.back() = '}';
    json += ",";
  }
  std::uint64_t offset = 0;
  for (const TensorView* t : tensors) {
    json +=
        json_text(t->name) + ":{\"dtype\":\"" + std::string(safetensors_name(t->dtype)) + "\",\"shape\":[";
    for (const std::int64_t size : t->shape) json += std::to_string(size) + ",";
    if (json.back() == ',') json.pop_back();
    const std::uint64_t end = offset + byte_count(*t);
    json += "],\"data_offsets\":[" + std::to_string(offset) + "," + std::to_string(end) + "]},";
    offset = end;
  }
  json.back() = '}';
  json.append((8 - json.size() % 8) % 8, ' ');
  return json;
}

// The elements of a strided tensor in row-major order, a buffer at a time.
template <std::size_t width>
Status write_gathered(AtomicFile& file, const TensorView& t) {
  constexpr std::size_t capacity = std::size_t{1} << 18;
  std::vector<std::byte> buffer;
  buffer.reserve(capacity);
  std::vector<std::int64_t> index(t.shape.size());
  std::int64_t offset = 0;
  for (std::int64_t left = t.size(); left > 0; --left) {
    const std::byte* element = t.data + offset * static_cast<std::int64_t>(width);
    buffer.insert(buffer.end(), element, element + width);
    if (buffer.size() == capacity || left == 1) {
      FR_OK(file.write(buffer));
      buffer.clear();
    }
    for (std::size_t d = index.size(); d-- > 0;) {  // odometer
      offset += t.stride[d];
      if (++index[d] < t.shape[d]) break;
      offset -= index[d] * t.stride[d];
      index[d] = 0;
    }
  }
  return {};
}

Status write_elements(AtomicFile& file, const TensorView& t) {
  if (t.contiguous() || t.size() == 0) return file.write(t.bytes());
  switch (dtype_size(t.dtype)) {
    case 8:
      return write_gathered<8>(file, t);
    case 4:
      return write_gathered<4>(file, t);
    case 2:
      return write_gathered<2>(file, t);
    default:
      return write_gathered<1>(file, t);
  }
}

}  // namespace

Status write_safetensors(const std::string& path, std::span<const TensorView> tensors,
                         const std::map<std::string, std::string>& metadata) {
  if (tensors.empty()) return usage_error("there are no tensors to write (" + path + "): give at least one");
  std::set<std::string_view> names;
  std::vector<const TensorView*> ordered;
  for (const TensorView& t : tensors) {
    if (t.name.empty() || t.name == "__metadata__" || !names.insert(t.name).second) {
      return usage_error("tensor name " + printable(t.name) + " cannot be written (" + path +
                         "): use unique names");
    }
    ordered.push_back(&t);
  }
  std::stable_sort(ordered.begin(), ordered.end(), [](const TensorView* a, const TensorView* b) {
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
  for (const TensorView* t : ordered) FR_OK(write_elements(file, *t));
  return file.commit();
}

}  // namespace fr
