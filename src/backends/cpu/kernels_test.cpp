// Every kernel table that this machine runs, and the emulated AVX-512 one: elementary functions against
// double precision, products against plain loops, and the promise that bits do not depend on the number of
// rows.
#include "backends/cpu/kernels.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "backends/cpu/pack.h"
#include "backends/cpu/recording.h"
#include "backends/cpu/test_net.h"
#include "base/aligned_buffer.h"
#include "base/dtype.h"
#include "base/quant.h"

namespace fr::cpu {
namespace {

class KernelsTest : public testing::TestWithParam<const Kernels*> {
 protected:
  const Kernels& simd() const { return *GetParam(); }
};
INSTANTIATE_TEST_SUITE_P(, KernelsTest, testing::ValuesIn(tested_kernels()), kernels_name);

// Distance from the exact value in units in the last place of the float nearest to it (subnormal units
// included).
double ulps(float got, double exact) {
  if (std::isnan(exact)) return std::isnan(got) ? 0 : INFINITY;
  const float nearest = static_cast<float>(exact);
  if (std::isinf(nearest) || std::isinf(got)) return got == nearest ? 0 : INFINITY;
  const float magnitude = std::abs(nearest);
  const double unit = double{std::nextafter(magnitude, INFINITY)} - double{magnitude};
  return std::abs(double{got} - exact) / unit;
}

std::vector<float> arguments(float limit) {
  std::vector<float> x{0.0f,  -0.0f,    1e-45f,    -1e-45f, 1e-38f, -1e-38f,
                       1e-6f, INFINITY, -INFINITY, NAN,     1e30f,  -1e30f};
  std::mt19937 random(1);
  std::uniform_real_distribution<float> flat(-limit, limit), exponent(-40, 5);
  for (int i = 0; i < 20000; ++i) x.push_back(flat(random));
  for (int i = 0; i < 4000; ++i) x.push_back((i % 2 == 0 ? 1.0f : -1.0f) * std::exp2(exponent(random)));
  for (int i = -4000; i <= 4000; ++i) x.push_back(limit * static_cast<float>(i) / 4000);
  return x;
}

double worst(const Kernels& simd, Epilogue act, float limit, double (*exact)(double)) {
  const std::vector<float> x = arguments(limit);
  std::vector<float> y(x.size());
  simd.activate(act, x.data(), y.data(), static_cast<int>(x.size()));
  double most = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double error = ulps(y[i], exact(double{x[i]}));
    if (error > most) most = error;
    EXPECT_LE(error, 4) << "at " << x[i] << ": " << y[i] << " for " << exact(double{x[i]});
    if (error > 4) break;
  }
  return most;
}

double exact_sigmoid(double x) { return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x)); }

TEST_P(KernelsTest, ExpIsWithinTwoUlps) {
  EXPECT_LE(worst(simd(), Epilogue::exp, 120, [](double x) { return std::exp(x); }), 2);
}
TEST_P(KernelsTest, SigmoidAndTanhAreAccurate) {
  EXPECT_LE(worst(simd(), Epilogue::sigmoid, 120, &exact_sigmoid), 3);
  EXPECT_LE(worst(simd(), Epilogue::tanh, 12, [](double x) { return std::tanh(x); }), 3);
}

TEST_P(KernelsTest, OtherActivations) {
  const auto absolute = [&](Epilogue act, double (*exact)(double)) {
    double most = 0;
    std::vector<float> x, y;
    for (int i = -3000; i <= 3000; ++i) x.push_back(static_cast<float>(i) / 100);
    y.resize(x.size());
    simd().activate(act, x.data(), y.data(), static_cast<int>(x.size()));
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double e = exact(double{x[i]});
      most = std::max(most, std::abs(double{y[i]} - e) / std::max(1.0, std::abs(e)));
    }
    return most;
  };
  EXPECT_EQ(absolute(Epilogue::none, [](double x) { return x; }), 0);
  EXPECT_LE(absolute(Epilogue::silu, [](double x) { return x * exact_sigmoid(x); }), 3e-7);
  EXPECT_LE(absolute(Epilogue::relu2, [](double x) { return x > 0 ? x * x : 0; }), 1e-7);
  EXPECT_LE(absolute(Epilogue::decay6, [](double x) { return std::exp(-std::exp(x)); }), 3e-7);
  EXPECT_LE(
      absolute(Epilogue::decay7, [](double x) { return std::exp(-double{0.606531f} * exact_sigmoid(x)); }),
      3e-7);
}

// A shorter call gives the same bits: the tail of a row is not computed otherwise.
TEST_P(KernelsTest, TailsHaveTheSameBits) {
  const std::vector<float> x = random_floats(67, 2);
  std::vector<float> all(x.size()), part(x.size());
  for (const Epilogue act : {Epilogue::tanh, Epilogue::sigmoid, Epilogue::exp, Epilogue::decay6}) {
    simd().activate(act, x.data(), all.data(), 67);
    for (int n = 0; n < 67; ++n) {
      std::fill(part.begin(), part.end(), -7.0f);
      simd().activate(act, x.data(), part.data(), n);
      EXPECT_TRUE(std::equal(part.begin(), part.begin() + n, all.begin())) << n;
      EXPECT_EQ(part[static_cast<std::size_t>(n)], -7.0f) << "wrote beyond the end";
    }
  }
}

