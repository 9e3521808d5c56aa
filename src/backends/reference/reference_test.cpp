// Primitives against numbers worked out by hand, fused ops against the published formulas written out in
// double.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "backends/backend.h"
#include "backends/reference/reference_ops.h"
#include "core/fused_linear.h"
#include "core/fused_mix.h"
#include "core/fused_wkv.h"

namespace fr {

const Backend& reference_backend();

namespace {

using Values = std::vector<float>;

// Ops over given vectors and matrices; results are read back through the port of the logits.
class Bench {
 public:
  Vec vec(Values values, Shape shape) {
    weights.vectors.push_back(std::move(values));
    return {{static_cast<int>(weights.vectors.size()) - 1, shape, Extent::one}};
  }
  Vec vec(const Values& values) { return vec(values, {{1, 1, static_cast<int>(values.size())}}); }
  Mat mat(Values values, int out, int in) {
    ReferenceWeights::Matrix& m = weights.matrices.emplace_back();
    m.values = std::move(values);
    Mat mat;
    mat.id = static_cast<int>(weights.matrices.size()) - 1;
    mat.out = out;
    mat.in = in;
    return mat;
  }
  // One value for each row of the batch.
  void rows(Values values, int cols) {
    input = std::move(values);
    batch.tokens.assign(input.size() / static_cast<std::size_t>(cols), 0);
    if (batch.sequences.empty()) batch.sequences = {{0, 0, batch.rows()}};
    this->cols = cols;
  }
  StateRef state(std::vector<int> shape, float initial = 0) {
    const StateRef ref = spec.add("s", 0, std::move(shape), initial);
    states.blocks = spec.blocks;
    states.slots.assign(2, {});
    for (Values& slot : states.slots) {
      for (const StateBlock& b : spec.blocks)
        slot.insert(slot.end(), static_cast<std::size_t>(b.size), b.initial);
    }
    return ref;
  }
  Values run(const std::function<Tensor(Ops&, Tensor x)>& f) {
    const PortIn in[] = {{port_x, input}};
    class Reading : public ReferenceOps {
     public:
      using ReferenceOps::ReferenceOps;
      Values read(Tensor t) const { return {data(t), data(t) + t.shape.size()}; }
    } ops(weights, states, batch, in, {});
    const Tensor y = f(ops, ops.input(port_x, cols));
    shape = y.shape;
    return ops.read(y);
  }

  ReferenceWeights weights;
  ReferenceStates states;
  StateSpec spec;
  Batch batch;
  Values input;
  int cols = 0;
  Shape shape;  // of the last result
};

void expect_near(const Values& found, const std::vector<double>& expected, double tolerance = 1e-5) {
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], tolerance) << i;
}

// Numbers without a pattern in [-1, 1].
std::vector<double> noise(std::size_t n, unsigned seed) {
  std::vector<double> v;
  for (std::size_t i = 0; i < n; ++i) {
    seed = seed * 1664525u + 1013904223u;
    v.push_back(static_cast<double>(seed >> 8) / 8388608.0 - 1);
  }
  return v;
}
Values floats(const std::vector<double>& v) { return {v.begin(), v.end()}; }

TEST(Primitives, LinearWithBiasAndEpilogue) {
  Bench b;
  Mat m = b.mat({1, 2, 3, 4, 5, 6}, 2, 3);
  m.bias = b.vec({10, -20});
  b.rows({1, 0, -1, 2, 1, 0}, 3);
  EXPECT_EQ(b.run([&](Ops& op, Tensor x) { return op.linear(x, m); }), (Values{8, -22, 14, -7}));
  EXPECT_EQ(b.run([&](Ops& op, Tensor x) { return op.linear(x, m, Act::relu2); }), (Values{64, 0, 196, 0}));
}

