// A recorded step, replayed, equals the step itself bit for bit; and a recording with one changed node does
// not.
#include "export/trace.h"

#include <gtest/gtest.h>

#include "runner.h"

namespace fr::test {
namespace {

RandomShape small_shape(const std::string& variant) {
  RandomShape s = variant_shape(variant);
  s.n_layer = 2;
  s.n_embd = 24;
  s.head_size = 8;
  s.n_ffn = 40;
  s.n_vocab = 19;
  s.rank_mix = 3;
  s.rank_w = 5;
  s.rank_a = 4;
  s.rank_v = 3;
  s.rank_g = 7;
  return s;
}

struct Outcome {
  std::vector<float> logits, states;
  bool operator==(const Outcome&) const = default;
};

// A model bound to TraceWeights, its recording, and a reference device with the same weights to replay it on.
class Traced {
 public:
  Traced(const std::string& version, int rows, int wanted)
      : file_(need(random_checkpoint(small_shape(version), {.seed = 3}))), weights_(file_) {
    model_ = need(make_model(file_));
    Binder binder(file_, [this](int) -> WeightStore& { return weights_; });
    model_->bind(binder);
    need(binder.finish());
    TraceOps op(weights_, rows, wanted);
    Stream stream = model_->embed(op);
    model_->layers(op, stream, 0, model_->info().n_layer);
    op.output(port_logits, model_->logits(op, model_->hidden(op, stream)));
    graph = op.graph();

    device_ = need(need(find_backend("reference"))->create({}));
    map_ = need(weights_.copy_to(*device_));
    need(device_->set_state(model_->state(), 0, static_cast<int>(model_->state().blocks.size())));
    need(device_->reserve_slots(3));
  }

  // Runs the batch from the given state of all three slots.
  Outcome replayed(const Batch& batch, std::span<const float> state) {
    for (int slot = 0; slot < 3; ++slot) device_->import_slot(slot, state);
    Outcome out;
    out.logits.resize(batch.wanted.size() * static_cast<std::size_t>(model_->info().n_vocab));
    const PortOut ports[] = {{port_logits, out.logits}};
    need(device_->step({0, [this](Ops& op) { replay(graph, map_, op); }}, batch, {}, ports));
    for (const Sequence& s : batch.sequences) {
      std::vector<float> values(state.size());
      device_->export_slot(s.slot, values);
      out.states.insert(out.states.end(), values.begin(), values.end());
    }
    return out;
  }

  TracedGraph graph;

 private:
  Checkpoint file_;
  TraceWeights weights_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Device> device_;
  WeightMap map_;
};

Outcome direct(DeviceRunner& runner, const Batch& batch, std::span<const float> state) {
  for (int slot = 0; slot < 3; ++slot) runner.import_state(slot, state);
  Outcome out;
  out.logits = runner.step(batch);
  for (const Sequence& s : batch.sequences) {
    const std::vector<float> values = runner.export_state(s.slot);
    out.states.insert(out.states.end(), values.begin(), values.end());
  }
  return out;
}

class Trace : public testing::TestWithParam<const char*> {
 protected:
  Trace() : runner(need(random_checkpoint(small_shape(GetParam()), {.seed = 3})), {}) {
    runner.reserve(3);
    runner.step({{1, 7, 3}, {{0, 0, 3}}, {}});
    state = runner.export_state(0);
  }
  DeviceRunner runner;
  std::vector<float> state;  // of a sequence of three tokens
};

const Batch decode_step{{5}, {{1, 0, 1}}, {0}};
const Batch chunk_of_4{{5, 0, 18, 2}, {{1, 0, 4}}, {1, 3}};
const Batch ragged{{5, 0, 18, 2, 9, 9, 4}, {{2, 0, 2}, {0, 2, 4}, {1, 6, 1}}, {0, 5, 6}};

TEST_P(Trace, ReplayEqualsTheDirectRun) {
  EXPECT_EQ(Traced(GetParam(), 1, 1).replayed(decode_step, state), direct(runner, decode_step, state));
  EXPECT_EQ(Traced(GetParam(), 4, 2).replayed(chunk_of_4, state), direct(runner, chunk_of_4, state));
}

TEST_P(Trace, OneRecordingServesOtherBatches) {
  Traced decode(GetParam(), 1, 1);
  EXPECT_EQ(decode.replayed(chunk_of_4, state), direct(runner, chunk_of_4, state));
  EXPECT_EQ(decode.replayed(ragged, state), direct(runner, ragged, state));
}

// Every change that leaves the shapes alone; false: the node has none.
bool change(TracedNode& n) {
  switch (n.op) {
    case OpKind::linear:
      n.act = n.act == Act::none ? Act::tanh : Act::none;
      return true;
    case OpKind::unary:
      n.act = n.act == Act::sigmoid ? Act::tanh : Act::sigmoid;
      return true;
    case OpKind::binary:
      n.binary = n.binary == BinaryOp::add ? BinaryOp::sub : BinaryOp::add;
      return true;
    case OpKind::affine:
      n.offset += 0.5f;
      return true;
    case OpKind::norm:
      n.eps = 0.25f;
      n.norm = NormKind::layer;
      return true;
    case OpKind::slice:
      n.begin = n.begin > 0 ? 0 : n.cols;
      return true;
    case OpKind::matvec:
      n.transposed = !n.transposed;
      return true;
    case OpKind::outer:
    case OpKind::scan:
      std::swap(n.inputs[0], n.inputs[1]);
      return true;
    default:
      return false;
  }
}

void expect_every_change_to_bite(Traced& traced, std::vector<TracedNode>& nodes, const Outcome& right,
                                 std::span<const float> state) {
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    const TracedNode original = nodes[i];
    if (change(nodes[i])) {
      EXPECT_NE(traced.replayed(chunk_of_4, state), right)
          << "node " << i << ", op " << static_cast<int>(original.op);
    }
    nodes[i] = original;
    if (original.op != OpKind::scan) continue;
    auto body = std::make_shared<TracedBody>(*original.body);
    nodes[i].body = body;
    expect_every_change_to_bite(traced, body->nodes, right, state);
    nodes[i] = original;
  }
}

TEST_P(Trace, AnyChangedNodeChangesTheResult) {
  Traced traced(GetParam(), 4, 2);
  const Outcome right = direct(runner, chunk_of_4, state);
  expect_every_change_to_bite(traced, traced.graph.nodes, right, state);
  EXPECT_EQ(traced.replayed(chunk_of_4, state), right);
}

void count_uses(const std::vector<TracedNode>& nodes, std::vector<int>& uses) {
  const auto add = [&](const std::vector<int>& ids) {
    for (const int id : ids) ++uses.at(static_cast<std::size_t>(id));
  };
  for (const TracedNode& n : nodes) {
    add(n.inputs);
    if (n.op != OpKind::scan) continue;
    add(n.body->new_state);
    add(n.body->outputs);
    count_uses(n.body->nodes, uses);
  }
}

TEST_P(Trace, CountsUsesAndComputesNothingInVain) {
  const TracedGraph& graph = Traced(GetParam(), 1, 1).graph;
  std::vector<int> uses(graph.values.size());
  count_uses(graph.nodes, uses);
  for (std::size_t i = 0; i < uses.size(); ++i) {
    EXPECT_EQ(graph.values[i].uses, uses[i]) << i;
    EXPECT_GE(uses[i], 1) << "value " << i << " is not used";
  }
}

INSTANTIATE_TEST_SUITE_P(Versions, Trace, testing::ValuesIn(variants));

}  // namespace
}  // namespace fr::test
