// RWKV-5 (Eagle, arXiv:2404.05892): a matrix state per head with a constant decay. 5.0 has no gate; 5.0
// and 5.1 have one decay and one bonus per head, 5.2 one per channel.
#include "core/fused_wkv.h"
#include "models/trunk.h"

namespace fr {
namespace {

struct Layer {
  Norm ln1, ln_x;
  Mixes<3> mix;        // k, v, r
  Mixes<4> gated_mix;  // k, v, r, g
  Vec decay, bonus;
  Mat key, value, receptance, gate, output;
  MatrixState state;
  GatedChannelMix channel_mix;
};

class Rwkv5 final : public Trunk {
 private:
  void configure_layers(Sizes& sizes) override {
    set_heads(sizes, sizes.of("blocks.0.att.time_decay", 0), sizes.of("blocks.0.att.receptance.weight", 0));
    gated_ = info_.version != "5.0";
    for (int i = 0; i < info_.n_layer; ++i) {
      Layer& l = layers_.emplace_back();
      l.state = add_matrix_state(i);
      l.channel_mix.previous = l.state.ffn_prev;
    }
  }

  void bind_layer(Binder& b, int layer) override {
    Layer& l = layers_[static_cast<std::size_t>(layer)];
    const int d = info_.n_embd, heads = info_.n_head, size = info_.head_size, att = heads * size;
    b.norm("ln1", l.ln1, d);
    b.vec("att.time_mix_k", l.mix[0], 1, d, Transform::one_minus);
    b.vec("att.time_mix_v", l.mix[1], 1, d, Transform::one_minus);
    b.vec("att.time_mix_r", l.mix[2], 1, d, Transform::one_minus);
    b.mat("att.key", l.key, att, d);
    b.mat("att.value", l.value, att, d);
    b.mat("att.receptance", l.receptance, att, d);
    b.mat("att.output", l.output, d, att);
    if (gated_) {
      l.gated_mix = {l.mix[0], l.mix[1], l.mix[2], {}};
      b.vec("att.time_mix_g", l.gated_mix[3], 1, d, Transform::one_minus);
      b.mat("att.gate", l.gate, att, d);
    }
    b.head_vec("att.time_decay", l.decay, heads, size, Transform::exp_neg_exp);
    bind_bonus(b, l.bonus);
    b.norm("att.ln_x", l.ln_x, att);
    l.channel_mix.bind(b, info_, "ffn.time_mix_", Transform::one_minus);
  }

  // time_faaaa is the bonus itself; time_first its logarithm, but per channel it is a renamed time_faaaa.
  void bind_bonus(Binder& b, Vec& bonus) const {
    if (b.has("att.time_faaaa")) return b.head_vec("att.time_faaaa", bonus, info_.n_head, info_.head_size);
    const bool per_channel = b.dim("att.time_first", 1) > 1;
    b.head_vec("att.time_first", bonus, info_.n_head, info_.head_size,
               per_channel ? Transform::none : Transform::exp);
  }

  void run_layer(Ops& op, Stream& stream, int layer) const override {
    const Layer& l = layers_[static_cast<std::size_t>(layer)];
    Tensor xk, xv, xr, gate;
    if (gated_) {
      const auto [k, v, r, g] = norm_mix4(op, stream.residual, l.ln1, l.state.att_prev, l.gated_mix);
      xk = k, xv = v, xr = r, gate = op.linear(g, l.gate, Act::silu);
    } else {
      const auto [k, v, r] = norm_mix3(op, stream.residual, l.ln1, l.state.att_prev, l.mix);
      xk = k, xv = v, xr = r;
    }
    const Tensor r = split_heads(op, op.linear(xr, l.receptance), info_.n_head);
    const Tensor k = split_heads(op, op.linear(xk, l.key), info_.n_head);
    const Tensor v = split_heads(op, op.linear(xv, l.value), info_.n_head);
    const Tensor y = wkv5(op, l.state.kv, r, k, v, l.decay, l.bonus);
    stream.residual.pending = op.linear(group_norm_gate(op, y, l.ln_x, gate), l.output);
    l.channel_mix.run(op, stream.residual);
  }

  bool gated_ = true;
  std::vector<Layer> layers_;
};

}  // namespace

Result<std::unique_ptr<Model>> make_rwkv5(const Checkpoint& file, const std::string& version) {
  return make_version<Rwkv5>(file, version);
}

}  // namespace fr
