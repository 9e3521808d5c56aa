// Every version with random weights of odd sizes, on every backend: however the tokens are cut into steps,
// batches and devices, the result is that of the reference taking them at once.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "backends/reference/reference_ops.h"
#include "golden.h"
#include "runner.h"

namespace fr::test {
namespace {

RandomShape odd_shape(const std::string& variant, int n_layer = 3) {
  RandomShape s = variant_shape(variant);
  s.n_layer = n_layer;
  s.n_embd = 80;
  s.head_size = 16;
  s.n_ffn = 152;
  s.n_vocab = 77;
  s.rank_mix = 11;
  s.rank_w = 9;
  s.rank_a = 6;
  s.rank_v = 5;
  s.rank_g = 13;
  return s;
}

std::vector<std::int32_t> text(int n, int seed) {
  std::vector<std::int32_t> tokens;
  for (int i = 0; i < n; ++i) tokens.push_back((i * i * 7 + i * seed + 3 * seed) % 77);
  return tokens;
}

struct Param {
  Target target;
  std::string variant;
};
void PrintTo(const Param& p, std::ostream* out) { *out << p.target.name() << " v" << p.variant; }
std::vector<Param> params() {
  std::vector<Param> all;
  for (const Target& t : targets()) {
    for (const char* v : variants) all.push_back({t, v});
  }
  return all;
}
std::string param_name(const testing::TestParamInfo<Param>& info) {
  std::string name = info.param.target.name() + "_v" + info.param.variant;
  std::replace(name.begin(), name.end(), '.', '_');
  return name;
}

class Models : public testing::TestWithParam<Param> {
 protected:
  static DeviceRunner make(const Target& target, std::vector<int> cuts = {}, int n_layer = 3) {
    DeviceRunnerOptions options;
    options.target = target;
    options.cuts = std::move(cuts);
    DeviceRunner runner(need(random_checkpoint(odd_shape(GetParam().variant, n_layer))), options);
    runner.reserve(4);
    return runner;
  }
  // The reference computes each row alone: it must agree with itself exactly.
  static Tolerance tolerance() {
    return GetParam().target.backend == "reference" ? Tolerance{0, 0} : Tolerance{};
  }