TEST(Primitives, BinaryOpsBroadcastSizesOfOne) {
  Bench b;
  const Vec row = b.vec({10, 20, 30, 40}, {{1, 2, 2}}), column = b.vec({1, 2}, {{1, 2, 1}});
  b.rows({1, 2, 3, 4, 5, 6, 7, 8}, 4);
  const auto heads = [](Ops& op, Tensor x) { return split_heads(op, x, 2); };
  EXPECT_EQ(b.run([&](Ops& op, Tensor x) { return add(op, heads(op, x), row.t); }),
            (Values{11, 22, 33, 44, 15, 26, 37, 48}));
  EXPECT_EQ(b.run([&](Ops& op, Tensor x) { return mul(op, column.t, heads(op, x)); }),
            (Values{1, 2, 6, 8, 5, 6, 14, 16}));
  EXPECT_EQ(b.shape, (Shape{{2, 2, 2}}));
  EXPECT_EQ(b.run([&](Ops& op, Tensor x) { return sub(op, x, op.sum(x)); }),
            (Values{-9, -8, -7, -6, -21, -20, -19, -18}));
  EXPECT_EQ(b.run([&](Ops& op, Tensor x) {
    return max(op, div(op, heads(op, x), column.t), op.affine(heads(op, x), 0, 3));
  }),
            (Values{3, 3, 3, 3, 5, 6, 3.5f, 4}));
}

TEST(Primitives, ActivationsAreTheirFormulas) {
  Bench b;
  b.rows({-2, -0.5f, 0, 1.5f}, 4);
  const std::pair<Act, double (*)(double)> cases[] = {
      {Act::none, [](double x) { return x; }},
      {Act::tanh, [](double x) { return std::tanh(x); }},
      {Act::sigmoid, [](double x) { return 1 / (1 + std::exp(-x)); }},
      {Act::exp, [](double x) { return std::exp(x); }},
      {Act::silu, [](double x) { return x / (1 + std::exp(-x)); }},
      {Act::relu2, [](double x) { return x > 0 ? x * x : 0; }},
      {Act::decay6, [](double x) { return std::exp(-std::exp(x)); }},
      {Act::decay7, [](double x) { return std::exp(-0.606531 / (1 + std::exp(-x))); }}};
  for (const auto& [act, f] : cases) {
    const Act a = act;
    expect_near(b.run([&](Ops& op, Tensor x) { return op.unary(a, x); }), {f(-2), f(-0.5), f(0), f(1.5)},
                1e-6);
  }
}

TEST(Primitives, NormsAreOverTheLastDimension) {
  Bench b;
  b.rows({1, 3, 10, 10, 3, 4, 0, 0}, 4);
  const double a = 1 / std::sqrt(1 + 1e-3), c = 0.5 / std::sqrt(0.25 + 1e-3);
  const auto split = [](Ops& op, Tensor x) { return split_heads(op, x, 2); };
  expect_near(b.run([&](Ops& op, Tensor x) { return op.norm(split(op, x), 1e-3f, NormKind::layer); }),
              {-a, a, 0, 0, -c, c, 0, 0});
  expect_near(b.run([&](Ops& op, Tensor x) { return op.norm(split(op, x), 1e-12f, NormKind::l2); }),
              {1 / std::sqrt(10.), 3 / std::sqrt(10.), std::sqrt(.5), std::sqrt(.5), .6, .8, 0, 0});
}

TEST(Primitives, ShiftAndWantedKnowTheRaggedBatch) {
  Bench b;
  const StateRef previous = b.state({2});
  b.states.slots = {{50, 51}, {60, 61}};
  b.batch.sequences = {{1, 0, 2}, {0, 2, 1}};
  b.batch.wanted = {1, 2};
  b.rows({1, 2, 3, 4, 5, 6}, 2);
  EXPECT_EQ(b.run([&](Ops& op, Tensor x) { return op.shift(x, previous); }), (Values{60, 61, 1, 2, 50, 51}));
  EXPECT_EQ(b.states.slots[1], (Values{3, 4}));
  EXPECT_EQ(b.states.slots[0], (Values{5, 6}));
  EXPECT_EQ(b.run([&](Ops& op, Tensor x) { return op.wanted(x); }), (Values{3, 4, 5, 6}));
  EXPECT_EQ(b.run([&](Ops& op, Tensor x) { return op.slice(x, 1, 1); }), (Values{2, 4, 6}));
}

