// What all versions share around their layers: embedding and ln0, ln_out and head; sizes read off tensor
// shapes.
#pragma once
#include <memory>
#include <string>
#include <utility>

#include "core/fused_linear.h"
#include "core/fused_mix.h"
#include "models/model.h"

namespace fr {

// Reads sizes off the shapes of a file; the first problem is kept, so that a version can read all it needs
// and then ask once.
class Sizes {
 public:
  explicit Sizes(const Checkpoint& file) : file_(file) {}
  const Checkpoint& file() const { return file_; }
  bool has(const std::string& name) const { return file_.find(name) != nullptr; }
  // Size of one axis (1 to 2^22); 1 and an error when the tensor or the axis is missing.
  int of(const std::string& name, std::size_t axis);
  void require(bool condition, const std::string& what);
  const Status& status() const { return status_; }

 private:
  const Checkpoint& file_;
  Status status_;
};

// State blocks of one layer in v5 to v7: "att.x_prev", "att.kv", "ffn.x_prev".
struct MatrixState {
  StateRef att_prev, kv, ffn_prev;
};

class Trunk : public Model {
 public:
  // Reads all sizes and declares the state. Call before anything else.
  Status configure(const Checkpoint& file, const std::string& version);

  void bind(Binder& b) final;
  Stream embed(Ops& op) const final;
  void layers(Ops& op, Stream& stream, int begin, int end) const final;
  Tensor hidden(Ops& op, Stream& stream) const final;
  Tensor logits(Ops& op, Tensor hidden) const final { return op.linear(hidden, head_); }

 protected:
  // The version's part: sizes of the time mix and the state blocks of all layers; weights; one layer's
  // forward pass.
  virtual void configure_layers(Sizes& sizes) = 0;
  virtual void bind_layer(Binder& b, int layer) = 0;
  virtual void run_layer(Ops& op, Stream& stream, int layer) const = 0;

  MatrixState add_matrix_state(int layer);
  // Sets n_head and head_size; att is their product, the width of the time mix.
  void set_heads(Sizes& sizes, int heads, int att);

 private:
  Mat emb_, head_;
  Norm ln0_, ln_out_;
  bool has_ln0_ = false;
  int rescale_every_ = 0;  // Checkpoint::rescale_every
};

template <class Version>
Result<std::unique_ptr<Model>> make_version(const Checkpoint& file, const std::string& version) {
  auto model = std::make_unique<Version>();
  FR_OK(model->configure(file, version));
  return std::unique_ptr<Model>(std::move(model));
}

// One per version file; make_model (registry.cpp) has found that the file is of this version.
Result<std::unique_ptr<Model>> make_rwkv4(const Checkpoint& file, const std::string& version);
Result<std::unique_ptr<Model>> make_rwkv5(const Checkpoint& file, const std::string& version);
Result<std::unique_ptr<Model>> make_rwkv6(const Checkpoint& file, const std::string& version);
Result<std::unique_ptr<Model>> make_rwkv7(const Checkpoint& file, const std::string& version);

// The channel mix of v4 to v6: sigmoid(receptance(xr)) * value(relu(key(xk))^2).
struct GatedChannelMix {
  Norm ln2;
  Mixes<2> mix;  // k, r
  Mat key, receptance, value;
  StateRef previous;

  // mix_name: "ffn.time_mix_" (v4, v5: the complement is stored) or "ffn.time_maa_" (v6).
  void bind(Binder& b, const ModelInfo& info, const std::string& mix_name, Transform transform);
  void run(Ops& op, Residual& residual) const;
};

}  // namespace fr