  static void expect_close(std::span<const float> found, std::span<const float> expected) {
    const Difference d = difference(found, expected);
    EXPECT_LE(d.max_abs, tolerance().max_abs);
    EXPECT_LE(d.l2, tolerance().l2);
  }
  static void expect_state(Runner& runner, int slot, std::span<const float> expected) {
    const std::vector<float> found = runner.export_state(slot);
    for (const StateBlock& b : runner.state_spec().blocks) {
      SCOPED_TRACE(b.name);
      const auto offset = static_cast<std::size_t>(b.offset), size = static_cast<std::size_t>(b.size);
      expect_close(std::span(found).subspan(offset, size), expected.subspan(offset, size));
    }
  }
  struct Run {
    std::vector<float> logits, state;  // of every token; after the last
  };
  static Run at_once(Runner& runner, const std::vector<std::int32_t>& tokens) {
    runner.reset(0);
    Batch batch{tokens, {{0, 0, static_cast<int>(tokens.size())}}, {}};
    for (int i = 0; i < batch.rows(); ++i) batch.wanted.push_back(i);
    std::vector<float> logits = runner.step(batch);
    return {std::move(logits), runner.export_state(0)};
  }
};

TEST_P(Models, SerialStepsEqualOneChunkOfTheReference) {
  const std::vector<std::int32_t> tokens = text(21, 4);
  DeviceRunner reference = make({});
  const Run expected = at_once(reference, tokens);
  for (const float x : expected.logits) ASSERT_TRUE(std::isfinite(x));
  DeviceRunner runner = make(GetParam().target);
  std::vector<float> logits;
  for (const std::int32_t token : tokens) {
    const std::vector<float> row = runner.step({{token}, {{0, 0, 1}}, {0}});
    logits.insert(logits.end(), row.begin(), row.end());
  }
  expect_close(logits, expected.logits);
  expect_state(runner, 0, expected.state);
}

TEST_P(Models, RaggedBatchesAndMovedStatesEqualOneChunkOfTheReference) {
  const std::vector<std::int32_t> a = text(12, 2), b = text(9, 5), c = text(15, 8);
  DeviceRunner reference = make({}), runner = make(GetParam().target);
  const Run run_a = at_once(reference, a), run_b = at_once(reference, b), run_c = at_once(reference, c);
  const auto part = [](const std::vector<std::int32_t>& t, int begin, int end) {
    return std::vector<std::int32_t>(t.begin() + begin, t.begin() + end);
  };
  const auto join = [](std::vector<std::int32_t> x, const std::vector<std::int32_t>& y) {
    x.insert(x.end(), y.begin(), y.end());
    return x;
  };
  // a: 5 + 1 + 6 tokens, b: 4 + 5 (from an exported state, in a slot that c's start has used), c: 1 + 14.
  runner.step({join(part(a, 0, 5), part(b, 0, 4)), {{2, 0, 5}, {0, 5, 4}}, {8}});
  runner.step({join(part(c, 0, 1), part(a, 5, 6)), {{3, 0, 1}, {2, 1, 1}}, {}});
  const std::vector<float> saved_b = runner.export_state(0), saved_c = runner.export_state(3);
  runner.import_state(3, saved_b);
  runner.import_state(1, saved_c);
  const std::vector<float> logits = runner.step({join(join(part(b, 4, 9), part(c, 1, 15)), part(a, 6, 12)),
                                                 {{3, 0, 5}, {1, 5, 14}, {2, 19, 6}},
                                                 {4, 18, 24}});
  const std::size_t n = 77;
  const auto last = [&](const Run& run) { return std::span(run.logits).last(n); };
  expect_close(std::span(logits).subspan(0, n), last(run_b));
  expect_close(std::span(logits).subspan(n, n), last(run_c));
  expect_close(std::span(logits).subspan(2 * n, n), last(run_a));
  expect_state(runner, 2, run_a.state);
  expect_state(runner, 3, run_b.state);
  expect_state(runner, 1, run_c.state);
}

TEST_P(Models, SplitModelEqualsTheWholeOne) {
  const std::vector<std::int32_t> tokens = text(10, 3);
  DeviceRunner reference = make({});
  const Run expected = at_once(reference, tokens);
  for (const std::vector<int>& cuts : {std::vector<int>{1}, std::vector<int>{2}, std::vector<int>{1, 2}}) {
    DeviceRunner split = make(GetParam().target, cuts);
    const Run found = at_once(split, tokens);
    expect_close(found.logits, expected.logits);
    expect_state(split, 0, expected.state);
  }
}

TEST_P(Models, OneLayerRuns) {
  const std::vector<std::int32_t> tokens = text(6, 1);
  DeviceRunner reference = make({}, {}, 1), runner = make(GetParam().target, {}, 1);
  const Run expected = at_once(reference, tokens);
  expect_close(at_once(runner, tokens).logits, expected.logits);
}

TEST_P(Models, SlotsAreCopiedResetAndKeptWhenThePoolGrows) {
  const std::vector<std::int32_t> tokens = text(6, 6);
  DeviceRunner runner = make(GetParam().target);
  const std::vector<float> fresh = runner.export_state(0);
  const Run run = at_once(runner, tokens);
  EXPECT_NE(run.state, fresh);
  runner.device(0).copy_slot(0, 2);
  runner.reserve(9);
  EXPECT_EQ(runner.export_state(2), run.state);
  EXPECT_EQ(runner.export_state(8), fresh);
  runner.reset(2);
  EXPECT_EQ(runner.export_state(2), fresh);
  EXPECT_EQ(runner.export_state(0), run.state);
}

INSTANTIATE_TEST_SUITE_P(Versions, Models, testing::ValuesIn(params()), param_name);

// Counts what the squared ReLU leaves.
class CountingOps final : public ReferenceOps {
 public:
  using ReferenceOps::ReferenceOps;
  Tensor linear(Tensor x, const Mat& w, Act epilogue) override {
    const Tensor y = ReferenceOps::linear(x, w, epilogue);
    for (std::int64_t i = 0; epilogue == Act::relu2 && i < y.shape.size(); ++i, ++all)
      zeros += data(y)[i] == 0;
    return y;
  }
  double zeros = 0, all = 0;
};

// Only what binding needs of a store: the weights, as the reference keeps them.
class ReferenceStore final : public WeightStore {
 public:
  Result<Tensor> add_vector(std::span<const float> values, Shape shape) override {
    weights.vectors.emplace_back(values.begin(), values.end());
    return Tensor{static_cast<int>(weights.vectors.size()) - 1, shape, Extent::one};
  }
  Result<Mat> add_matrix(const TensorView& w, MatRole role, const Checkpoint&) override {
    ReferenceWeights::Matrix& m = weights.matrices.emplace_back();
    m.table = w;
    m.values.resize(static_cast<std::size_t>(w.size()));
    w.read(0, m.values);
    Mat mat;
    mat.id = static_cast<int>(weights.matrices.size()) - 1;
    mat.out = static_cast<int>(w.shape[0]);
    mat.in = static_cast<int>(w.shape[1]);
    mat.role = role;
    return mat;
  }
  ReferenceWeights weights;
};

class Zeros : public testing::TestWithParam<const char*> {};

TEST_P(Zeros, ShareOfTheSquaredReluIsAsAsked) {
  RandomShape shape = variant_shape(GetParam());
  shape.n_embd = 256;
  shape.n_ffn = 512;
  constexpr int rows = 20;
  for (const double wanted : {0.0, 0.7, 0.86, 0.95}) {
    const Checkpoint file = need(random_checkpoint(shape, {.dtype = DType::f16, .zeros = wanted}));
    const std::unique_ptr<Model> model = need(make_model(file));
    ReferenceStore store;
    Binder binder(file, [&](int) -> WeightStore& { return store; });
    model->bind(binder);
    need(binder.finish());
    ReferenceStates states;
    states.blocks = model->state().blocks;
    states.slots.emplace_back(static_cast<std::size_t>(model->state().size));
    Batch batch{{}, {{0, 0, rows}}, {}};
    for (int i = 0; i < rows; ++i) batch.tokens.push_back(i * i * 31 % 256);
    CountingOps ops(store.weights, states, batch, {}, {});
    Stream stream = model->embed(ops);
    model->layers(ops, stream, 0, model->info().n_layer);
    ASSERT_EQ(ops.all, 2.0 * rows * shape.n_ffn);
    const double share = ops.zeros / ops.all;
    EXPECT_NEAR(share, wanted > 0 ? wanted : 0.5, wanted > 0 ? 0.03 : 0.05);
    std::printf("v%s zeros asked %.2f measured %.3f\n", GetParam(), wanted, share);
  }
}
INSTANTIATE_TEST_SUITE_P(Versions, Zeros, testing::ValuesIn(variants));

}  // namespace
}  // namespace fr::test
