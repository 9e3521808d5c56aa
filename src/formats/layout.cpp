#include "formats/layout.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "formats/reader.h"

namespace fr {
namespace {

constexpr std::array layouts{&layout_converted,    &layout_chatrwkv, &layout_rwkv_cpp, &layout_fla,
                             &layout_transformers, &layout_web_rwkv, &layout_gguf,     &layout_rosa};

// The metadata of a safetensors file that holds what a converter had processed (writers: converted_metadata).
constexpr const char* key_processed = "rwkv.processed";
constexpr const char* key_rescale = "rwkv.rescale_every";

// Processed tensors of one kind have one mark: the name without its layer.
std::string_view kind_of(std::string_view name) {
  if (!name.starts_with("blocks.")) return name;
  const std::size_t dot = name.find('.', 7);
  return dot == name.npos ? name : name.substr(dot + 1);
}

// `list` is ",a,b,c,".
bool lists(std::string_view list, std::string_view word) {
  for (std::size_t at = list.find(word); at != list.npos; at = list.find(word, at + 1)) {
    if (list[at - 1] == ',' && list[at + word.size()] == ',') return true;
  }
  return false;
}

bool is_converted(const Checkpoint& file) {
  return file.metadata.contains(key_processed) || file.metadata.contains(key_rescale);
}

Status mark_converted(Checkpoint& file) {
  if (const auto rescale = file.metadata.find(key_rescale); rescale != file.metadata.end()) {
    const std::string& text = rescale->second;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), file.rescale_every);
    if (error != std::errc{} || end != text.data() + text.size() || file.rescale_every < 0) {
      return file_fault(file.path,
                        std::string(key_rescale) + " is " + printable(text) + ", not a number of layers");
    }
  }
  const auto processed = file.metadata.find(key_processed);
  if (processed == file.metadata.end()) return {};
  std::string list(1, ',');
  list.append(processed->second).append(1, ',');
  for (TensorView& t : file.tensors) {
    t.processed = lists(list, kind_of(t.name));
  }
  return {};
}

}  // namespace

constinit const Layout layout_converted{"official, processed", is_converted, mark_converted};

std::map<std::string, std::string> converted_metadata(const Checkpoint& file) {
  std::map<std::string, std::string> metadata;
  if (file.rescale_every > 0) metadata[key_rescale] = std::to_string(file.rescale_every);
  std::vector<std::string> kinds;
  for (const TensorView& t : file.tensors) {
    if (t.processed) kinds.emplace_back(kind_of(t.name));
  }
  std::sort(kinds.begin(), kinds.end());
  kinds.erase(std::unique(kinds.begin(), kinds.end()), kinds.end());
  std::string list;
  for (const std::string& kind : kinds) list.append(list.empty() ? "" : ",").append(kind);
  if (!list.empty()) metadata[key_processed] = list;
  return metadata;
}

Status to_official_layout(Checkpoint& file) {
  const auto layout =
      std::find_if(layouts.begin(), layouts.end(), [&](const Layout* l) { return l->recognises(file); });
  if (layout == layouts.end()) return {};
  FR_OK((*layout)->apply(file));
  file.layout = (*layout)->name;
  return finish_checkpoint(file);  // names are unique still
}

}  // namespace fr
