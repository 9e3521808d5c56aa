// Matrix products of every kernel table that this machine runs, and of the emulated ones: against plain
// loops, and the promise that bits do not depend on the number of rows.
#include "backends/cpu/kernels.h"
#include "backends/cpu/test_sample.h"

namespace fr::cpu {
namespace {

class ProductsTest : public testing::TestWithParam<const Kernels*> {
 protected:
  const Kernels& simd() const { return *GetParam(); }
};
INSTANTIATE_TEST_SUITE_P(, ProductsTest, testing::ValuesIn(tested_kernels()), kernels_name);

TEST_P(ProductsTest, ProductsOfAllShapes) {
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

TEST_P(ProductsTest, EveryHalfIsReadExactly) {
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

TEST_P(ProductsTest, BitsDoNotDependOnTheNumberOfRows) {
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
TEST_P(ProductsTest, BlocksKeepTheirNumbers) {
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
TEST_P(ProductsTest, ZerosCanBeLeftOut) {
  for (const DType type : stored_types) {
    for (const int rows : {1, 2, 5, 70}) {
      for (const double zeros : {0.0, 0.3, 0.9, 1.0}) {
        for (const int group : {2, 32}) {
          Sample dense(type, rows, 303, 100, group, zeros), sparse(type, rows, 303, 100, group, zeros);
          simd().product(dense.p, 0, dense.panels);
          sparse.list(simd());
          simd().sparse_product(sparse.p, 0, 1);
          simd().sparse_product(sparse.p, 1, sparse.panels);
          for (int t = 0; t < rows; ++t)
            ASSERT_EQ(sparse.row(t), dense.row(t)) << rows << " rows, " << zeros << " zeros";
        }
      }
    }
  }
}

// Rows of inputs in 8 bits, for p.
std::vector<char> encode(const CodedKernels& coded, const float* x, std::ptrdiff_t ldx, Product& p) {
  p.ld_codes = coded_bytes(p.in);
  std::vector<char> codes(static_cast<std::size_t>(p.rows * p.ld_codes));
  for (int t = 0; t < p.rows; t += coded.height)
    coded.encode(x + t * ldx, ldx, std::min(coded.height, p.rows - t), p.in, codes.data() + t * p.ld_codes);
  p.codes = codes.data();
  return codes;
}
// What is stored of a block of one of `together` rows.
struct Block {
  std::int8_t codes[block_inputs];
  float scale;
  std::int32_t sum;
  float scaled_sum;
};
Block block_of(const char* rows, int together, int row, int b) {
  Block block;
  static_assert(sizeof block == coded_block_bytes);
  for (std::ptrdiff_t word = 0; word < coded_block_bytes / 4; ++word) {
    const std::ptrdiff_t at = b * together * coded_block_bytes + (word * together + row) * 4;
    std::memcpy(reinterpret_cast<char*>(&block) + word * 4, rows + at, 4);
  }
  return block;
}
// The inputs of a sample in 8 bits; s.x becomes what they mean.
std::vector<char> encode(const CodedKernels& coded, Sample& s) {
  std::vector<char> codes = encode(coded, s.x.data(), s.ldx, s.p);
  for (int t = 0; t < s.rows; ++t) {
    const int first = t / coded.height * coded.height, together = std::min(coded.height, s.rows - first);
    for (int k = 0; k < s.in; ++k) {
      const Block block =
          block_of(codes.data() + first * s.p.ld_codes, together, t - first, k / block_inputs);
      s.x[static_cast<std::size_t>(t * s.ldx + k)] =
          block.scale * static_cast<float>(block.codes[k % block_inputs]);
    }
  }
  return codes;
}

TEST_P(ProductsTest, InputsIn8Bits) {
  if (simd().coded == nullptr) GTEST_SKIP() << "no products of integers";
  constexpr int n = 160;
  std::vector<float> x = random_floats(n, 8, 100);
  std::fill(x.begin() + 32, x.begin() + 64, 0.0f);
  x[70] = 1e5f;
  x[100] = -INFINITY;
  x[130] = NAN;
  x.insert(x.end(), x.begin(), x.end());  // twice
  for (const int together : {1, 2}) {
    std::vector<char> rows(static_cast<std::size_t>(together * coded_bytes(n)));
    simd().coded->encode(x.data(), n, together, n, rows.data());
    const auto block = [&](int b) { return block_of(rows.data(), together, together - 1, b); };
    for (int b = 0; b < 3; ++b) {
      const Block got = block(b);
      int sum = 0;
      float most = 0;
      for (int k = 0; k < block_inputs; ++k) {
        const float input = x[static_cast<std::size_t>(b * block_inputs + k)];
        sum += got.codes[k];
        most = std::max(most, std::abs(input));
        EXPECT_LE(std::abs(got.codes[k]), 127);
        EXPECT_LE(std::abs(got.scale * static_cast<float>(got.codes[k]) - input), got.scale * 0.5001f) << k;
      }
      EXPECT_FLOAT_EQ(got.scale, most / 127);
      EXPECT_EQ(got.sum, sum);
      EXPECT_EQ(got.scaled_sum, got.scale * static_cast<float>(sum));
    }
    EXPECT_FALSE(std::isfinite(block(3).scale)) << "infinite inputs are not hidden";
    EXPECT_TRUE(std::isnan(block(4).scale));
  }
}

// Inputs too small to be scaled are zeros; where one is not a number, the scale says so and codes are zeros.
TEST_P(ProductsTest, InputsThatHaveNoCodes) {
  if (simd().coded == nullptr) GTEST_SKIP() << "no products of integers";
  for (const float x0 : {2e-37f, 1e-40f, NAN, INFINITY}) {
    std::vector<float> x(32, 0.0f);
    x[5] = x0;
    std::vector<char> row(static_cast<std::size_t>(coded_bytes(32)), 7);
    simd().coded->encode(x.data(), 32, 1, 32, row.data());
    const Block block = block_of(row.data(), 1, 0, 0);
    for (const std::int8_t code : block.codes) EXPECT_EQ(code, 0) << x0;
    EXPECT_TRUE(std::isfinite(x0) ? block.scale == 0 : std::isnan(block.scale)) << x0;
  }
}

TEST_P(ProductsTest, ProductsOfIntegers) {
  if (simd().coded == nullptr) GTEST_SKIP() << "no products of integers";
  for (const DType type : {DType::q8_0, DType::q4_0, DType::q4_k}) {
    for (const int rows : {1, 2, 3, 5, 8, 9, 20}) {
      for (const auto& [in, out] : {std::pair{32, 1}, {64, 33}, {300, 160}, {1100, 65}}) {
        Sample s(type, rows, in, out, 1);
        const std::vector<char> codes = encode(*simd().coded, s);
        simd().coded->product(s.p, 0, s.panels);
        EXPECT_LE(s.worst_error(1), 5e-6)
            << dtype_name(type) << " " << rows << " rows, " << in << " to " << out;
      }
    }
  }
}

// Rows of weights that meet zeros are left out, or all are read: the same bits. A row of inputs gives the
// same bits alone and beside others.
TEST_P(ProductsTest, RowsOfIntegers) {
  if (simd().coded == nullptr) GTEST_SKIP() << "no products of integers";
  for (const DType type : {DType::q8_0, DType::q4_0, DType::q4_k}) {
    for (const int rows : {1, 2, 5, 70}) {
      for (const double zeros : {0.0, 0.3, 0.9, 1.0}) {
        for (const int group : {2, 32}) {
          Sample s(type, rows, 300, 170, group, zeros);
          const std::vector<float> inputs = s.x;
          const std::vector<char> codes = encode(*simd().coded, s);
          s.list(simd());
          simd().coded->rows_product(s.p, 0, 1);
          simd().coded->rows_product(s.p, 1, s.panels);
          EXPECT_LE(s.worst_error(1), 5e-6)
              << dtype_name(type) << " " << rows << " rows, " << zeros << " zeros";
          Sample dense(type, rows, 300, 170, group, zeros);
          dense.p.codes = codes.data();
          dense.p.ld_codes = s.p.ld_codes;
          simd().coded->product(dense.p, 0, 1);
          simd().coded->product(dense.p, 1, dense.panels);
          EXPECT_EQ(dense.y, s.y) << "with all rows read";
          Sample last(type, rows, 300, 170, group, zeros);
          last.p.nonzero = s.lists.data() + (rows - 1) * (s.in + 1);
          last.p.gate += (rows - 1) * last.ldy;
          last.p.rows = 1;
          const std::vector<char> row =
              encode(*simd().coded, inputs.data() + (rows - 1) * s.ldx, s.ldx, last.p);
          simd().coded->rows_product(last.p, 0, last.panels);
          EXPECT_EQ(last.row(0), s.row(rows - 1)) << "alone";
        }
      }
    }
  }
}

// The largest codes do not overflow what sums them.
TEST_P(ProductsTest, ProductsOfTheLargestIntegers) {
  if (simd().coded == nullptr) GTEST_SKIP() << "no products of integers";
  for (const DType type : {DType::q8_0, DType::q4_0, DType::q4_k}) {
    for (const int group : {1, 2}) {
      Sample s(type, 2, 512, 64, group);
      for (std::size_t i = 0; i < s.values.size(); ++i) s.values[i] = i % 64 < 32 ? -1.0f : 1.0f;
      s.store(type, group);
      s.p.w = s.bits.data();
      for (std::size_t i = 0; i < s.x.size(); ++i) s.x[i] = i % 128 < 64 ? 1.0f : -1.0f;
      const std::vector<char> codes = encode(*simd().coded, s);
      s.list(simd());
      (group == 1 ? simd().coded->product : simd().coded->rows_product)(s.p, 0, s.panels);
      EXPECT_LE(s.worst_error(1), 5e-6) << dtype_name(type);
    }
  }
}

TEST_P(ProductsTest, BitsOfIntegerProductsDoNotDependOnTheNumberOfRows) {
  if (simd().coded == nullptr) GTEST_SKIP() << "no products of integers";
  for (const DType type : {DType::q8_0, DType::q4_0, DType::q4_k}) {
    Sample all(type, 40, 512, 170, 1);
    const std::vector<char> all_codes = encode(*simd().coded, all.x.data(), all.ldx, all.p);
    simd().coded->product(all.p, 0, all.panels);
    for (int first = 0, rows = 1; first + rows <= 40; first += rows, rows = rows % 12 + 1) {
      Sample part(type, 40, 512, 170, 1);
      part.p.y += first * part.ldy;
      part.p.gate += first * part.ldy;
      part.p.rows = rows;
      const std::vector<char> codes =
          encode(*simd().coded, part.x.data() + first * part.ldx, part.ldx, part.p);
      for (int panel = 0; panel < part.panels; ++panel) simd().coded->product(part.p, panel, panel + 1);
      for (int t = first; t < first + rows; ++t) EXPECT_EQ(part.row(t), all.row(t)) << t;
    }
  }
}

// Tiles: inputs and weights in bf16; with fp16 weights both in two parts.
TEST_P(ProductsTest, ProductsOfTiles) {
  if (simd().tiles == nullptr) GTEST_SKIP() << "no tiles";
  const auto as_bf16 = [](float x) { return bf16_to_float(float_to_bf16(x)); };
  for (const DType type : {DType::f16, DType::bf16, DType::q8_0, DType::q4_0, DType::q4_k}) {
    if (type != DType::bf16 && simd().tiles->least_blocks == never) continue;
    for (const int rows : {1, 15, 16, 17, 32, 33, 70}) {
      for (const auto& [in, out] : {std::pair{1, 1}, {7, 33}, {128, 32}, {131, 70}, {1100, 65}}) {
        for (const int group : {1, 32}) {
          Sample s(type, rows, in, out, group);
          const std::ptrdiff_t ld = tiled_bytes(s.p.type, s.in);
          std::vector<char> tiles(static_cast<std::size_t>(rows * ld), 0x55);
          for (int t = 0; t < rows; t += 16)
            simd().tiles->prepare(s.p.x + t * s.ldx, s.ldx, std::min(16, rows - t), s.in,
                                  input_parts(s.p.type), tiles.data() + t * ld);
          AlignedBuffer scratch =
              std::move(AlignedBuffer::allocate(tile_scratch_floats * sizeof(float), "tiles")).value();
          s.p.codes = tiles.data();
          s.p.ld_codes = ld;
          s.p.tile = scratch.as<float>();
          if (type != DType::f16) {
            for (float& x : s.x) x = as_bf16(x);
            for (float& w : s.values) w = as_bf16(w);
          }
          simd().tiles->product(s.p, 0, 1);
          simd().tiles->product(s.p, 1, s.panels);
          // A block's number that lies between two bf16 ones may go either way.
          EXPECT_LE(s.worst_error(1), type == DType::f16    ? 3e-5
                                      : type == DType::bf16 ? 5e-6
                                                            : 4e-4)
              << dtype_name(type) << " " << rows << " rows, " << in << " to " << out;
          for (int t = 0; t < rows; ++t) {
            for (std::ptrdiff_t c = s.panels * panel_cols; c < s.ldy; ++c)
              ASSERT_EQ(s.y[static_cast<std::size_t>(t * s.ldy + c)], -7.0f) << "wrote beside the row";
          }
        }
      }
    }
  }
}

// A NaN of any bits makes its output NaN, the others not.
TEST_P(ProductsTest, TilesKeepNaN) {
  if (simd().tiles == nullptr || simd().tiles->least_f16 == never) GTEST_SKIP() << "no tiles for fp16";
  for (const std::uint16_t nan : std::initializer_list<std::uint16_t>{0x7fff, 0xffff, 0x7e00, 0x7c01}) {
    Sample s(DType::f16, 16, 64, 32, 1);
    std::memcpy(s.bits.data(), &nan, sizeof nan);  // input 0, output 0
    const std::ptrdiff_t ld = tiled_bytes(s.p.type, s.in);
    std::vector<char> tiles(static_cast<std::size_t>(16 * ld));
    simd().tiles->prepare(s.p.x, s.ldx, 16, s.in, 2, tiles.data());
    AlignedBuffer scratch =
        std::move(AlignedBuffer::allocate(tile_scratch_floats * sizeof(float), "tiles")).value();
    s.p.codes = tiles.data();
    s.p.ld_codes = ld;
    s.p.tile = scratch.as<float>();
    simd().tiles->product(s.p, 0, 1);
    EXPECT_TRUE(std::isnan(s.row(3)[0])) << nan;
    EXPECT_TRUE(std::isfinite(s.row(3)[1])) << nan;
  }
}

}  // namespace
}  // namespace fr::cpu