TEST(Primitives, MatvecAndOuterOfHeads) {
  Bench b;
  const Vec s = b.vec({1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, {{2, 2, 3}});
  const Vec u = b.vec({1, 2, 3, 4}, {{1, 2, 2}}), v = b.vec({1, 0, 2, 0, 1, 3}, {{1, 2, 3}});
  b.rows({0}, 1);
  EXPECT_EQ(b.run([&](Ops& op, Tensor) { return op.matvec(s.t, v.t, false); }), (Values{7, 16, 35, 47}));
  EXPECT_EQ(b.run([&](Ops& op, Tensor) { return op.matvec(s.t, u.t, true); }),
            (Values{9, 12, 15, 61, 68, 75}));
  EXPECT_EQ(b.run([&](Ops& op, Tensor) { return op.outer(u.t, v.t); }),
            (Values{1, 0, 2, 2, 0, 4, 0, 3, 9, 0, 4, 12}));
}

// T tokens of inputs of H heads of N in one wide row each: input i is columns [i H N, (i + 1) H N).
struct WkvCase {
  static constexpr int tokens = 5, heads = 2, size = 3, width = heads * size;
  Bench bench;
  std::vector<double> x;

  explicit WkvCase(int n_inputs) : x(noise(static_cast<std::size_t>(tokens * n_inputs * width), 7)) {
    bench.rows(floats(x), n_inputs * width);
    columns_ = n_inputs * width;
  }
  double at(int t, int i, int h, int n) const {
    return x[static_cast<std::size_t>(t * columns_ + i * width + h * size + n)];
  }
  Tensor input(Ops& op, Tensor rows, int i) const {
    return split_heads(op, op.slice(rows, i * width, width), heads);
  }

 private:
  int columns_;
};

TEST(Wkv, Version4IsAWeightedAverage) {
  // y_t = (sum_i<t e^(k_i + (t-1-i) w) v_i + e^(k_t + u) v_t) / (the same without v), written without any
  // scaling.
  WkvCase c(2);
  const int d = WkvCase::width;
  const std::vector<double> w{-0.1, -0.7, -2, -0.3, -1, -0.01}, u = noise(6, 3);
  Wkv4State state{c.bench.state({d}), c.bench.state({d}), c.bench.state({d}, -1e30f)};
  const Vec decay = c.bench.vec(floats(w)), bonus = c.bench.vec(floats(u));
  std::vector<double> expected;
  for (int t = 0; t < c.tokens; ++t) {
    for (int i = 0; i < d; ++i) {
      const auto at = static_cast<std::size_t>(i);
      const double e = std::exp(c.at(t, 0, 0, i) + u[at]);
      double above = e * c.at(t, 1, 0, i), below = e;
      for (int s = 0; s < t; ++s) {
        const double p = std::exp(c.at(s, 0, 0, i) + (t - 1 - s) * w[at]);
        above += p * c.at(s, 1, 0, i);
        below += p;
      }
      expected.push_back(above / below);
    }
  }
  expect_near(c.bench.run([&](Ops& op, Tensor x) {
    return wkv4(op, state, op.slice(x, 0, d), op.slice(x, d, d), decay, bonus);
  }),
              expected);
}

// y[v] = sum_k r[k] (S[k][v] + u[k] k[k] v[v]); S[k][v] = w[k] S[k][v] + k[k] v[v].
std::vector<double> formula56(const WkvCase& c, const std::vector<double>& u,
                              const std::function<double(int t, int h, int n)>& w) {
  const int n = c.size;
  std::vector<double> s(static_cast<std::size_t>(c.heads * n * n)), out;
  for (int t = 0; t < c.tokens; ++t) {
    for (int h = 0; h < c.heads; ++h) {
      std::vector<double> y(static_cast<std::size_t>(n));
      for (int key = 0; key < n; ++key) {
        for (int value = 0; value < n; ++value) {
          double& cell = s[static_cast<std::size_t>((h * n + key) * n + value)];
          const double kv = c.at(t, 1, h, key) * c.at(t, 2, h, value);
          y[static_cast<std::size_t>(value)] +=
              c.at(t, 0, h, key) * (cell + u[static_cast<std::size_t>(h * n + key)] * kv);
          cell = w(t, h, key) * cell + kv;
        }
      }
      out.insert(out.end(), y.begin(), y.end());
    }
  }
  return out;
}

TEST(Wkv, Versions5And6) {
  WkvCase c(4);
  const std::vector<double> u = noise(6, 3);
  std::vector<double> w = noise(6, 9);
  for (double& x : w) x = 0.5 + x / 2;
  const StateRef kv = c.bench.state({c.heads, c.size, c.size});
  const Shape heads{{1, c.heads, c.size}};
  const Vec bonus = c.bench.vec(floats(u), heads), decay = c.bench.vec(floats(w), heads);
  const auto in = [&](Ops& op, Tensor x, int i) { return c.input(op, x, i); };
  expect_near(
      c.bench.run([&](Ops& op, Tensor x) {
        return wkv5(op, kv, in(op, x, 0), in(op, x, 1), in(op, x, 2), decay, bonus);
      }),
      formula56(c, u, [&](int, int h, int n) { return w[static_cast<std::size_t>(h * c.size + n)]; }));

  c.bench.states.slots[0].assign(18, 0);
  expect_near(c.bench.run([&](Ops& op, Tensor x) {
    return wkv6(op, kv, in(op, x, 0), in(op, x, 1), in(op, x, 2), in(op, x, 3), bonus);
  }),
              formula56(c, u, [&](int t, int h, int n) { return c.at(t, 3, h, n); }));
}

TEST(Wkv, Version7ErasesAndWrites) {
  WkvCase c(6);  // r, w, k, v, a, b
  const int n = c.size;
  const StateRef kv = c.bench.state({c.heads, n, n});
  std::vector<double> s(static_cast<std::size_t>(c.heads * n * n)), expected;
  for (int t = 0; t < c.tokens; ++t) {
    for (int h = 0; h < c.heads; ++h) {
      for (int i = 0; i < n; ++i) {  // one row of values
        double* row = s.data() + (h * n + i) * n;
        double sa = 0, y = 0;
        for (int j = 0; j < n; ++j) sa += row[j] * c.at(t, 4, h, j);
        for (int j = 0; j < n; ++j) {
          row[j] = row[j] * c.at(t, 1, h, j) + sa * c.at(t, 5, h, j) + c.at(t, 3, h, i) * c.at(t, 2, h, j);
          y += row[j] * c.at(t, 0, h, j);
        }
        expected.push_back(y);
      }
    }
  }
  const Values found = c.bench.run([&](Ops& op, Tensor x) {
    return wkv7(op, kv, c.input(op, x, 0), c.input(op, x, 1), c.input(op, x, 2), c.input(op, x, 3),
                c.input(op, x, 4), c.input(op, x, 5));
  });
  expect_near(found, expected);
  expect_near(c.bench.states.slots[0], s);
}

TEST(Fused, NormMixInterpolatesWithThePreviousToken) {
  Bench b;
  const StateRef previous = b.state({2});
  b.states.slots[0] = {7, -7};
  const Norm ln{b.vec({2, 1}), b.vec({0.5f, 0})};
  const Mixes<2> mix{b.vec({0, 1}), b.vec({0.25f, 0.5f})};
  b.rows({1, 3, 5, 1}, 2);  // normed: (-1, 1) and (1, -1), nearly
  const double e1 = 1 / std::sqrt(1 + 1e-5), e2 = 2 / std::sqrt(4 + 1e-5);
  const double h[2][2] = {{-2 * e1 + 0.5, e1}, {2 * e2 + 0.5, -e2}};
  const auto part = [&](std::size_t i) {
    b.states.slots[0] = {7, -7};
    return b.run([&](Ops& op, Tensor x) {
      Residual r{x, {}};
      return norm_mix2(op, r, ln, previous, mix)[i];
    });
  };
  expect_near(part(0), {h[0][0], -7, h[1][0], h[0][1]});
  expect_near(part(1), {h[0][0] + (7 - h[0][0]) * 0.25, h[0][1] + (-7 - h[0][1]) * 0.5,
                        h[1][0] + (h[0][0] - h[1][0]) * 0.25, h[1][1] + (h[0][1] - h[1][1]) * 0.5});
}

TEST(Fused, AddNormSettlesTheResidual) {
  Bench b;
  const Norm ln{b.vec({1, 1}), b.vec({0, 0})};
  b.rows({1, 5}, 2);
  const Values sum = b.run([&](Ops& op, Tensor x) {
    Residual r{x, op.affine(x, 2, 0)};
    add_norm(op, r, ln);
    EXPECT_FALSE(r.pending);
    return r.x;
  });
  EXPECT_EQ(sum, (Values{3, 15}));
}

TEST(Fused, ChannelMixesMultiplyTheSquaredRelu) {
  Bench b;
  const Mat key = b.mat({1, 0, 0, 1, 1, 1}, 3, 2), value = b.mat({1, 2, 3, 0, 1, 2}, 2, 3),
            gate = b.mat({0, 0, 1, 1}, 2, 2);
  b.rows({2, -1}, 2);  // key: 2, -1, 1, squared ReLU 4, 0, 1; gate: sigmoid of 0, 1
  expect_near(b.run([&](Ops& op, Tensor x) { return channel_mix(op, x, key, value); }), {7, 2});
  expect_near(b.run([&](Ops& op, Tensor x) { return channel_mix_gated(op, x, x, key, value, gate); }),
              {3.5, 2 / (1 + std::exp(-1.))});
}

TEST(Device, StoresMatricesInTheAskedFormat) {
  const float third = 1.0f / 3;
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    DeviceOptions options;
    options.dtype = dtype;
    Result<std::unique_ptr<Device>> device = reference_backend().create(options);
    ASSERT_TRUE(device.ok());
    Checkpoint file;
    const TensorView view{"w", DType::f32, {1, 1}, {1, 1}, reinterpret_cast<const std::byte*>(&third)};
    const Result<Mat> mat = (*device)->add_matrix(view, MatRole::plain, file);
    ASSERT_TRUE(mat.ok());
    ASSERT_TRUE((*device)->set_state({}, 0, 0).ok());
    ASSERT_TRUE((*device)->reserve_slots(1).ok());
    const float one = 1;
    float y = 0;
    const PortIn in[] = {{port_x, {&one, 1}}};
    const PortOut out[] = {{port_x, {&y, 1}}};
    const Program program{0, [&](Ops& op) { op.output(port_x, op.linear(op.input(port_x, 1), *mat)); }};
    ASSERT_TRUE((*device)->step(program, {{0}, {{0, 0, 1}}, {}}, in, out).ok());
    float expected = third;
    if (dtype == DType::f16) expected = half_to_float(float_to_half(third));
    if (dtype == DType::bf16) expected = bf16_to_float(float_to_bf16(third));
    EXPECT_EQ(y, expected);
  }
  DeviceOptions int8;
  int8.dtype = DType::i8;
  EXPECT_FALSE(reference_backend().create(int8).ok());
}

}  // namespace
}  // namespace fr
