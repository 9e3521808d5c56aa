// The scan primitive: its body is recorded once, on tensors of one token, and launched token by token. Slow
// and general: what a version needs before it has a native kernel. Which tokens there are decides what is
// launched, so such recordings are not captured.
#include <algorithm>
#include <memory>
#include <utility>

#include "backends/cuda/cuda_ops.h"

namespace fr::cuda {
namespace {

struct Port {
  Operand outside;         // inputs and outputs: {T, H, N}; state: unused
  std::int64_t block = 0;  // state: offset in a slot
  Operand inside;          // of the body
  Operand result;          // state: the new value
  int size = 0;            // floats of one token
};

struct Scan {
  Recording body;
  std::vector<Port> state, inputs, outputs;

  void run_token(const Frame& f, Frame& inner, float* slot, int row) const {
    for (const Port& p : inputs)
      inner.address[static_cast<std::size_t>(p.inside.value)] = f.at(p.outside, row);
    for (const Port& p : state) inner.address[static_cast<std::size_t>(p.inside.value)] = slot + p.block;
    body.place_views(inner);
    body.run(inner);
    const auto put = [&](Operand from, int n, float* to) {
      copy(f.stream, 1, n, {inner.at(from), 0}, {to, 0});
    };
    for (const Port& p : outputs) put(p.inside, p.size, f.at(p.outside, row));
    for (const Port& p : state) put(p.result, p.size, slot + p.block);
  }

  void run(const Frame& f) const {
    Frame inner;
    inner.stream = f.stream;
    inner.zeros = f.zeros;
    body.place(inner, reinterpret_cast<std::byte*>(f.local));
    for (const Sequence& s : f.batch->sequences) {
      for (int row = s.begin; row < s.begin + s.count; ++row)
        run_token(f, inner, f.slots[static_cast<std::size_t>(s.slot)], row);
    }
  }
};

}  // namespace

// A value of a body whose address is set before each token.
Tensor CudaOps::bound_tensor(Shape shape) {
  Value v;
  v.place = Place::bound;
  return {tensor_id(add_value(v)), shape, Extent::one};
}

std::vector<Tensor> CudaOps::scan(std::span<const StateRef> state, std::span<const Tensor> inputs,
                                  const ScanBody& body) {
  FR_CHECK(generation_ == 1);  // a body has no scan of its own
  auto scan = std::make_shared<Scan>();
  for (const Tensor& x : inputs) {
    FR_CHECK(x.extent == Extent::batch);
    scan->inputs.push_back({use(x), 0, {}, {}, 0});
  }
  for (const StateRef& ref : state)
    scan->state.push_back({{}, use_state(ref), {}, {}, static_cast<int>(ref.shape.size())});

  Recording outside = std::exchange(recording_, {});
  Command reads = std::exchange(pending_, {});
  std::vector<int> constants(constants_.size(), -1);
  constants_.swap(constants);
  generation_ = 2;
  std::vector<Tensor> now, in;
  for (const StateRef& ref : state) now.push_back(bound_tensor(ref.shape));
  for (const Tensor& x : inputs) in.push_back(bound_tensor({{1, x.shape.d[1], x.shape.d[2]}}));
  ScanStep step = body(*this, now, in);
  FR_CHECK(step.state.size() == state.size());
  for (Tensor& t : step.state)
    t = affine(t, 1, 0);  // never the old state itself, which is overwritten block by block
  for (std::size_t i = 0; i < in.size(); ++i) scan->inputs[i].inside = use(in[i]);
  for (std::size_t i = 0; i < state.size(); ++i) {
    FR_CHECK(step.state[i].shape.size() == state[i].shape.size());
    scan->state[i].inside = use(now[i]);
    scan->state[i].result = use(step.state[i]);
  }
  for (const Tensor& t : step.outputs)
    scan->outputs.push_back({{}, 0, use(t), {}, static_cast<int>(t.shape.size())});
  add([](const Frame&) {});  // keeps the results to the end
  recording_.finish();
  scan->body = std::exchange(recording_, std::move(outside));
  pending_ = std::move(reads);
  constants_.swap(constants);
  generation_ = 1;

  std::vector<Tensor> outputs;
  for (std::size_t i = 0; i < step.outputs.size(); ++i) {
    const Shape shape = step.outputs[i].shape;
    const auto [out, y] = make({{1, shape.d[1], shape.d[2]}}, Extent::batch);
    scan->outputs[i].outside = y;
    outputs.push_back(out);
  }
  recording_.has_scan = true;
  recording_.counts.sparse_inputs += scan->body.counts.sparse_inputs;
  recording_.local =
      std::max(recording_.local, static_cast<std::int64_t>(scan->body.memory(0, 0) / sizeof(float)));
  add([scan](const Frame& f) { scan->run(f); });
  return outputs;
}

}  // namespace fr::cuda
