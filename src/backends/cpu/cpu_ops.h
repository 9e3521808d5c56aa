// Ops that record: every primitive appends a command to a Recording. Native kernels (native.h) build on the
// same few functions: use() what a command reads, make() what it writes, then add() it.
#pragma once
#include <functional>
#include <span>
#include <vector>

#include "backends/cpu/kernels.h"
#include "backends/cpu/pack.h"
#include "backends/cpu/recording.h"
#include "core/ops.h"
#include "core/state.h"
#include "core/weights.h"

namespace fr::cpu {

// Where the blocks of one segment lie in a slot.
struct StateLayout {
  int first_block = 0;
  std::vector<std::int64_t> offsets;  // floats, of block first_block + i
  std::vector<std::int64_t> sizes;
  std::int64_t size = 0;
};

class CpuOps final : public Ops {
 public:
  // All arguments outlive the object. Without a table of native kernels every fused op is expanded.
  CpuOps(const Weights& weights, const StateLayout& states, const Kernels& kernels,
         const KernelTable* native);
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

  const Kernels& simd() const { return simd_; }
  const PackedMatrix& matrix(const Mat& w) const { return weights_.matrix(w.id); }
  // Shapes of recorded batch and wanted tensors have a leading size of 1; the number of rows is known at
  // replay.
  struct Made {
    Tensor tensor;
    Operand operand;
  };
  Made make(Shape shape, Extent extent);
  Operand use(Tensor x);                   // x may be absent: no_operand
  std::int64_t use_state(StateRef block);  // the block's offset in a slot
  void want_scratch(std::int64_t floats);
  using Items = std::function<int(const Frame&)>;
  using Run = std::function<void(const Frame&, const Worker&, int begin, int end)>;
  void add(Items items, Run run);
  // One item per leading index of a tensor.
  static Items each_row(Extent extent, int d0);
  static Items each_row(Tensor x) { return each_row(x.extent, x.shape.d[0]); }

 private:
  int add_value(Value value);
  int tensor_id(int value) const;
  int value_of(Tensor x);
  Tensor view(Tensor x, Shape shape, std::int64_t offset);
  Tensor bound_tensor(Shape shape);

  const Weights& weights_;
  const StateLayout& states_;
  const Kernels& simd_;
  Recording recording_;
  Command pending_;             // reads, writes and blocks of the next command
  std::vector<int> constants_;  // value of each weight vector in this recording, or -1
  int generation_ = 1;          // 2 inside a scan body: its tensors are not those outside
};

// y = act(x W^T + bias) * gate, for linear and what is fused around it. bias replaces the matrix's own; both
// bias and gate may be absent.
Tensor product(CpuOps& op, Tensor x, const Mat& w, Act act, Tensor bias, Tensor gate);

}  // namespace fr::cpu
