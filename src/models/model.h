// One RWKV version: what it reads from a checkpoint, its state, and its forward pass against Ops.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/checkpoint.h"
#include "base/result.h"
#include "core/fused_mix.h"
#include "core/model_info.h"
#include "core/ops.h"
#include "core/state.h"
#include "core/weights.h"

namespace fr {

// What flows between the layers, and between the segments of a split model.
struct Stream {
  Residual residual;  // {T, 1, D}
  Tensor v_first;     // v7: the values of layer 0, {T, 1, D}
};

class Model {
 public:
  virtual ~Model() = default;
  const ModelInfo& info() const { return info_; }
  const StateSpec& state() const { return state_; }

  // Finds all weights. Call once; then check binder.finish().
  virtual void bind(Binder& binder) = 0;
  // The three parts of a step. embed: tokens -> stream. layers: [begin, end). head: the final norm of the
  // wanted rows, {wanted, 1, D} ("hidden"), and from it the logits, {wanted, 1, V}.
  virtual Stream embed(Ops& op) const = 0;
  virtual void layers(Ops& op, Stream& stream, int begin, int end) const = 0;
  virtual Tensor hidden(Ops& op, Stream& stream) const = 0;
  virtual Tensor logits(Ops& op, Tensor hidden) const = 0;
  // v7 passes a third value (v_first) from segment to segment.
  virtual bool has_v_first() const { return false; }

 protected:
  ModelInfo info_;
  StateSpec state_;
};

// Recognises the version from tensor names and shapes (set checks, never order or file name) and makes its
// model. Errors: no RWKV model (with a guess what it is), a version that is known but not supported (v7a,
// v7b, v8, hybrids), missing tensors, shapes that contradict each other.
Result<std::unique_ptr<Model>> make_model(const Checkpoint& file);

// A tuned initial state ("blocks.N.att.time_state", in its own file or merged into the model): canonical
// values of a fresh state with these recurrences filled in; empty when the file has none. v5/v6 files store
// [H][value][key] and are transposed; v7 files are read as they are ([H][value][key] is v7's own layout).
Result<std::vector<float>> tuned_state(const Checkpoint& file, const ModelInfo& info, const StateSpec& spec);

}  // namespace fr
