// rwkv.cpp's .bin (github.com/RWKV/rwkv.cpp, python/convert_pytorch_to_ggml.py): official names; v4's decay
// is -exp(x), v5's exp(-exp(x)), v5's time_first exp'ed; low-rank factors have their last two axes swapped;
// v7's six mixes are one tensor.
#include <algorithm>
#include <array>

#include "formats/layout.h"
#include "formats/layout_names.h"

namespace fr {
namespace {

bool recognises(const Checkpoint& file) { return file.format == "rwkv.cpp"; }

int version_of(const Checkpoint& file) {
  const auto has = [&](const char* name) {
    return file.find(std::string("blocks.0.att.") + name) != nullptr;
  };
  return has("r_k") ? 7 : has("time_maa_x") ? 6 : has("ln_x.weight") ? 5 : 4;
}

bool is_factor(std::string_view name, int version) {
  constexpr std::array<std::string_view, 4> six{"att.time_maa_w1", "att.time_maa_w2", "att.time_decay_w1",
                                                "att.time_decay_w2"};
  constexpr std::array<std::string_view, 8> seven{"att.w1", "att.w2", "att.a1", "att.a2",
                                                  "att.v1", "att.v2", "att.g1", "att.g2"};
  return (version == 6 && std::find(six.begin(), six.end(), name) != six.end()) ||
         (version == 7 && std::find(seven.begin(), seven.end(), name) != seven.end());
}

// One tensor of a layer, without the mixes; `name` is what follows "blocks.N.".
Status restore(TensorView& t, std::string_view name, int version, const std::string& path) {
  if (is_factor(name, version)) return swap_axes(t, path);
  if (name == "att.time_faaaa") return drop_last_ones(t, path);
  if (name == "att.time_decay") {
    if (version == 6) return reshape(t, {1, 1, t.size()}, path);
    t.processed = true;
    return drop_last_ones(t, path);
  }
  if (name == "att.time_first" && version == 5) {
    t.processed = true;
    return drop_last_ones(t, path);
  }
  return {};
}

Status apply(Checkpoint& file) {
  const int version = version_of(file);
  std::vector<TensorView> tensors;
  tensors.reserve(file.tensors.size());
  for (TensorView& t : file.tensors) {
    const auto layer = layer_name(t.name, "blocks.");
    if (layer && layer->rest == "att.x_rwkvag") {
      const std::string stem = std::string("blocks.").append(layer->layer) + ".att.x_";
      FR_OK(split_mixes(t, stem, tensors, file.path));
      continue;
    }
    if (layer) FR_OK(restore(t, std::string(layer->rest), version, file.path));
    tensors.push_back(std::move(t));
  }
  file.tensors = std::move(tensors);
  if (version == 5) {
    file.notes.push_back(
        "rwkv.cpp runs this file with a group norm epsilon of 1e-5; the official 64e-5 is used");
  }
  file.index();
  return {};
}

}  // namespace

constinit const Layout layout_rwkv_cpp{"rwkv.cpp", recognises, apply};

}  // namespace fr