constexpr DType stored_types[] = {DType::f32, DType::f16, DType::bf16, DType::q8_0, DType::q4_0, DType::q4_k};

// The next number of inputs that the format can store.
int whole_blocks(DType type, int in) {
  const int n = static_cast<int>(block_size(type));
  return (in + n - 1) / n * n;
}

ThreadPool& pool() {
  static const std::unique_ptr<ThreadPool> one = std::move(ThreadPool::create(1)).value();
  return *one;
}

// A packed matrix of random numbers with everything around it, and the same product in double.
struct Sample {
  Sample(DType type, int rows_, int in_, int out_, int group, double zeros = 0)
      : rows(rows_), in(whole_blocks(type, in_)), out(out_), panels((out_ + panel_cols - 1) / panel_cols) {
    values = random_floats(index(in * out), 3);
    store(type, group);
    ldx = row_stride(in);
    ldy = row_stride(out);
    x = random_floats(index(rows) * static_cast<std::size_t>(ldx), 4);
    std::mt19937 random(5);
    for (float& v : x) {
      if (std::uniform_real_distribution<double>(0, 1)(random) < zeros) v = 0;
    }
    bias = random_floats(static_cast<std::size_t>(ldy), 6);
    gate = random_floats(static_cast<std::size_t>(rows * ldy), 7);
    y.assign(static_cast<std::size_t>(rows * ldy), -7.0f);
    lists.resize(index(rows * (in + 1)));
    tile = std::move(AlignedBuffer::allocate(tile_floats * sizeof(float), "tile")).value();
    p = Product{weight_type(type), bits.data(), panels,   group,       in,
                x.data(),          ldx,         rows,     bias.data(), Epilogue::silu,
                gate.data(),       ldy,         y.data(), ldy,         tile.as<float>(),
                lists.data(),      in + 1};
  }
  static std::size_t index(int i) { return static_cast<std::size_t>(i); }

  // Replaces the values by what `type` holds of them, and packs that.
  void store(DType type, int group) {
    const auto blocks = values.size() / static_cast<std::size_t>(block_size(type));
    std::vector<std::byte> bytes(blocks * dtype_size(type));
    if (is_block_dtype(type)) {
      ASSERT_TRUE(quantise(type, values, bytes.data()));
    }
    for (std::size_t i = 0; i < values.size() && !is_block_dtype(type); ++i) {
      const std::uint16_t h = type == DType::f16 ? float_to_half(values[i]) : float_to_bf16(values[i]);
      std::memcpy(bytes.data() + i * dtype_size(type),
                  type == DType::f32 ? static_cast<void*>(&values[i]) : const_cast<std::uint16_t*>(&h),
                  dtype_size(type));
    }
    const TensorView w{"w", type, {out, in}, {in, 1}, bytes.data()};
    w.read(0, values);
    PackedMatrix m;
    m.type = weight_type(type);
    m.in = in;
    m.out = out;
    m.panels = panels;
    m.group = group;
    bits.assign(static_cast<std::size_t>(packed_bytes(m.type, panels * panel_cols, in)), std::byte{0x55});
    ASSERT_TRUE(pack(w, type, m, pool(), bits.data()));
  }

  double exact(int row, int c) const {
    double sum = 0;
    for (int k = 0; k < in; ++k) {
      sum += double{x[static_cast<std::size_t>(row * ldx + k)]} *
             double{values[static_cast<std::size_t>(c * in + k)]};
    }
    sum += double{bias[static_cast<std::size_t>(c)]};
    return sum * exact_sigmoid(sum) * double{gate[static_cast<std::size_t>(row * ldy + c)]};
  }
  // Relative to the largest output, or to `least` where all outputs are smaller: silu of a sum far below zero
  // makes the sum's rounding look large.
  double worst_error(double least = 0) const {
    double most = 0, largest = least;
    for (int t = 0; t < rows; ++t) {
      for (int c = 0; c < out; ++c) {
        most = std::max(most, std::abs(double{y[static_cast<std::size_t>(t * ldy + c)]} - exact(t, c)));
        largest = std::max(largest, std::abs(exact(t, c)));
      }
    }
    return most / largest;
  }
  std::vector<float> row(int t) const { return {y.begin() + t * ldy, y.begin() + t * ldy + out}; }

  int rows, in, out, panels;
  std::ptrdiff_t ldx = 0, ldy = 0;
  std::vector<float> values, x, bias, gate, y;  // values: [out][in], as stored
  std::vector<int> lists;
  std::vector<std::byte> bits;
  AlignedBuffer tile;
  Product p{};
};

