// Ops that record: every primitive appends a launch to a Recording. Native kernels (native.h) build on the
// same few functions: use() what a command reads, make() what it writes, then add() it.
#pragma once
#include <functional>
#include <span>
#include <vector>

#include "backends/cuda/pack.h"
#include "backends/cuda/recording.h"
#include "core/ops.h"
#include "core/state.h"
#include "core/weights.h"

namespace fr::cuda {

// Where the blocks of one segment lie in a slot.
struct StateLayout {
  int first_block = 0;
  std::vector<std::int64_t> offsets;  // floats, of block first_block + i
  std::vector<std::int64_t> sizes;
  std::int64_t size = 0;    // floats, the sum of the blocks: the canonical form
  std::int64_t stride = 0;  // floats of a slot: every block begins on a cache line
};

class CudaOps final : public Ops {
 public:
  // All arguments outlive the object. Without a table of native kernels every fused op is expanded.
  CudaOps(const Weights& weights, const StateLayout& states, const KernelTable* native);
  // What was recorded. Call once, last.
  Recording take();

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

  // y = act(x W^T + bias) * gate. bias replaces the matrix's own; both bias and gate may be absent.
  Tensor product(Tensor x, const Mat& w, Act act, Tensor bias, Tensor gate);

  // Shapes of recorded batch and wanted tensors have a leading size of 1; the number of rows is known at
  // replay.
  struct Made {
    Tensor tensor;
    Operand operand;
  };
  Made make(Shape shape, Extent extent);
  Operand use(Tensor x);                   // an absent x: an absent operand
  std::int64_t use_state(StateRef block);  // the block's offset in a slot, floats
  void add(std::function<void(const Frame&)> run);

 private:
  int add_value(Value value);
  int tensor_id(int value) const;
  int value_of(Tensor x);
  Tensor view(Tensor x, Shape shape, std::int64_t offset);
  Tensor bound_tensor(Shape shape);

  const Weights& weights_;
  const StateLayout& states_;
  Recording recording_;
  Command pending_;             // reads and writes of the next command
  std::vector<int> constants_;  // value of each weight vector in this recording, or -1
  int generation_ = 1;          // 2 inside a scan body: its tensors are not those outside
};

}  // namespace fr::cuda
