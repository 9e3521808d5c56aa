// RWKV-7 (Goose, arXiv:2503.14456): a generalised delta rule; the state erases along one direction per token,
// and values of later layers mix with those of the first.
#include "core/fused_wkv.h"
#include "models/trunk.h"

namespace fr {
namespace {

struct Layer {
  Norm ln1, ln_x, ln2;
  Mixes<6> mix;  // r, w, k, v, a, g
  Vec k_k, k_a, r_k;
  Mat receptance, key, value, output;
  LowRank w, a, v, g;  // decay, in-context learning rate, value residual (not in layer 0), gate
  Mixes<1> ffn_mix;
  Mat ffn_key, ffn_value;
  MatrixState state;
};

class Rwkv7 final : public Trunk {
 public:
  bool has_v_first() const override { return true; }

 private:
  void configure_layers(Sizes& sizes) override {
    const int heads = sizes.of("blocks.0.att.r_k", 0), size = sizes.of("blocks.0.att.r_k", 1);
    sizes.require(std::int64_t{heads} * size == info_.n_embd,
                  "tensor blocks.0.att.r_k is [" + std::to_string(heads) + ", " + std::to_string(size) +
                      "], expected heads times head size to be the embedding width " +
                      std::to_string(info_.n_embd));
    set_heads(sizes, heads, info_.n_embd);
    read_ranks(sizes);
    for (int i = 0; i < info_.n_layer; ++i) layers_.emplace_back().state = add_matrix_state(i);
  }

  // For ModelInfo; the weights are read with each layer's own ranks.
  void read_ranks(Sizes& sizes) {
    if (sizes.has("blocks.0.att.v1"))
      info_.notes.push_back("layer 0 has a value residual (v0, v1, v2), not used");
    for (const std::string name : {"w", "a", "v", "g"}) {
      const int first = name == "v" ? 1 : 0;
      if (first >= info_.n_layer) continue;
      const auto rank = [&](int layer) {
        return sizes.of("blocks." + std::to_string(layer) + ".att." + name + "1", 1);
      };
      info_.lora_ranks.emplace_back(name, rank(first));
      for (int i = first + 1; i < info_.n_layer; ++i) {
        if (rank(i) == rank(first)) continue;
        info_.notes.push_back("the low-rank size of " + name + " differs between layers");
        break;
      }
    }
  }

  // "att.<name>1" [D, rank], "att.<name>2" [rank, D], "att.<name>0" [D].
  void bind_low_rank(Binder& b, const std::string& name, LowRank& m, Act inner, Act outer,
                     bool bias = true) const {
    const int d = info_.n_embd, rank = b.dim("att." + name + "1", 1);
    b.factor("att." + name + "1", m.down, d, rank);
    b.factor("att." + name + "2", m.up, rank, d);
    if (bias) b.vec("att." + name + "0", m.bias, 1, d);
    m.inner = inner;
    m.outer = outer;
  }

  void bind_layer(Binder& b, int layer) override {
    Layer& l = layers_[static_cast<std::size_t>(layer)];
    const int d = info_.n_embd, heads = info_.n_head, size = info_.head_size;
    b.norm("ln1", l.ln1, d);
    for (int i = 0; i < 6; ++i)
      b.vec(std::string("att.x_") + "rwkvag"[i], l.mix[static_cast<std::size_t>(i)], 1, d);
    bind_low_rank(b, "w", l.w, Act::tanh, Act::decay7);
    bind_low_rank(b, "a", l.a, Act::none, Act::sigmoid);
    bind_low_rank(b, "g", l.g, Act::sigmoid, Act::none, false);
    if (layer > 0) {
      bind_low_rank(b, "v", l.v, Act::none, Act::sigmoid);
    } else {  // the training code writes them, nothing reads them
      for (const char* name : {"att.v0", "att.v1", "att.v2"}) b.ignore(name);
    }
    b.vec("att.k_k", l.k_k, heads, size);
    b.vec("att.k_a", l.k_a, heads, size);
    b.vec("att.r_k", l.r_k, heads, size);
    b.mat("att.receptance", l.receptance, d, d);
    b.mat("att.key", l.key, d, d);
    b.mat("att.value", l.value, d, d);
    b.mat("att.output", l.output, d, d);
    b.norm("att.ln_x", l.ln_x, d);
    b.norm("ln2", l.ln2, d);
    b.vec("ffn.x_k", l.ffn_mix[0], 1, d);
    b.mat("ffn.key", l.ffn_key, info_.n_ffn, d);
    b.mat("ffn.value", l.ffn_value, d, info_.n_ffn, MatRole::sparse_input);
  }

  void run_layer(Ops& op, Stream& stream, int layer) const override {
    const Layer& l = layers_[static_cast<std::size_t>(layer)];
    const int heads = info_.n_head;
    const auto [xr, xw, xk, xv, xa, xg] = norm_mix6(op, stream.residual, l.ln1, l.state.att_prev, l.mix);
    const Tensor r = split_heads(op, op.linear(xr, l.receptance), heads);
    const Tensor w = split_heads(op, low_rank(op, xw, l.w), heads);
    const Tensor k = split_heads(op, op.linear(xk, l.key), heads);
    Tensor v = op.linear(xv, l.value);
    const Tensor a = split_heads(op, low_rank(op, xa, l.a), heads);
    const Tensor gate = low_rank(op, xg, l.g);
    if (layer == 0) {
      stream.v_first = v;
    } else {
      v = lerp(op, v, stream.v_first, low_rank(op, xv, l.v));
    }
    v = split_heads(op, v, heads);
    const Wkv7Keys keys = wkv7_keys(op, k, a, l.k_k, l.k_a);
    const Tensor y = wkv7(op, l.state.kv, r, w, keys.key, v, keys.erase, keys.write);
    stream.residual.pending = op.linear(wkv7_out(op, y, r, keys.key, v, gate, l.ln_x, l.r_k), l.output);

    const auto [xf] = norm_mix1(op, stream.residual, l.ln2, l.state.ffn_prev, l.ffn_mix);
    stream.residual.pending = channel_mix(op, xf, l.ffn_key, l.ffn_value);
  }

  std::vector<Layer> layers_;
};

}  // namespace

Result<std::unique_ptr<Model>> make_rwkv7(const Checkpoint& file, const std::string& version) {
  return make_version<Rwkv7>(file, version);
}

}  // namespace fr
