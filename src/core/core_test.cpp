#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "core/batch.h"
#include "core/fused_linear.h"
#include "core/state.h"
#include "core/weights.h"

namespace fr {
namespace {

// A checkpoint whose tensors own their numbers.
class File {
 public:
  File() { checkpoint.path = "m.pth"; }
  void add(const std::string& name, std::vector<std::int64_t> shape, std::vector<float> values) {
    TensorView t{name, DType::f32, shape, std::vector<std::int64_t>(shape.size()), nullptr};
    std::int64_t stride = 1;
    for (std::size_t d = shape.size(); d-- > 0; stride *= shape[d]) t.stride[d] = stride;
    ASSERT_EQ(static_cast<std::size_t>(stride), values.size());
    storage_.push_back(std::move(values));
    t.data = reinterpret_cast<const std::byte*>(storage_.back().data());
    checkpoint.tensors.push_back(std::move(t));
    checkpoint.index();
  }
  TensorView& last() { return checkpoint.tensors.back(); }
  Checkpoint checkpoint;

 private:
  std::vector<std::vector<float>> storage_;
};

class Store final : public WeightStore {
 public:
  Result<Tensor> add_vector(std::span<const float> values, Shape shape) override {
    vectors.emplace_back(values.begin(), values.end());
    return Tensor{static_cast<int>(vectors.size()) - 1, shape, Extent::one};
  }
  Result<Mat> add_matrix(const TensorView& w, MatRole role, const Checkpoint&) override {
    std::vector<float>& values = matrices.emplace_back(static_cast<std::size_t>(w.size()));
    w.read(0, values);
    Mat m;
    m.id = static_cast<int>(matrices.size()) - 1;
    m.out = static_cast<int>(w.shape[0]);
    m.in = static_cast<int>(w.shape[1]);
    m.role = role;
    return m;
  }
  std::vector<std::vector<float>> vectors, matrices;
};

struct Fixture {
  explicit Fixture(const File& f) : binder(f.checkpoint, [this](int) -> WeightStore& { return store; }) {
    binder.at_layer(0, 1);
  }
  std::string error() const {
    const Status s = binder.finish();
    return s.ok() ? "" : s.error().message;
  }
  Store store;
  Binder binder;
};

std::vector<float> ramp(int n) {
  std::vector<float> v;
  for (int i = 0; i < n; ++i) v.push_back(static_cast<float>(i));
  return v;
}

TEST(Binder, ReadsVectorsInAnyShapeOfTheSameNumbers) {
  File f;
  f.add("blocks.0.a", {1, 1, 6}, ramp(6));
  f.add("blocks.0.b", {2, 3}, ramp(6));
  f.add("blocks.0.c", {6}, ramp(6));
  f.add("blocks.0.d", {2, 1, 1}, {5, 7});
  Fixture x(f);
  Vec v;
  for (const char* name : {"a", "b", "c"}) {
    x.binder.vec(name, v, 2, 3);
    ASSERT_EQ(x.error().find("tensors that"), 0u) << x.error();  // only: some are not read yet
    EXPECT_EQ(v.t.shape, (Shape{{1, 2, 3}}));
    EXPECT_EQ(x.store.vectors.back(), ramp(6));
  }
  x.binder.head_vec("d", v, 2, 3);
  EXPECT_EQ(x.store.vectors.back(), (std::vector<float>{5, 5, 5, 7, 7, 7}));
  EXPECT_EQ(x.error(), "");
}

TEST(Binder, OneNumberPerHeadIsNotAVector) {
  File f;
  f.add("blocks.0.ln1.weight", {1}, {1});
  Fixture x(f);
  Vec v;
  x.binder.vec("ln1.weight", v, 1, 4);
  EXPECT_EQ(x.error(),
            "tensor blocks.0.ln1.weight: expected shape [4], found [1] (m.pth): the file is damaged or a "
            "variant that "
            "this program does not run, get the original");
}

TEST(Binder, AppliesTransforms) {
  File f;
  f.add("blocks.0.w", {2}, {0.25f, -1});
  const std::pair<Transform, float (*)(float)> cases[] = {
      {Transform::none, [](float x) { return x; }},
      {Transform::one_minus, [](float x) { return 1 - x; }},
      {Transform::exp, [](float x) { return std::exp(x); }},
      {Transform::neg_exp, [](float x) { return -std::exp(x); }},
      {Transform::exp_neg_exp, [](float x) { return std::exp(-std::exp(x)); }}};
  for (const auto& [transform, expected] : cases) {
    Fixture x(f);
    Vec v;
    x.binder.vec("w", v, 1, 2, transform);
    EXPECT_EQ(x.store.vectors.at(0), (std::vector<float>{expected(0.25f), expected(-1)}));
  }
}

TEST(Binder, MatricesHaveOptionalBiases) {
  File f;
  f.add("blocks.0.key.weight", {2, 3}, ramp(6));
  f.add("blocks.0.value.weight", {2, 3}, ramp(6));
  f.add("blocks.0.value.bias", {2}, {8, 9});
  Fixture x(f);
  Mat key, value;
  x.binder.mat("key", key, 2, 3);
  x.binder.mat("value", value, 2, 3, MatRole::sparse_input);
  EXPECT_EQ(x.error(), "");
  EXPECT_FALSE(key.bias);
  ASSERT_TRUE(value.bias);
  EXPECT_EQ(x.store.vectors.at(0), (std::vector<float>{8, 9}));
  EXPECT_EQ(value.role, MatRole::sparse_input);
}

TEST(Binder, FactorsAreTransposedAndSliced) {
  File f;
  f.add("blocks.0.w1", {2, 3}, ramp(6));      // in 2, out 3
  f.add("blocks.0.w2", {2, 3, 2}, ramp(12));  // two slices, in 3, out 2
  Fixture x(f);
  Mat m;
  x.binder.factor("w1", m, 2, x.binder.dim("w1", 1));
  EXPECT_EQ(m.out, 3);
  EXPECT_EQ(m.in, 2);
  EXPECT_EQ(x.store.matrices.at(0), (std::vector<float>{0, 3, 1, 4, 2, 5}));
  x.binder.factor("w2", m, 3, 2, 1);
  EXPECT_EQ(x.store.matrices.at(1), (std::vector<float>{6, 8, 10, 7, 9, 11}));
  EXPECT_EQ(x.error(), "");
  x.binder.factor("w2", m, 3, 2, 2);
  EXPECT_NE(x.error().find("expected shape [3, 3, 2], found [2, 3, 2]"), std::string::npos) << x.error();
}

TEST(Binder, NamesFileAndTensorOfTheFirstProblem) {
  File f;
  f.add("blocks.0.key.weight", {3, 2}, ramp(6));
  f.add("blocks.0.steps", {1}, {0});
  f.last().dtype = DType::i32;
  Mat m;
  Vec v;
  Fixture missing(f), shape(f), dtype(f), rank(f);
  missing.binder.mat("value", m, 2, 3);
  missing.binder.vec("steps", v, 1, 1);
  EXPECT_EQ(missing.error(),
            "tensor blocks.0.value.weight: missing (m.pth): the file is incomplete, get it again");
  shape.binder.mat("key", m, 2, 3);
  EXPECT_NE(shape.error().find("tensor blocks.0.key.weight: expected shape [2, 3], found [3, 2] (m.pth): "),
            std::string::npos);
  dtype.binder.vec("steps", v, 1, 1);
  EXPECT_NE(
      dtype.error().find("tensor blocks.0.steps: expected weights, found numbers of type int32 (m.pth): "),
      std::string::npos);
  rank.binder.factor("key.weight", m, 3, rank.binder.dim("gone", 1));
  EXPECT_NE(rank.error().find("expected shape [3, rank], found [3, 2]"), std::string::npos) << rank.error();
}

TEST(Binder, RefusesNumbersThatShareMemory) {
  File f;
  f.add("blocks.0.a", {4}, ramp(4));
  f.last().shape = {1 << 20};
  f.last().stride = {0};
  Fixture x(f);
  Vec v;
  x.binder.vec("a", v, 1, 1 << 20);
  EXPECT_NE(x.error().find("share memory"), std::string::npos) << x.error();
  EXPECT_TRUE(x.store.vectors.empty());
}

TEST(Binder, UnknownTensorsAreNamed) {
  File f;
  for (int i = 0; i < 10; ++i) f.add("extra" + std::to_string(i), {1}, {0});
  f.add("blocks.0.att.time_state", {1}, {0});
  f.add("blocks.0.att.v0", {1}, {0});
  Fixture x(f);
  x.binder.ignore("att.v0");
  EXPECT_EQ(
      x.error(),
      "tensors that this RWKV version does not have: extra0, extra1, extra2, extra3, extra4, extra5, extra6, "
      "extra7 and 2 more (m.pth): the file is a variant that this program does not run, get the original");
}

TEST(Binder, ReportsProgressAndStops) {
  File f;
  f.add("blocks.0.a", {2}, ramp(2));
  f.add("blocks.0.b", {6}, ramp(6));
  Store store;
  std::vector<std::uint64_t> done;
  Binder b(
      f.checkpoint, [&](int) -> WeightStore& { return store; },
      [&](std::string_view, std::uint64_t n, std::uint64_t total) {
        EXPECT_EQ(total, 32u);
        done.push_back(n);
        return done.size() < 2;
      });
  b.at_layer(0, 1);
  Vec v;
  b.vec("a", v, 1, 2);
  b.vec("b", v, 1, 6);
  EXPECT_EQ(done, (std::vector<std::uint64_t>{8, 32}));
  ASSERT_FALSE(b.finish().ok());
  EXPECT_EQ(b.finish().error().code, ErrorCode::interrupted);
}

TEST(Batch, ValidOnesPass) {
  EXPECT_TRUE(validate({{1, 2, 9}, {{3, 0, 2}, {0, 2, 1}}, {0, 2}}, 10, 4).ok());
  EXPECT_TRUE(validate({{1}, {{0, 0, 1}}, {}}, 2, 1).ok());
}

TEST(Batch, EveryFaultIsNamed) {
  const std::pair<Batch, const char*> cases[] = {
      {{{}, {}, {}}, "no tokens"},
      {{{1, 10}, {{0, 0, 2}}, {}}, "token id 10"},
      {{{-1}, {{0, 0, 1}}, {}}, "token id -1"},
      {{{1, 2}, {{0, 0, 1}}, {}}, "row 1 belongs to no sequence"},
      {{{1, 2}, {}, {}}, "row 0 belongs to no sequence"},
      {{{1, 2}, {{0, 1, 1}, {1, 0, 1}}, {}}, "out of place"},
      {{{1, 2}, {{0, 0, 1}, {1, 1, 0}}, {}}, "out of place"},
      {{{1, 2}, {{0, 0, 3}}, {}}, "out of place"},
      {{{1, 2}, {{0, 0, -2147483647}}, {}}, "out of place"},
      {{{1, 2}, {{0, 0, 1}, {0, 1, 1}}, {}}, "slot 0 is used by two"},
      {{{1}, {{4, 0, 1}}, {}}, "slot 4 does not exist"},
      {{{1}, {{-1, 0, 1}}, {}}, "slot -1 does not exist"},
      {{{1, 2}, {{0, 0, 2}}, {1, 0}}, "wanted row 0"},
      {{{1, 2}, {{0, 0, 2}}, {1, 1}}, "wanted row 1"},
      {{{1, 2}, {{0, 0, 2}}, {2}}, "wanted row 2"},
  };
  for (const auto& [batch, message] : cases) {
    const Status s = validate(batch, 10, 4);
    ASSERT_FALSE(s.ok()) << message;
    EXPECT_NE(s.error().message.find(message), std::string::npos) << s.error().message;
  }
}

TEST(StateSpec, OffsetsFollowEachOther) {
  StateSpec spec;
  EXPECT_EQ(spec.add("a", 0, {4}).shape, (Shape{{1, 1, 4}}));
  const StateRef kv = spec.add("kv", 1, {2, 3, 3}, -1);
  EXPECT_EQ(kv.block, 1);
  EXPECT_EQ(kv.shape, (Shape{{2, 3, 3}}));
  EXPECT_EQ(spec.blocks[1].offset, 4);
  EXPECT_EQ(spec.blocks[1].initial, -1);
  EXPECT_EQ(spec.size, 22);
}

// Kernels are found by name and signature together.
TEST(KernelTable, AnotherSignatureUnderTheSameNameIsNotFound) {
  KernelTable table;
  table.set(
      lerp, +[](Ops&, Tensor a, Tensor, Tensor) { return a; });
  EXPECT_NE(table.find("lerp", lerp.signature()), nullptr);
  EXPECT_EQ(table.find("lerp", low_rank.signature()), nullptr);
  EXPECT_EQ(table.find("low_rank", low_rank.signature()), nullptr);
}

}  // namespace
}  // namespace fr
