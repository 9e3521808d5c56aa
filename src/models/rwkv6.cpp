// RWKV-6 (Finch, arXiv:2404.05892): as RWKV-5, with mixes and a decay that depend on the token.
#include "core/fused_wkv.h"
#include "models/trunk.h"

namespace fr {
namespace {

struct Layer {
  Norm ln1, ln_x;
  DataMix mix;  // w, k, v, r, g
  LowRank decay;
  Vec bonus;
  Mat key, value, receptance, gate, output;
  MatrixState state;
  GatedChannelMix channel_mix;
};

class Rwkv6 final : public Trunk {
 private:
  void configure_layers(Sizes& sizes) override {
    const int heads = sizes.of("blocks.0.att.time_faaaa", 0);
    set_heads(sizes, heads, sizes.of("blocks.0.att.receptance.weight", 0));
    info_.lora_ranks = {{"mix", sizes.of("blocks.0.att.time_maa_w2", 1)},
                        {"decay", sizes.of("blocks.0.att.time_decay_w1", 1)}};
    for (int i = 0; i < info_.n_layer; ++i) {
      Layer& l = layers_.emplace_back();
      l.state = add_matrix_state(i);
      l.channel_mix.previous = l.state.ffn_prev;
      l.decay.inner = Act::tanh;
      l.decay.outer = Act::decay6;
    }
  }

  void bind_layer(Binder& b, int layer) override {
    Layer& l = layers_[static_cast<std::size_t>(layer)];
    const int d = info_.n_embd, heads = info_.n_head, size = info_.head_size, att = heads * size;
    b.norm("ln1", l.ln1, d);
    b.vec("att.time_maa_x", l.mix.maa_x, 1, d);
    const int mix_rank = b.dim("att.time_maa_w2", 1);
    for (int i = 0; i < 5; ++i) {
      const auto part = static_cast<std::size_t>(i);
      b.vec(std::string("att.time_maa_") + "wkvrg"[i], l.mix.maa[part], 1, d);
      b.factor("att.time_maa_w2", l.mix.w2[part], mix_rank, d, i);
    }
    b.factor("att.time_maa_w1", l.mix.w1, d, 5 * mix_rank);
    const int decay_rank = b.dim("att.time_decay_w1", 1);
    b.factor("att.time_decay_w1", l.decay.down, d, decay_rank);
    b.factor("att.time_decay_w2", l.decay.up, decay_rank, att);
    b.vec("att.time_decay", l.decay.bias, 1, att);
    b.vec("att.time_faaaa", l.bonus, heads, size);
    b.mat("att.key", l.key, att, d);
    b.mat("att.value", l.value, att, d);
    b.mat("att.receptance", l.receptance, att, d);
    b.mat("att.gate", l.gate, att, d);
    b.mat("att.output", l.output, d, att);
    b.norm("att.ln_x", l.ln_x, att);
    l.channel_mix.bind(b, info_, "ffn.time_maa_", Transform::none);
  }

  void run_layer(Ops& op, Stream& stream, int layer) const override {
    const Layer& l = layers_[static_cast<std::size_t>(layer)];
    const auto [xw, xk, xv, xr, xg] = norm_data_mix5(op, stream.residual, l.ln1, l.state.att_prev, l.mix);
    const Tensor r = split_heads(op, op.linear(xr, l.receptance), info_.n_head);
    const Tensor w = split_heads(op, low_rank(op, xw, l.decay), info_.n_head);
    const Tensor k = split_heads(op, op.linear(xk, l.key), info_.n_head);
    const Tensor v = split_heads(op, op.linear(xv, l.value), info_.n_head);
    const Tensor gate = op.linear(xg, l.gate, Act::silu);
    const Tensor y = wkv6(op, l.state.kv, r, k, v, w, l.bonus);
    stream.residual.pending = op.linear(group_norm_gate(op, y, l.ln_x, gate), l.output);
    l.channel_mix.run(op, stream.residual);
  }

  std::vector<Layer> layers_;
};

}  // namespace

Result<std::unique_ptr<Model>> make_rwkv6(const Checkpoint& file, const std::string& version) {
  return make_version<Rwkv6>(file, version);
}

}  // namespace fr
