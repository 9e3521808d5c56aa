// Which RWKV version a file holds, by set checks on tensor names and shapes, and what else it may be.
#include <algorithm>
#include <array>
#include <cmath>

#include "models/trunk.h"

namespace fr {
namespace {

using Maker = Result<std::unique_ptr<Model>> (*)(const Checkpoint&, const std::string& version);
struct Version {
  std::string_view name;
  Maker make;
};
constexpr std::array versions{Version{"4", &make_rwkv4},   Version{"5.0", &make_rwkv5},
                              Version{"5.1", &make_rwkv5}, Version{"5.2", &make_rwkv5},
                              Version{"6", &make_rwkv6},   Version{"7", &make_rwkv7}};

constexpr std::string_view time_state = ".att.time_state";
std::string time_state_name(int layer) { return "blocks." + std::to_string(layer) + std::string(time_state); }

bool any_name(const Checkpoint& file, std::string_view part) {
  return std::any_of(file.tensors.begin(), file.tensors.end(),
                     [&](const TensorView& t) { return t.name.find(part) != std::string::npos; });
}
bool has(const Checkpoint& file, std::string_view name) { return file.find(name) != nullptr; }

// A part of a tensor name that gives a file away.
struct Mark {
  std::string_view part;
  std::string_view what;
};

// Files that have to do with RWKV and cannot be run as they are.
constexpr std::array rwkv_relatives{
    Mark{"exp_avg", "an optimizer state of a training run"},
    Mark{"module.blocks.", "a training checkpoint with wrapped names"},
    Mark{"module.emb.weight", "a training checkpoint with wrapped names"},
    Mark{"rosa", "an RWKV-8 (ROSA) model, which is not supported"},
    Mark{".qkv.qq", "an RWKV-7b (DeepEmbed with attention) model, which is not supported"},
    Mark{"ffn.s_emb", "an RWKV-7a (DeepEmbed) model, which is not supported"},
    Mark{".tiny_", "an RWKV-4 model with tiny attention, which is not supported"},
};
constexpr std::array other_models{
    Mark{"self_attn.q_proj", "a LLaMA-type transformer"},
    Mark{"self_attn.qkv_proj", "a LLaMA-type transformer"},
    Mark{"self_attn.", "a transformer"},
    Mark{".attention.wq", "a LLaMA-type transformer"},
    Mark{"gpt_neox.", "a GPT-NeoX transformer"},
    Mark{"transformer.h.", "a GPT-type transformer"},
    Mark{"encoder.layer.", "a BERT-type transformer"},
    Mark{".mixer.", "a Mamba model"},
    Mark{".attn.", "a transformer"},
    Mark{".attention.", "a transformer"},
};

template <std::size_t N>
const Mark* find_mark(const Checkpoint& file, const std::array<Mark, N>& marks) {
  const auto found =
      std::find_if(marks.begin(), marks.end(), [&](const Mark& m) { return any_name(file, m.part); });
  return found == marks.end() ? nullptr : &*found;
}

Error refusal(const Checkpoint& file, std::string_view what, const std::string& what_to_do) {
  return file_error("this is " + std::string(what) + " (" + file.path + "): " + what_to_do);
}
// Files with RWKV in them that this program does not run.
Status refuse_relatives(const Checkpoint& file) {
  const bool rwkv_words =
      any_name(file, "receptance") || any_name(file, ".r_k") || any_name(file, "time_decay");
  const bool attention = any_name(file, "self_attn.") || any_name(file, "q_proj");
  if (rwkv_words && attention) {
    return refusal(file, "a hybrid of RWKV and attention, which is not supported",
                   "use a plain RWKV-4 to RWKV-7 model");
  }
  if (any_name(file, ".lora_A")) {
    return refusal(file, "a LoRA adapter, not merged into its model",
                   "frwkv convert MODEL OUT --lora FILE:ALPHA merges it");
  }
  if (const Mark* m = find_mark(file, rwkv_relatives)) {
    return refusal(file, m->what, "use a plain RWKV-4 to RWKV-7 model");
  }
  return {};
}

std::string some_names(const Checkpoint& file) {
  std::vector<std::string> names;
  for (const TensorView& t : file.tensors) names.push_back(t.name);
  return name_list(names, 3);
}

Status refuse_strangers(const Checkpoint& file) {
  if (file.tensors.empty()) return refusal(file, "a file without tensors", "give an RWKV model");
  if (std::all_of(file.tensors.begin(), file.tensors.end(),
                  [](const TensorView& t) { return t.name.ends_with(time_state); })) {
    return refusal(file, "a tuned initial state, not a model",
                   "give the model it was tuned for, and this as its state");
  }
  if (const Mark* m = find_mark(file, other_models)) return refusal(file, m->what, "give an RWKV model");
  if (!has(file, "emb.weight") || !any_name(file, "blocks.0.")) {
    return file_error("no RWKV model, its tensors are " + some_names(file) + " (" + file.path +
                      "): give an RWKV model");
  }
  return {};
}

Result<std::string> recognise(const Checkpoint& file) {
  FR_OK(refuse_relatives(file));
  FR_OK(refuse_strangers(file));
  if (has(file, "blocks.0.att.r_k")) return std::string("7");
  // Only converters drop ln0 here, and they change other weights too (the decay above all).
  if (!has(file, "blocks.0.ln0.weight") && !file.find("emb.weight")->processed) {
    return refusal(file, "RWKV converted by another program (blocks.0.ln0.weight is missing)",
                   "this layout is not known, give the original .pth");
  }
  if (any_name(file, ".att.time_maa_x")) return std::string("6");
  if (any_name(file, ".att.ln_x.weight")) {
    if (!any_name(file, ".att.gate.weight")) return std::string("5.0");
    const TensorView* decay = file.find("blocks.0.att.time_decay");
    const bool per_channel = decay != nullptr && !decay->shape.empty() && decay->shape[0] != decay->size();
    return std::string(per_channel ? "5.2" : "5.1");
  }
  if (any_name(file, ".att.time_decay")) return std::string("4");
  return file_error("no RWKV version has these tensors: " + some_names(file) + " (" + file.path +
                    "): give a plain RWKV-4 to RWKV-7 model");
}

// A tuned state has exactly one matrix of the right shape for each layer.
Status check_tuned_state(const Checkpoint& file, const ModelInfo& info) {
  const auto wrong = [&](const std::string& what) {
    return file_error(what + " (" + file.path + "): give a state that was tuned for this model");
  };
  if (info.version == "4") return wrong("RWKV-4 has no tuned states");
  const TensorView expected{{}, DType::f32, {info.n_head, info.head_size, info.head_size}, {}, nullptr};
  for (int layer = 0; layer < info.n_layer; ++layer) {
    const std::string name = time_state_name(layer);
    const TensorView* t = file.find(name);
    if (t == nullptr) return wrong("tensor " + name + " is missing");
    if (t->shape != expected.shape || !is_float_dtype(t->dtype) || t->shares_elements()) {
      return wrong("tensor " + name + ": expected " + expected.shape_string() +
                   " of fp32, fp16 or bf16, found " + t->shape_string() + " of " +
                   std::string(dtype_name(t->dtype)));
    }
  }
  const std::string beyond = time_state_name(info.n_layer);
  if (has(file, beyond)) return wrong("tensor " + beyond + " is one layer too many");
  return {};
}

}  // namespace

Result<std::unique_ptr<Model>> make_model(const Checkpoint& file) {
  FR_TRY(const std::string name, recognise(file));
  const auto version =
      std::find_if(versions.begin(), versions.end(), [&](const Version& v) { return v.name == name; });
  FR_CHECK(version != versions.end());
  return version->make(file, name);
}

Result<std::vector<float>> tuned_state(const Checkpoint& file, const ModelInfo& info, const StateSpec& spec) {
  if (!any_name(file, time_state)) return std::vector<float>{};
  FR_OK(check_tuned_state(file, info));
  std::vector<float> state(static_cast<std::size_t>(spec.size));
  for (const StateBlock& block : spec.blocks) {
    const std::span values(state.data() + block.offset, static_cast<std::size_t>(block.size));
    std::fill(values.begin(), values.end(), block.initial);
    if (!block.name.ends_with(".att.kv")) continue;
    TensorView view = *file.find(time_state_name(block.layer));
    if (info.version != "7") std::swap(view.stride[1], view.stride[2]);
    view.read(0, values);
    if (!std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); })) {
      return file_error("tensor " + view.name + " holds NaN or infinity (" + file.path +
                        "): give a state that was tuned for this model");
    }
  }
  return state;
}

}  // namespace fr
