// RWKV as Hugging Face's transformers names it. RWKV-7 (Rwkv7ForCausalLM) has the official names behind a
// prefix; RWKV-4 (RwkvForCausalLM) and its 5 and 6 relatives spell some of them out. Weights are as trained:
// these programs rescale after loading.
#include <algorithm>
#include <array>

#include "formats/layout.h"
#include "formats/layout_names.h"

namespace fr {
namespace {

using Rename = std::pair<std::string_view, std::string_view>;

constexpr std::array prefixes{Rename{"rwkv7.", ""}, Rename{"model.", ""}, Rename{"rwkv.", ""}};
constexpr std::array outside{Rename{"embeddings.", "emb."}};
constexpr std::array inside{Rename{"pre_ln.", "ln0."}, Rename{"attention.", "att."},
                            Rename{"feed_forward.", "ffn."}};
// What follows "att." or "ffn.".
constexpr std::array mixes{Rename{"time_mix_key", "time_mix_k"}, Rename{"time_mix_value", "time_mix_v"},
                           Rename{"time_mix_receptance", "time_mix_r"},
                           Rename{"time_mix_gate", "time_mix_g"}};

bool recognises(const Checkpoint& file) {
  return file.find("rwkv7.blocks.0.att.r_k") != nullptr || file.find("model.blocks.0.att.r_k") != nullptr ||
         file.find("rwkv.blocks.0.attention.time_decay") != nullptr;
}

std::string official_name(std::string name) {
  rename_start(name, prefixes);
  const auto layer = layer_name(name, "blocks.");
  if (!layer) {
    rename_start(name, outside);
    return name;
  }
  std::string rest(layer->rest);
  rename_start(rest, inside);
  std::string mix = rest.substr(std::min<std::size_t>(rest.size(), 4));
  if (rename_start(mix, mixes)) rest.replace(4, rest.npos, mix);
  return std::string("blocks.").append(layer->layer).append(1, '.').append(rest);
}

Status apply(Checkpoint& file) {
  for (TensorView& t : file.tensors) t.name = official_name(std::move(t.name));
  tie_head(file);
  file.index();
  return {};
}

}  // namespace

constinit const Layout layout_transformers{"transformers", recognises, apply};

}  // namespace fr
