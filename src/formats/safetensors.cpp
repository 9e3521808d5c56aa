#include "formats/safetensors.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>

#include "formats/reader.h"
#include "formats/safetensors_dtype.h"

namespace fr {
namespace {

constexpr std::size_t length_size = 8;
constexpr std::uint64_t max_header = 100'000'000;        // the limit of the reference implementation
constexpr std::size_t max_token = std::size_t{4} << 20;  // the JSON lexer copies a token several times
constexpr std::size_t max_metadata_entries = 65536;

// What the header says of one tensor.
struct HeaderEntry {
  TensorView tensor;  // name, dtype, shape
  std::vector<std::uint64_t> range;
  bool has_dtype = false, has_shape = false;
};

// Receives the events of the JSON parser and accepts exactly
// {name: {"dtype": text, "shape": [numbers], "data_offsets": [begin, end]}, "__metadata__": {text: text}}.
class HeaderHandler final : public nlohmann::json_sax<nlohmann::json> {
 public:
  std::vector<HeaderEntry> entries;
  std::map<std::string, std::string> metadata;
  std::string fault;

  bool start_object(std::size_t) override {
    if (place_ == Place::outside) return enter(Place::root);
    if (place_ != Place::root) return unexpected();
    if (key_ == "__metadata__") {
      if (has_metadata_) return fail("the header has \"__metadata__\" twice");
      has_metadata_ = true;
      return enter(Place::metadata);
    }
    if (entries.size() == max_tensors)
      return fail("the header has more than " + std::to_string(max_tensors) + " tensors");
    if (key_.size() > max_name_length) return fail("tensor name " + printable(key_) + " is too long");
    entries.emplace_back();
    entries.back().tensor.name = key_;
    return enter(Place::tensor);
  }
  bool end_object() override {
    if (place_ == Place::tensor) {
      const HeaderEntry& e = entries.back();
      if (!e.has_dtype || !e.has_shape || e.range.size() != 2) {
        return fail("tensor " + printable(e.tensor.name) + " lacks its dtype, shape or data_offsets");
      }
    }
    return enter(place_ == Place::root ? Place::outside : Place::root);
  }
  bool key(std::string& text) override {
    key_ = text;
    return true;
  }
  bool string(std::string& text) override {
    if (place_ == Place::metadata) {
      if (metadata.size() == max_metadata_entries) return fail("the header has too many metadata entries");
      return metadata.emplace(key_, text).second || fail("the metadata has " + printable(key_) + " twice");
    }
    if (place_ != Place::tensor || key_ != "dtype" || entries.back().has_dtype) return unexpected();
    const auto dtype = safetensors_dtype(text);
    if (!dtype) {
      return fail("tensor " + printable(entries.back().tensor.name) + " has dtype " + printable(text) +
                  ", which is not supported");
    }
    entries.back().tensor.dtype = *dtype;
    return entries.back().has_dtype = true;
  }
  bool start_array(std::size_t) override {
    if (place_ != Place::tensor) return unexpected();
    HeaderEntry& e = entries.back();
    if (key_ == "shape" && !e.has_shape) return (e.has_shape = true) && enter(Place::shape);
    if (key_ == "data_offsets" && e.range.empty()) return enter(Place::range);
    return unexpected();
  }
  bool end_array() override { return enter(Place::tensor); }
  bool number_unsigned(std::uint64_t number) override {
    if (place_ == Place::shape && entries.back().tensor.shape.size() < max_rank &&
        number <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
      entries.back().tensor.shape.push_back(static_cast<std::int64_t>(number));
      return true;
    }
    if (place_ == Place::range && entries.back().range.size() < 2) {
      entries.back().range.push_back(number);
      return true;
    }
    return unexpected();
  }
  bool null() override { return unexpected(); }
  bool boolean(bool) override { return unexpected(); }
  bool number_integer(std::int64_t) override { return unexpected(); }
  bool number_float(double, const std::string&) override { return unexpected(); }
  bool binary(nlohmann::json::binary_t&) override { return unexpected(); }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception&) override {
    return fail("the header is not valid JSON at byte " + std::to_string(length_size + position));
  }

 private:
  enum class Place { outside, root, metadata, tensor, shape, range };

  bool enter(Place place) {
    place_ = place;
    return true;
  }
  bool fail(std::string what) {
    fault = std::move(what);
    return false;
  }
  bool unexpected() {
    const bool in_tensor = place_ >= Place::tensor;
    return fail((in_tensor ? "tensor " + printable(entries.back().tensor.name) : "the header") +
                " has an unexpected value at " + printable(key_));
  }