TEST_P(KernelsTest, ProductsOfAllShapes) {
  for (const DType type : stored_types) {
    for (const int rows : {1, 2, 3, 4, 5, 7, 13, 25, 30}) {
      for (const auto& [in, out] : {std::pair{1, 1}, {7, 33}, {128, 32}, {131, 70}, {300, 160}, {1100, 65}}) {
        for (const int group : {1, 2, 32}) {
          Sample s(type, rows, in, out, group);
          simd().product(s.p, 0, s.panels);
          // Blocks round once more than plain numbers: the code times the scale, plus the offset.
          EXPECT_LE(is_block_dtype(type) ? s.worst_error(1) : s.worst_error(),
                    is_block_dtype(type) ? 5e-6 : 3e-6)
              << dtype_name(type) << " " << rows << " rows, " << in << " to " << out;
        }
      }
    }
  }
}

TEST_P(KernelsTest, EveryHalfIsReadExactly) {
  for (const WeightType type : {WeightType::f16, WeightType::bf16}) {
    std::vector<std::uint16_t> all(65536);
    for (std::size_t i = 0; i < all.size(); ++i) {
      const int column = static_cast<int>(i) % panel_cols;
      all[i - static_cast<std::size_t>(column) + static_cast<std::size_t>(stored_column(type, column))] =
          static_cast<std::uint16_t>(i);
    }
    const float one = 1;
    std::vector<float> y(all.size());
    const int panels = static_cast<int>(all.size()) / panel_cols;
    const Product p{type,           all.data(), panels, 1,        1, &one,    0,       1, nullptr,
                    Epilogue::none, nullptr,    0,      y.data(), 0, nullptr, nullptr, 0};
    simd().product(p, 0, panels);
    for (std::size_t i = 0; i < all.size(); ++i) {
      const float expected = type == WeightType::f16 ? half_to_float(static_cast<std::uint16_t>(i))
                                                     : bf16_to_float(static_cast<std::uint16_t>(i));
      if (std::isnan(expected)) {
        EXPECT_TRUE(std::isnan(y[i])) << i;
      } else {
        EXPECT_EQ(y[i], expected) << i;
      }
    }
  }
}

TEST_P(KernelsTest, BitsDoNotDependOnTheNumberOfRows) {
  for (const DType type : stored_types) {
    for (const int group : {1, 2, 32}) {
      Sample all(type, 40, 301, 75, group);
      simd().product(all.p, 0, all.panels);
      for (int first = 0, rows = 1; first + rows <= 40; first += rows, rows = rows % 12 + 1) {
        Sample part(type, 40, 301, 75, group);
        part.p.x += first * part.ldx;
        part.p.y += first * part.ldy;
        part.p.gate += first * part.ldy;
        part.p.rows = rows;
        for (int panel = 0; panel < part.panels; ++panel) simd().product(part.p, panel, panel + 1);
        for (int t = first; t < first + rows; ++t) EXPECT_EQ(part.row(t), all.row(t)) << t;
      }
    }
  }
}

// One input at a time, a product gives the very numbers that the file's blocks mean.
TEST_P(KernelsTest, BlocksKeepTheirNumbers) {
  for (const DType type : {DType::q8_0, DType::q4_0, DType::q4_k}) {
    for (const int group : {1, 4}) {
      Sample s(type, 1, 600, 130, group);
      s.p.act = Epilogue::none;
      s.p.bias = s.p.gate = nullptr;
      for (int k = 0; k < s.in; ++k) {
        std::fill(s.x.begin(), s.x.end(), 0.0f);
        s.x[static_cast<std::size_t>(k)] = 1;
        simd().product(s.p, 0, s.panels);
        for (int c = 0; c < s.out; ++c) {
          ASSERT_EQ(s.y[static_cast<std::size_t>(c)], s.values[static_cast<std::size_t>(c * s.in + k)])
              << dtype_name(type) << ", output " << c << ", input " << k;
        }
      }
    }
  }
}

// Leaving out zero inputs gives the very bits of the dense product.
TEST_P(KernelsTest, ZerosCanBeLeftOut) {
  for (const DType type : stored_types) {
    for (const int rows : {1, 2, 5, 70}) {
      for (const double zeros : {0.0, 0.3, 0.9, 1.0}) {
        for (const int group : {2, 32}) {
          Sample dense(type, rows, 303, 100, group, zeros), sparse(type, rows, 303, 100, group, zeros);
          simd().product(dense.p, 0, dense.panels);
          for (int t = 0; t < rows; ++t)
            simd().nonzero(sparse.p.x + t * sparse.ldx, sparse.in, sparse.lists.data() + t * (sparse.in + 1));
          simd().sparse_product(sparse.p, 0, 1);
          simd().sparse_product(sparse.p, 1, sparse.panels);
          for (int t = 0; t < rows; ++t)
            ASSERT_EQ(sparse.row(t), dense.row(t)) << rows << " rows, " << zeros << " zeros";
        }
      }
    }
  }
}

TEST_P(KernelsTest, NonzeroListsWhatIsNot) {
  const float x[] = {0, 1, 0, 0, -0.0f, 1e-45f, 0, 0, 0, NAN, 0, 3};
  int list[13];
  simd().nonzero(x, 12, list);
  EXPECT_EQ((std::vector<int>{list, list + 5}), (std::vector<int>{4, 1, 5, 9, 11}));
  simd().nonzero(x, 1, list);
  EXPECT_EQ(list[0], 0);
}

}  // namespace
}  // namespace fr::cpu
