#include "formats/reader.h"

#include <algorithm>
#include <vector>

namespace fr {

Error file_fault(std::string_view path, std::string_view what, std::string_view what_to_do) {
  std::string message(what);
  message.append(" (").append(path).append("): ").append(what_to_do);
  return file_error(std::move(message));
}

std::string printable(std::string_view text) {
  constexpr std::size_t shown = 80;
  constexpr char hex[] = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text.substr(0, shown)) {
    const auto u = static_cast<unsigned char>(c);
    if (u >= 0x20 && u < 0x7f && c != '"') {
      out += c;
    } else {
      out += "\\x";
      out += hex[u >> 4];
      out += hex[u & 15];
    }
  }
  return out + (text.size() > shown ? "...\"" : "\"");
}

std::optional<std::int64_t> checked_mul(std::int64_t a, std::int64_t b) {
  std::int64_t result;
  if (__builtin_mul_overflow(a, b, &result)) return std::nullopt;
  return result;
}

std::optional<std::int64_t> checked_add(std::int64_t a, std::int64_t b) {
  std::int64_t result;
  if (__builtin_add_overflow(a, b, &result)) return std::nullopt;
  return result;
}

std::optional<std::int64_t> element_count(std::span<const std::int64_t> shape) {
  std::int64_t count = 1;
  bool empty = false;
  for (const std::int64_t size : shape) {
    if (size == 0) {
      empty = true;
      continue;
    }
    const auto product = checked_mul(count, size);
    if (!product) return std::nullopt;
    count = *product;
  }
  return empty ? 0 : count;
}

Status finish_checkpoint(Checkpoint& checkpoint) {
  if (checkpoint.tensors.empty()) {
    return file_fault(checkpoint.path, "the file holds no tensors",
                      "give a file with the weights of a model");
  }
  std::vector<std::string_view> names;
  names.reserve(checkpoint.tensors.size());
  for (const TensorView& tensor : checkpoint.tensors) {
    if (tensor.name.size() > max_name_length) {
      return file_fault(checkpoint.path, "tensor name " + printable(tensor.name) + " is longer than " +
                                             std::to_string(max_name_length) + " bytes");
    }
    names.push_back(tensor.name);
  }
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) {
    return file_fault(checkpoint.path, "tensor " + printable(*twice) + " occurs more than once");
  }
  checkpoint.index();
  return {};
}

}  // namespace fr