  Place place_ = Place::outside;
  std::string key_;
  bool has_metadata_ = false;
};

// Whether some string, number or run of blanks is too long to be handed to the parser.
bool has_huge_token(std::string_view json) {
  bool in_string = false;
  std::size_t run = 0;
  for (std::size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (in_string ? c == '"' : std::string_view("{}[]:,\"").find(c) != std::string_view::npos) {
      if (c == '"') in_string = !in_string;
      run = 0;
    } else {
      if (in_string && c == '\\') ++i;
      if (++run > max_token) return true;
    }
  }
  return false;
}

Result<HeaderHandler> read_header(std::string_view json, std::string_view path) {
  json = json.substr(0, json.find_last_not_of(' ') + 1);  // padding
  if (has_huge_token(json)) return file_fault(path, "the header has a text or number of more than 4 MB");
  HeaderHandler handler;
  bool ok = false;
  try {
    ok = nlohmann::json::sax_parse(json, &handler);
  } catch (const std::exception& e) {
    return file_fault(path, std::string("the header cannot be read: ") + e.what());
  }
  if (!ok) return file_fault(path, handler.fault);
  return handler;
}

// Fills data and stride from the range, which must have the size that shape and dtype need.
Status place(HeaderEntry& entry, std::span<const std::byte> data, std::string_view path) {
  TensorView& t = entry.tensor;
  const std::uint64_t begin = entry.range[0], end = entry.range[1];
  if (begin > end || end > data.size()) {
    return file_fault(path, "tensor " + printable(t.name) + " has its data outside the file",
                      "the download or copy was cut short, fetch the file again");
  }
  const auto count = element_count(t.shape);
  const auto size =
      count ? checked_mul(*count, static_cast<std::int64_t>(dtype_size(t.dtype))) : std::nullopt;
  if (!size || static_cast<std::uint64_t>(*size) != end - begin) {
    return file_fault(path, "tensor " + printable(t.name) + " has shape " + t.shape_string() + " in " +
                                std::string(dtype_name(t.dtype)) + ", but " + std::to_string(end - begin) +
                                " bytes of data");
  }
  t.data = data.data() + begin;
  t.stride.resize(t.shape.size());
  std::int64_t stride = 1;
  for (std::size_t d = t.shape.size(); d-- > 0;) {
    t.stride[d] = stride;
    stride *= t.shape[d];
  }
  return {};
}

// The ranges, in order, follow each other from the first to the last byte of the data.
Status check_coverage(const std::vector<HeaderEntry>& entries, std::size_t data_size, std::string_view path) {
  std::vector<std::uint32_t> order(entries.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(), [&](auto a, auto b) { return entries[a].range < entries[b].range; });
  std::uint64_t covered = 0;
  for (const std::uint32_t i : order) {
    const HeaderEntry& e = entries[i];
    if (e.range[0] != covered) {
      return file_fault(path, "tensor " + printable(e.tensor.name) +
                                  (e.range[0] < covered ? " overlaps the data of another"
                                                        : " leaves a hole before its data"));
    }
    covered = e.range[1];
  }
  if (covered != data_size) {
    return file_fault(path, "there are " + std::to_string(data_size - covered) +
                                " bytes after the data of the last tensor");
  }
  return {};
}

}  // namespace

bool looks_like_safetensors(std::span<const std::byte> bytes) {
  if (bytes.size() <= length_size || bytes[length_size] != std::byte{'{'}) return false;
  // A text may have a brace there too; a header length has bytes that a text has not.
  return std::any_of(bytes.begin(), bytes.begin() + length_size,
                     [](std::byte b) { return b < std::byte{9} || b >= std::byte{0x80}; });
}

Result<Checkpoint> parse_safetensors(std::span<const std::byte> bytes, std::string_view path) {
  if (bytes.size() < length_size) return file_fault(path, "the file is too short for a safetensors header");
  const auto length = load_le<std::uint64_t>(bytes.data());
  if (length > max_header) return file_fault(path, "the header claims to have more than 100 MB");
  if (length > bytes.size() - length_size) return file_fault(path, "the header is longer than the file");
  const std::string_view json(reinterpret_cast<const char*>(bytes.data()) + length_size, length);
  if (!json.starts_with('{')) return file_fault(path, "the header does not begin with {");
  FR_TRY(HeaderHandler header, read_header(json, path));
  const auto data = bytes.subspan(length_size + length);

  Checkpoint checkpoint;
  checkpoint.path = path;
  checkpoint.format = "safetensors";
  for (HeaderEntry& entry : header.entries) FR_OK(place(entry, data, path));
  FR_OK(check_coverage(header.entries, data.size(), path));
  checkpoint.tensors.reserve(header.entries.size());
  for (HeaderEntry& entry : header.entries) checkpoint.tensors.push_back(std::move(entry.tensor));
  checkpoint.metadata = std::move(header.metadata);
  FR_OK(finish_checkpoint(checkpoint));
  return checkpoint;
}

}  // namespace fr
