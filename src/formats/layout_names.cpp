#include "formats/layout_names.h"

#include <algorithm>

#include "formats/reader.h"

namespace fr {
namespace {

Error wrong_shape(const TensorView& t, std::string_view expected, const std::string& path) {
  return file_fault(path, "tensor " + printable(t.name) + " has shape " + t.shape_string() + ", expected " +
                              std::string(expected));
}

}  // namespace

std::optional<LayerName> layer_name(std::string_view name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return std::nullopt;
  name.remove_prefix(prefix.size());
  const std::size_t dot = name.find_first_not_of("0123456789");
  if (dot == 0 || dot == name.npos || name[dot] != '.') return std::nullopt;
  return LayerName{name.substr(0, dot), name.substr(dot + 1)};
}

bool rename_start(std::string& name, Renames renames) {
  const auto found = std::find_if(renames.begin(), renames.end(),
                                  [&](const auto& rename) { return name.starts_with(rename.first); });
  if (found == renames.end()) return false;
  name.replace(0, found->first.size(), found->second);
  return true;
}

Status swap_axes(TensorView& t, const std::string& path) {
  if (t.shape.size() < 2) return wrong_shape(t, "a matrix", path);
  t = t.transposed();
  return {};
}

Status reshape(TensorView& t, std::vector<std::int64_t> shape, const std::string& path) {
  const auto count = element_count(shape);
  if (!count || *count != t.size() || !t.contiguous() || t.scales) {
    TensorView wanted;
    wanted.shape = std::move(shape);
    return wrong_shape(t, "as many numbers as " + wanted.shape_string(), path);
  }
  t = t.reshaped(std::move(shape));
  return {};
}

Status drop_last_ones(TensorView& t, const std::string& path) {
  std::vector<std::int64_t> shape = t.shape;
  while (shape.size() > 1 && shape.back() == 1) shape.pop_back();
  return reshape(t, std::move(shape), path);
}

Status split_mixes(const TensorView& t, const std::string& stem, std::vector<TensorView>& out,
                   const std::string& path) {
  constexpr std::string_view letters = "rwkvag";
  const auto rows = static_cast<std::int64_t>(letters.size());
  const bool fits = t.shape.size() >= 2 && t.shape[0] == rows && t.shape.back() == t.size() / rows;
  if (!fits || !t.contiguous()) return wrong_shape(t, "[6, width]", path);
  for (std::int64_t i = 0; i < rows; ++i) {
    TensorView part = t.rows(i, i + 1).reshaped({1, 1, t.shape.back()});
    part.name = stem + letters[static_cast<std::size_t>(i)];
    out.push_back(std::move(part));
  }
  return {};
}

void tie_head(Checkpoint& file) {
  const auto named = [&](std::string_view name) {
    return std::find_if(file.tensors.begin(), file.tensors.end(),
                        [&](const TensorView& t) { return t.name == name; });
  };
  const auto embedding = named("emb.weight");
  const auto tied = file.metadata.find("config.tie_word_embeddings");
  const bool denied = tied != file.metadata.end() && tied->second == "false";
  if (denied || embedding == file.tensors.end() || named("head.weight") != file.tensors.end()) return;
  TensorView head = *embedding;
  head.name = "head.weight";
  file.tensors.push_back(std::move(head));
  file.notes.push_back("the head is the embedding");
}

}  // namespace fr
