// web-rwkv's .st (github.com/cryscan/web-rwkv, its convert_safetensors.py): the official numbers in fp16 with
// time_faaaa called time_first, v6's time_maa called time_mix, and low-rank factors and time_state with their
// last two axes swapped. RWKV-5.1's decay and bonus are repeated to [H, N], as in 5.2.
#include <algorithm>
#include <array>
#include <optional>

#include "formats/layout.h"
#include "formats/layout_names.h"

namespace fr {
namespace {

// The first factors of low-rank matrices, officially [D, rank].
constexpr std::array first_factors{"att.time_mix_w1", "att.time_decay_w1", "att.w1", "att.a1", "att.g1",
                                   "att.v1"};
constexpr std::array<std::string_view, 13> swapped{"att.time_mix_w1",
                                                   "att.time_mix_w2",
                                                   "att.time_decay_w1",
                                                   "att.time_decay_w2",
                                                   "att.time_state",
                                                   "att.w1",
                                                   "att.w2",
                                                   "att.a1",
                                                   "att.a2",
                                                   "att.g1",
                                                   "att.g2",
                                                   "att.v1",
                                                   "att.v2"};

// Whether the factors are stored [rank, D]: some converters swapped v6's twice. Nothing: no factor tells.
std::optional<bool> factors_are_swapped(const Checkpoint& file) {
  const TensorView* emb = file.find("emb.weight");
  if (emb == nullptr || emb->shape.size() != 2) return std::nullopt;
  const std::int64_t width = emb->shape[1];
  for (const char* block : {"blocks.0.", "blocks.1."}) {
    for (const char* name : first_factors) {
      const TensorView* t = file.find(std::string(block) + name);
      if (t == nullptr || t->shape.size() != 2 || t->shape[0] == t->shape[1]) continue;
      if (t->shape[0] == width || t->shape[1] == width) return t->shape[1] == width;
    }
  }
  return std::nullopt;
}

// The bonus of v5 with a number for each channel is officially called time_faaaa.
bool renamed_bonus(const Checkpoint& file) {
  const TensorView* bonus = file.find("blocks.0.att.time_first");
  return bonus != nullptr && bonus->shape.size() == 2 && bonus->shape[1] > 1 &&
         file.find("blocks.0.att.ln_x.weight") != nullptr;
}

bool recognises(const Checkpoint& file) {
  if (file.format != "safetensors") return false;
  if (file.find("blocks.0.att.time_mix_w1") != nullptr || renamed_bonus(file)) return true;
  return file.find("blocks.0.att.r_k") != nullptr && factors_are_swapped(file).value_or(false);
}

Status apply(Checkpoint& file) {
  const bool v6 = file.find("blocks.0.att.time_mix_w1") != nullptr, bonus = v6 || renamed_bonus(file);
  const bool swap = factors_are_swapped(file).value_or(true);
  for (TensorView& t : file.tensors) {
    const auto layer = layer_name(t.name, "blocks.");
    if (!layer) continue;
    const std::string name(layer->rest);
    if (swap && std::find(swapped.begin(), swapped.end(), name) != swapped.end())
      FR_OK(swap_axes(t, file.path));
    if (bonus && name == "att.time_first") t.name.replace(t.name.size() - 5, 5, "faaaa");
    const std::size_t mix = v6 ? t.name.find(".time_mix_") : t.name.npos;
    if (mix != t.name.npos) t.name.replace(mix, 10, ".time_maa_");
  }
  file.index();
  return {};
}

}  // namespace

constinit const Layout layout_web_rwkv{"web-rwkv", recognises, apply};

}  // namespace fr
