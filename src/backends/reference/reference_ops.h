// Ops that compute at once, in plain loops over row-major float buffers: the oracle that kernels are compared
// with. Sums are taken in double, so that the oracle's own rounding stays well below that of any kernel.
#pragma once
#include <span>
#include <vector>

#include "core/batch.h"
#include "core/ops.h"
#include "core/state.h"
#include "core/weights.h"

namespace fr {

// Weights of one segment. A vector's tensor id is its index here; values of a step are numbered after them.
struct ReferenceWeights {
  struct Matrix {
    std::vector<float> values;  // [out][in]; empty for an embedding
    TensorView table;           // embedding: rows in the file's own format
    std::shared_ptr<const void> table_owner;
  };
  std::vector<std::vector<float>> vectors;
  std::vector<Matrix> matrices;
};

// State of one segment: blocks [first, last) of a spec, and a pool of slots in the canonical form.
struct ReferenceStates {
  std::vector<StateBlock> blocks;  // offsets count from the segment's first block
  int first_block = 0;
  std::size_t size = 0;  // floats per slot
  std::vector<std::vector<float>> slots;

  std::span<float> block(int slot, StateRef ref);
};

class ReferenceOps : public Ops {
 public:
  // All arguments outlive the object.
  ReferenceOps(const ReferenceWeights& weights, ReferenceStates& states, const Batch& batch,
               std::span<const PortIn> inputs, std::span<const PortOut> outputs);

  Tensor embedding(const Mat& table) override;
  Tensor input(int port, int cols) override;
  void output(int port, Tensor x) override;
  Tensor linear(Tensor x, const Mat& w, Act epilogue) override;
  Tensor binary(BinaryOp op, Tensor a, Tensor b) override;
  Tensor unary(Act f, Tensor x) override;
  Tensor affine(Tensor x, float scale, float offset) override;
  Tensor norm(Tensor x, float eps, NormKind kind) override;
  Tensor sum(Tensor x) override;
  Tensor reshape(Tensor x, Shape shape) override;
  Tensor slice(Tensor x, int begin, int cols) override;
  Tensor shift(Tensor x, StateRef previous) override;
  std::vector<Tensor> scan(std::span<const StateRef> state, std::span<const Tensor> inputs,
                           const ScanBody& body) override;
  Tensor matvec(Tensor s, Tensor x, bool transposed) override;
  Tensor outer(Tensor u, Tensor v) override;
  Tensor wanted(Tensor x) override;

 protected:
  const float* data(Tensor t) const;

 private:
  struct Made {
    Tensor tensor;
    float* values;  // stays good while the value lives
  };
  Made make(Shape shape, Extent extent);  // a new value, zeros
  Tensor copy_row(Tensor x, int row);
  void scan_sequence(const Sequence& sequence, std::span<const StateRef> state,
                     std::span<const Tensor> inputs, const ScanBody& body, std::vector<Tensor>& outputs);

  const ReferenceWeights& weights_;
  ReferenceStates& states_;
  const Batch& batch_;
  std::span<const PortIn> inputs_;
  std::span<const PortOut> outputs_;
  std::vector<std::vector<float>> values_;
};

}  // namespace fr
