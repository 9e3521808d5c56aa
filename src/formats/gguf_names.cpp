#include "formats/gguf_names.h"

#include <algorithm>
#include <array>

namespace fr::gguf {
namespace {

constexpr TensorName global[] = {
    {"emb.weight", "token_embd.weight", "VD", Form::same, Role::table},
    {"blocks.0.ln0.weight", "token_embd_norm.weight", "D", Form::same, Role::exact},
    {"blocks.0.ln0.bias", "token_embd_norm.bias", "D", Form::same, Role::exact},
    {"ln_out.weight", "output_norm.weight", "D", Form::same, Role::exact},
    {"ln_out.bias", "output_norm.bias", "D", Form::same, Role::exact},
    {"head.weight", "output.weight", "VD", Form::same, Role::table},
};

// m is known before M.
constexpr TensorName layer6[] = {
    {"ln1.weight", "attn_norm.weight", "D", Form::same, Role::exact},
    {"ln1.bias", "attn_norm.bias", "D", Form::same, Role::exact},
    {"att.time_maa_x", "time_mix_lerp_x.weight", "D", Form::vector, Role::exact},
    {"att.time_maa_w2", "time_mix_w2.weight", "5mD", Form::transposed, Role::exact},
    {"att.time_maa_w1", "time_mix_w1.weight", "DM", Form::transposed, Role::exact},
    {"att.time_faaaa", "time_mix_first.weight", "HN", Form::same, Role::exact},
    {"att.time_decay", "time_mix_decay.weight", "D", Form::vector, Role::exact},
    {"att.time_decay_w1", "time_mix_decay_w1.weight", "Dd", Form::transposed, Role::exact},
    {"att.time_decay_w2", "time_mix_decay_w2.weight", "dD", Form::transposed, Role::exact},
    {"att.receptance.weight", "time_mix_receptance.weight", "DD", Form::same, Role::matrix},
    {"att.key.weight", "time_mix_key.weight", "DD", Form::same, Role::matrix},
    {"att.value.weight", "time_mix_value.weight", "DD", Form::same, Role::matrix},
    {"att.gate.weight", "time_mix_gate.weight", "DD", Form::same, Role::matrix},
    {"att.output.weight", "time_mix_output.weight", "DD", Form::same, Role::matrix},
    {"att.ln_x.weight", "time_mix_ln.weight", "D", Form::same, Role::exact},
    {"att.ln_x.bias", "time_mix_ln.bias", "D", Form::same, Role::exact},
    {"ln2.weight", "attn_norm_2.weight", "D", Form::same, Role::exact},
    {"ln2.bias", "attn_norm_2.bias", "D", Form::same, Role::exact},
    {"ffn.time_maa_k", "channel_mix_lerp_k.weight", "D", Form::vector, Role::exact},
    {"ffn.time_maa_r", "channel_mix_lerp_r.weight", "D", Form::vector, Role::exact},
    {"ffn.key.weight", "channel_mix_key.weight", "FD", Form::same, Role::matrix},
    {"ffn.receptance.weight", "channel_mix_receptance.weight", "DD", Form::same, Role::matrix},
    {"ffn.value.weight", "channel_mix_value.weight", "DF", Form::same, Role::matrix},
};

// a0..a2 before v0..v2: layer 0 of a GGUF file has copies of them under these names.
constexpr TensorName layer7[] = {
    {"ln1.weight", "attn_norm.weight", "D", Form::same, Role::exact},
    {"ln1.bias", "attn_norm.bias", "D", Form::same, Role::exact},
    {"att.w0", "time_mix_w0.weight", "D", Form::vector, Role::exact},
    {"att.w1", "time_mix_w1.weight", "Dw", Form::transposed, Role::exact},
    {"att.w2", "time_mix_w2.weight", "wD", Form::transposed, Role::exact},
    {"att.a0", "time_mix_a0.weight", "D", Form::vector, Role::exact},
    {"att.a1", "time_mix_a1.weight", "Da", Form::transposed, Role::factor},
    {"att.a2", "time_mix_a2.weight", "aD", Form::transposed, Role::factor},
    {"att.v0", "time_mix_v0.weight", "D", Form::vector, Role::exact},
    {"att.v1", "time_mix_v1.weight", "Dv", Form::transposed, Role::factor},
    {"att.v2", "time_mix_v2.weight", "vD", Form::transposed, Role::factor},
    {"att.g1", "time_mix_g1.weight", "Dg", Form::transposed, Role::factor},
    {"att.g2", "time_mix_g2.weight", "gD", Form::transposed, Role::factor},
    {"att.k_k", "time_mix_k_k.weight", "D", Form::vector, Role::exact},
    {"att.k_a", "time_mix_k_a.weight", "D", Form::vector, Role::exact},
    {"att.r_k", "time_mix_r_k.weight", "HN", Form::flat, Role::exact},
    {"att.receptance.weight", "time_mix_receptance.weight", "DD", Form::same, Role::matrix},
    {"att.key.weight", "time_mix_key.weight", "DD", Form::same, Role::matrix},
    {"att.value.weight", "time_mix_value.weight", "DD", Form::same, Role::matrix},
    {"att.output.weight", "time_mix_output.weight", "DD", Form::same, Role::matrix},
    {"att.ln_x.weight", "time_mix_ln.weight", "D", Form::same, Role::exact},
    {"att.ln_x.bias", "time_mix_ln.bias", "D", Form::same, Role::exact},
    {"ln2.weight", "attn_norm_2.weight", "D", Form::same, Role::exact},
    {"ln2.bias", "attn_norm_2.bias", "D", Form::same, Role::exact},
    {"ffn.x_k", "channel_mix_lerp_k.weight", "D", Form::vector, Role::exact},
    {"ffn.key.weight", "channel_mix_key.weight", "FD", Form::same, Role::matrix},
    {"ffn.value.weight", "channel_mix_value.weight", "DF", Form::same, Role::matrix},
};

constexpr std::array architectures{
    Architecture{"rwkv6", global, layer6, "att.time_maa_", "wkvrg"},
    Architecture{"rwkv7", global, layer7, "att.x_", "rwkvag"},
};

}  // namespace

const Architecture* find_architecture(std::string_view name) {
  const auto found = std::find_if(architectures.begin(), architectures.end(),
                                  [&](const Architecture& a) { return a.name == name; });
  return found == architectures.end() ? nullptr : &*found;
}

}  // namespace fr::gguf
