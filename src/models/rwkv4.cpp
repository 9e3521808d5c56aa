// RWKV-4 (Dove, arXiv:2305.13048): a scalar recurrence per channel, computed with a running maximum.
#include "core/fused_wkv.h"
#include "models/trunk.h"

namespace fr {
namespace {

struct Layer {
  Norm ln1;
  Mixes<3> mix;  // k, v, r
  Vec decay, bonus;
  Mat key, value, receptance, output;
  StateRef previous;
  Wkv4State wkv;
  GatedChannelMix channel_mix;
};

class Rwkv4 final : public Trunk {
 private:
  void configure_layers(Sizes& sizes) override {
    att_ = sizes.of("blocks.0.att.key.weight", 0);
    for (int i = 0; i < info_.n_layer; ++i) {
      const std::string block = "blocks." + std::to_string(i) + ".";
      Layer& l = layers_.emplace_back();
      l.previous = state_.add(block + "att.x_prev", i, {info_.n_embd});
      l.wkv.aa = state_.add(block + "att.aa", i, {att_});
      l.wkv.bb = state_.add(block + "att.bb", i, {att_});
      l.wkv.pp = state_.add(block + "att.pp", i, {att_}, -1e30f);
      l.channel_mix.previous = state_.add(block + "ffn.x_prev", i, {info_.n_embd});
    }
  }

  void bind_layer(Binder& b, int layer) override {
    Layer& l = layers_[static_cast<std::size_t>(layer)];
    const int d = info_.n_embd;
    b.norm("ln1", l.ln1, d);
    b.vec("att.time_mix_k", l.mix[0], 1, d, Transform::one_minus);
    b.vec("att.time_mix_v", l.mix[1], 1, d, Transform::one_minus);
    b.vec("att.time_mix_r", l.mix[2], 1, d, Transform::one_minus);
    b.vec("att.time_decay", l.decay, 1, att_, Transform::neg_exp);
    b.vec("att.time_first", l.bonus, 1, att_);
    b.mat("att.key", l.key, att_, d);
    b.mat("att.value", l.value, att_, d);
    b.mat("att.receptance", l.receptance, att_, d);
    b.mat("att.output", l.output, d, att_);
    l.channel_mix.bind(b, info_, "ffn.time_mix_", Transform::one_minus);
  }

  void run_layer(Ops& op, Stream& stream, int layer) const override {
    const Layer& l = layers_[static_cast<std::size_t>(layer)];
    const auto [xk, xv, xr] = norm_mix3(op, stream.residual, l.ln1, l.previous, l.mix);
    const Tensor r = op.linear(xr, l.receptance, Act::sigmoid);
    const Tensor k = op.linear(xk, l.key);
    const Tensor v = op.linear(xv, l.value);
    const Tensor y = wkv4(op, l.wkv, k, v, l.decay, l.bonus);
    stream.residual.pending = op.linear(mul(op, r, y), l.output);
    l.channel_mix.run(op, stream.residual);
  }

  int att_ = 0;  // width of the time mix
  std::vector<Layer> layers_;
};

}  // namespace

Result<std::unique_ptr<Model>> make_rwkv4(const Checkpoint& file, const std::string& version) {
  return make_version<Rwkv4>(file, version);
}

}  // namespace fr
