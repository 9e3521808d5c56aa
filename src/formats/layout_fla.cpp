// RWKV-7 as flash-linear-attention names it on Hugging Face (github.com/fla-org/flash-linear-attention,
// utils/convert_from_rwkv7.py): "model.layers.N.attn.*"; each low-rank pair is two linear layers, the first
// without a bias. Older files have the six mixes in one tensor x_x, in the order r, w, k, v, a, g.
#include <array>
#include <cmath>
#include <cstdlib>

#include "formats/layout.h"
#include "formats/layout_names.h"
#include "formats/reader.h"

namespace fr {
namespace {

using Rename = std::pair<std::string_view, std::string_view>;

constexpr std::array outside{Rename{"model.embeddings.", "emb."}, Rename{"model.norm.", "ln_out."},
                             Rename{"lm_head.", "head."}};
constexpr std::array inside{Rename{"pre_norm.", "ln0."},
                            Rename{"attn_norm.", "ln1."},
                            Rename{"ffn_norm.", "ln2."},
                            Rename{"attn.r_proj.", "att.receptance."},
                            Rename{"attn.k_proj.", "att.key."},
                            Rename{"attn.v_proj.", "att.value."},
                            Rename{"attn.o_proj.", "att.output."},
                            Rename{"attn.g_norm.", "att.ln_x."},
                            Rename{"attn.", "att."}};

bool recognises(const Checkpoint& file) {
  return file.find("model.layers.0.attn.r_k") != nullptr || file.find("model.layers.0.attn.bonus") != nullptr;
}

// "att.w_lora.lora.2.bias" is att.w0; "0.weight" att.w1 and "2.weight" att.w2, both swapped. False: another
// name.
bool rename_factor(std::string& name, bool& swapped) {
  constexpr std::string_view start = "att.", middle = "_lora.lora.";
  const std::size_t letter = start.size();
  if (!name.starts_with(start) || name.compare(letter + 1, middle.size(), middle) != 0) return false;
  const std::string end = name.substr(letter + 1 + middle.size());
  const char digit = end == "2.bias" ? '0' : end == "0.weight" ? '1' : end == "2.weight" ? '2' : '\0';
  if (digit == '\0') return false;
  name.replace(letter + 1, name.npos, 1, digit);
  swapped = digit != '0';
  return true;
}

Status rename_tensor(TensorView t, std::vector<TensorView>& out, const std::string& path) {
  const auto layer = layer_name(t.name, "model.layers.");
  if (!layer) {
    rename_start(t.name, outside);
    out.push_back(std::move(t));
    return {};
  }
  std::string block = "blocks.", rest(layer->rest);
  block.append(layer->layer).append(1, '.');
  rename_start(rest, inside);
  if (rest == "att.x_x") return split_mixes(t, block + "att.x_", out, path);
  bool swapped = false;
  rename_factor(rest, swapped);
  t.name = block + rest;
  if (swapped) FR_OK(swap_axes(t, path));
  out.push_back(std::move(t));
  return {};
}

// The library normalises groups with head size times norm_eps.
void note_epsilon(Checkpoint& file) {
  const TensorView* r_k = file.find("blocks.0.att.r_k");
  const auto found = file.metadata.find("config.norm_eps");
  const double norm_eps = found == file.metadata.end() ? 1e-5 : std::strtod(found->second.c_str(), nullptr);
  if (r_k == nullptr || r_k->shape.size() != 2) return;
  const double epsilon = norm_eps * static_cast<double>(r_k->shape[1]);
  if (std::abs(epsilon - 64e-5) < 1e-9) return;
  file.notes.push_back(
      "flash-linear-attention has another group norm epsilon here than the official 64e-5, "
      "which is used");
}

Status apply(Checkpoint& file) {
  if (file.find("model.layers.0.attn.bonus") != nullptr) {
    return file_fault(file.path,
                      "this is an RWKV-6 model in flash-linear-attention's layout, which is not read",
                      "give the official .pth of the model");
  }
  std::vector<TensorView> tensors;
  tensors.reserve(file.tensors.size());
  for (const TensorView& t : file.tensors) FR_OK(rename_tensor(t, tensors, file.path));
  file.tensors = std::move(tensors);
  tie_head(file);
  file.index();
  note_epsilon(file);
  return {};
}

}  // namespace

constinit const Layout layout_fla{"fla", recognises, apply};

}  // namespace fr
