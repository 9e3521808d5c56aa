// The weights of an export: names, number formats and places in the file of external data that its graphs
// share, and the writing of that file.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "base/atomic_file.h"
#include "base/log.h"
#include "core/state.h"
#include "export/onnx_graph.h"
#include "export/trace.h"

namespace fr::onnx {

class Weights {
 public:
  // Matrices are stored as `dtype` (f32 or f16), vectors as f32. `initial`: canonical values of a tuned
  // initial state, or empty. Keeps references to all but `initial`.
  Weights(const TraceWeights& weights, const StateSpec& state, std::vector<float> initial, DType dtype);

  const External& vector(int index) const { return vectors_.at(static_cast<std::size_t>(index)); }
  const External& matrix(int index) const { return matrices_.at(static_cast<std::size_t>(index)); }
  // By state block, "initial_state.<block>"; empty when no initial state is tuned.
  const std::vector<External>& initial() const { return initial_; }
  std::uint64_t bytes() const { return end_; }
  std::int64_t parameters() const { return parameters_; }

  // Writes all numbers at their places, a piece of a tensor at a time. Errors: a number that is not finite or
  // too large for fp16, the disk's, and that `progress` said stop.
  Status write(AtomicFile& out, const Checkpoint& source, const Progress& progress) const;

 private:
  External place(std::string name, Type type, Dims dims);

  const TraceWeights& weights_;
  const StateSpec& state_;
  std::vector<float> initial_values_;
  std::vector<External> matrices_, vectors_, initial_;  // in the order of the file
  std::uint64_t end_ = 0;
  std::int64_t parameters_ = 0;
};

}  // namespace fr::onnx
