// The scan primitive: its body is recorded once, on tensors of one token, and run by one worker per sequence,
// token by token, in memory of the worker's own. Slow and general: what a version needs before it has a
// native kernel.
#include <algorithm>
#include <memory>
#include <utility>

#include "backends/cpu/cpu_ops.h"

namespace fr::cpu {
namespace {

struct Port {
  Operand outside;         // inputs and outputs: {T, H, N}; state: unused
  std::int64_t block = 0;  // state: offset in a slot
  Operand inside;          // of the body
  Operand result;          // state: the new value
  std::int64_t size = 0;   // floats of one token
};

struct Scan {
  Recording body;
  std::vector<Port> state, inputs, outputs;

  void run_token(const Frame& f, Frame& inner, const Worker& worker, int slot, int row) const {
    for (const Port& p : inputs)
      inner.address[static_cast<std::size_t>(p.inside.value)] = f.at(p.outside, row);
    for (const Port& p : state)
      inner.address[static_cast<std::size_t>(p.inside.value)] = f.state(slot, p.block);
    body.place_views(inner);
    body.run_alone(inner, worker);
    for (const Port& p : outputs) std::copy_n(inner.at(p.inside), p.size, f.at(p.outside, row));
    for (const Port& p : state) std::copy_n(inner.at(p.result), p.size, f.state(slot, p.block));
  }

  void run(const Frame& f, const Worker& worker, int begin, int end) const {
    Frame inner;
    inner.batch = f.batch;
    inner.sparse_inputs = f.sparse_inputs;
    body.place(inner, worker.local);
    for (int i = begin; i < end; ++i) {
      const Sequence& s = f.batch->sequences[static_cast<std::size_t>(i)];
      for (int row = s.begin; row < s.begin + s.count; ++row) run_token(f, inner, worker, s.slot, row);
    }
  }
};

}  // namespace

// A value of a body whose address is set before each token.
Tensor CpuOps::bound_tensor(Shape shape) {
  const int value = add_value({Place::bound, -1, 0, 0, nullptr, -1, -1});
  return {tensor_id(value), shape, Extent::one};
}

std::vector<Tensor> CpuOps::scan(std::span<const StateRef> state, std::span<const Tensor> inputs,
                                 const ScanBody& body) {
  FR_CHECK(generation_ == 1);  // a body has no scan of its own
  auto scan = std::make_shared<Scan>();
  for (const Tensor& x : inputs) {
    FR_CHECK(x.extent == Extent::batch);
    scan->inputs.push_back({use(x), 0, {}, {}, 0});
  }
  for (const StateRef& ref : state) scan->state.push_back({{}, use_state(ref), {}, {}, ref.shape.size()});

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
  for (const Tensor& t : step.outputs) scan->outputs.push_back({{}, 0, use(t), {}, t.shape.size()});
  add([](const Frame&) { return 0; },
      [](const Frame&, const Worker&, int, int) {});  // keeps the results to the end
  recording_.finish(true);
  scan->body = std::exchange(recording_, std::move(outside));
  pending_ = std::move(reads);
  constants_.swap(constants);
  generation_ = 1;

  std::vector<Tensor> outputs;
  for (std::size_t i = 0; i < step.outputs.size(); ++i) {
    const Shape shape = step.outputs[i].shape;
    auto [out, y] = make({{1, shape.d[1], shape.d[2]}}, Extent::batch);
    scan->outputs[i].outside = y;
    outputs.push_back(out);
  }
  recording_.scratch = std::max(recording_.scratch, scan->body.scratch);
  recording_.local = std::max(recording_.local, scan->body.memory(0, 0));
  add([](const Frame& f) { return static_cast<int>(f.batch->sequences.size()); },
      [scan](const Frame& f, const Worker& worker, int begin, int end) { scan->run(f, worker, begin, end); });
  return outputs;
}

}  // namespace fr::cpu
