// Packing of matrices and their products: every storage format, size and path against plain loops in double.
#include <cstring>
#include <span>
#include <utility>

#include "backends/cuda/pack.h"
#include "backends/cuda/test_gpu.h"
#include "base/quant.h"
#include "core/storage.h"

namespace fr::cuda {
namespace {

constexpr double exact_bound = 2e-6, tf32_bound = 1.5e-3;

// A random matrix as a file has it, and the numbers that it means.
struct FileMatrix {
  std::vector<std::byte> bytes;
  std::vector<float> values;  // [out][in]
  TensorView view;

  FileMatrix(DType type, int out, int in, bool inputs_first = false) {
    const float scale = 1 / std::sqrt(static_cast<float>(in));
    const std::vector<float> numbers =
        random_floats(static_cast<std::size_t>(out) * static_cast<std::size_t>(in), scale);
    const auto count = numbers.size();
    bytes.resize(count / static_cast<std::size_t>(block_size(type)) * dtype_size(type));
    if (is_block_dtype(type)) {
      EXPECT_TRUE(quantise(type, numbers, bytes.data()));
    } else if (type == DType::f32) {
      std::memcpy(bytes.data(), numbers.data(), bytes.size());
    } else {
      for (std::size_t i = 0; i < count; ++i) {
        const std::uint16_t h = type == DType::f16 ? float_to_half(numbers[i]) : float_to_bf16(numbers[i]);
        std::memcpy(bytes.data() + 2 * i, &h, 2);
      }
    }
    view = {"w", type, {out, in}, {in, 1}, bytes.data()};
    if (inputs_first) view.stride = {1, out};
    values.resize(count);
    view.read(0, values);
  }
};

double exact_activation(Activation f, double x) {
  const double sigmoid = 1 / (1 + std::exp(-x));
  switch (f) {
    case Activation::none:
      return x;
    case Activation::tanh:
      return std::tanh(x);
    case Activation::sigmoid:
      return sigmoid;
    case Activation::exp:
      return std::exp(x);
    case Activation::silu:
      return x * sigmoid;
    case Activation::relu2:
      return x > 0 ? x * x : 0;
    case Activation::decay6:
      return std::exp(-std::exp(x));
    case Activation::decay7:
      return std::exp(-double{0.606531f} * sigmoid);
  }
  return x;
}

struct Case {
  Activation act = Activation::none;
  bool bias = true, gate = true;
  MatRole role = MatRole::plain;
  float zeros = 0;  // share of the inputs
  int shift = 0;    // of x behind an aligned address
  bool twice = true;
};

// Runs the product of a packed matrix, whose numbers are `values`, and compares it.
void check(const DeviceMatrix& w, const std::vector<float>& values, int rows, double bound,
           const Case& c = {}) {
  const std::string what = "type " + std::to_string(static_cast<int>(w.type)) + ", " + std::to_string(w.in) +
                           " to " + std::to_string(w.out) + ", " + std::to_string(rows) + " rows, act " +
                           std::to_string(static_cast<int>(c.act)) + (w.transposed ? ", transposed" : "");
  HostRows x(rows, w.in, 1, 0, 4 - w.in % 4, c.shift);
  HostRows bias(1, w.out), gate(rows, w.out);
  std::bernoulli_distribution zero(c.zeros);
  std::int64_t zeros = 0;
  for (int row = 0; row < rows; ++row) {
    for (int k = 0; k < w.in; ++k) {
      if (zero(random_engine())) x.at(row, k) = 0, ++zeros;
    }
  }
  x.upload();
  std::vector<double> exact;
  for (int row = 0; row < rows; ++row) {
    for (int o = 0; o < w.out; ++o) {
      double sum = c.bias ? bias(0, o) : 0;
      for (int k = 0; k < w.in; ++k)
        sum += x(row, k) * double{values[static_cast<std::size_t>(o * w.in + k)]};
      exact.push_back(exact_activation(c.act, sum) * (c.gate ? gate(row, o) : 1));
    }
  }
  const std::size_t scratch_bytes = product_scratch(w, rows);
  OnDevice<std::byte> scratch(scratch_bytes, std::byte{0xff});
  OnDevice<unsigned long long> counter(1, 5);
  const ResultRows y(rows, w.out), again(rows, w.out);
  Product p;
  p.w = w;
  p.x = x.on_device();
  p.rows = rows;
  if (c.bias) p.bias = {bias.on_device().p, 0};
  if (c.gate) p.gate = gate.on_device();
  p.act = c.act;
  p.y = y.on_device();
  p.scratch = scratch.get();
  p.zeros = counter.get();
  product(nullptr, p);
  if (c.twice) {
    p.y = again.on_device();
    p.zeros = nullptr;
    product(nullptr, p);
  }
  expect_ok(cudaGetLastError());
  const std::vector<float> got = y.read();
  expect_near(got, exact, bound, what);
  if (c.twice) {
    EXPECT_EQ(got, again.read()) << what << ": other bits the second time";
  }
  EXPECT_EQ(counter.read()[0], static_cast<unsigned long long>(zeros + 5)) << what;
}

// Of a matrix that the file has in this format.
void check(DType type, int in, int out, const std::vector<int>& rows, const Case& c = {}) {
  const FileMatrix file(type, out, in);
  Weights weights(is_block_dtype(type) ? DType::q8_0 : type);
  const Result<Mat> mat = weights.add_matrix(file.view, c.role, {});
  ASSERT_TRUE(mat) << mat.error().message;
  const DeviceMatrix& w = weights.matrix(mat->id);
  EXPECT_EQ(w.type, weight_type(type));
  EXPECT_EQ(w.transposed, c.role == MatRole::sparse_input && !is_block_dtype(type));
  for (const int n : rows)
    check(w, file.values, n, n > most_exact_rows && type != DType::f32 ? tf32_bound : exact_bound, c);
}

constexpr DType plain_types[] = {DType::f32, DType::f16, DType::bf16};
constexpr DType block_types[] = {DType::q8_0, DType::q4_0, DType::q4_k};

TEST(ProductTest, OddSizes) {
  const int sizes[][2] = {{35, 3}, {3, 77}, {77, 41}, {1, 1}, {34, 130}};
  for (const DType type : plain_types) {
    for (const auto& [in, out] : sizes) {
      for (const MatRole role : {MatRole::plain, MatRole::sparse_input}) {
        check(type, in, out, {1, 3, 8, 19}, {.role = role, .zeros = 0.3f});
      }
    }
  }
}

TEST(ProductTest, UsualSizes) {
  for (const DType type : plain_types) {
    check(type, 128, 96, {1, 2, 4, 7, 16, 40});
    check(type, 512, 128, {5});
  }
  for (const DType type : block_types) check(type, 256, 40, {1, 2, 3, 4, 6, 8, 9, 17, 40});
  for (const DType type : {DType::q8_0, DType::q4_0}) check(type, 96, 35, {1, 4, 10, 33});
}

TEST(ProductTest, LongRowsAreSharedByWarpsAndSlices) {
  check(DType::f32, 4104, 5, {1, 3});
  check(DType::bf16, 4104, 5, {1, 3});
  check(DType::f16, 1032, 10, {1, 2, 8});
  check(DType::q8_0, 4160, 9, {1, 4});
  check(DType::q4_0, 4160, 9, {1, 4});
  check(DType::q4_k, 5120, 9, {1, 4});
  for (const auto& [type, in] : {std::pair{DType::f32, 300}, {DType::f16, 520}, {DType::q4_k, 512}}) {
    check(type, in, 20, {9, 30, 50}, {.twice = false});
    EXPECT_GT(product_scratch({weight_type(type), false, in, 20}, 50), 0u) << "meant to be cut into slices";
  }
}

// The largest tile is for products that fill a card.
TEST(ProductTest, LargeTiles) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "a minute under AddressSanitizer, for a tile of the same code as the smaller ones";
#endif
  check(DType::bf16, 30, 8449, {130}, {.twice = false});
  check(DType::f16, 30, 8449, {130}, {.role = MatRole::sparse_input, .twice = false});
}

TEST(ProductTest, InputsAtAnyAddress) {
  for (const int shift : {1, 2, 3}) {
    for (const DType type : {DType::f32, DType::f16, DType::q4_0})
      check(type, 64, 6, {1, 5, 9}, {.shift = shift});
  }
}

TEST(ProductTest, EveryEpilogue) {
  for (int act = 0; act <= static_cast<int>(Activation::decay7); ++act) {
    for (const bool bias : {false, true}) {
      for (const bool gate : {false, true}) {
        const Case c{static_cast<Activation>(act), bias, gate};
        check(DType::f32, 36, 10, {2, 9}, c);
        check(DType::f16, 40, 10, {9}, c);
        check(DType::f32, 20, 10, {1}, {c.act, bias, gate, MatRole::sparse_input, 0.5f});
      }
    }
  }
}

TEST(ProductTest, SparseInputs) {
  for (const DType type : plain_types) {
    for (const float zeros : {0.0f, 0.86f, 1.0f}) {
      const Case c{Activation::none, true, true, MatRole::sparse_input, zeros};
      check(type, 520, 70, {1, 2, 3, 8}, c);
      check(type, 70, 260, {1, 20}, c);
    }
  }
  check(DType::q8_0, 320, 20, {1, 9}, {.role = MatRole::sparse_input, .zeros = 0.5f});
}

TEST(ProductTest, RowsOfZeroInputsAreNotRead) {
  FileMatrix file(DType::f32, 4, 8);
  for (std::size_t o = 0; o < 4; ++o) {
    const float nan = NAN;
    std::memcpy(file.bytes.data() + (o * 8 + 3) * sizeof nan, &nan, sizeof nan);
  }
  Weights weights(DType::f32);
  const Result<Mat> mat = weights.add_matrix(file.view, MatRole::sparse_input, {});
  ASSERT_TRUE(mat);
  std::vector<float> x(8, 1.0f);
  x[3] = 0;
  const OnDevice<float> inputs(x);
  Product p;
  p.w = weights.matrix(mat->id);
  p.x = {inputs.get(), 8};
  p.rows = 1;
  const OnDevice<std::byte> scratch(product_scratch(p.w, 1));
  const ResultRows y(1, 4);
  p.y = y.on_device();
  p.scratch = scratch.get();
  product(nullptr, p);
  for (const float v : y.read()) EXPECT_TRUE(std::isfinite(v));
}

// The stored numbers, read through products with unit vectors.
std::vector<float> numbers_of(const DeviceMatrix& w) {
  std::vector<float> all(static_cast<std::size_t>(w.in) * static_cast<std::size_t>(w.out));
  constexpr int rows = most_exact_rows;
  const OnDevice<std::byte> scratch(product_scratch(w, rows));
  for (int k = 0; k < w.in; k += rows) {
    std::vector<float> x(static_cast<std::size_t>(rows * w.in));
    for (int row = 0; row < rows && k + row < w.in; ++row)
      x[static_cast<std::size_t>(row * w.in + k + row)] = 1;
    const OnDevice<float> units(x);
    const ResultRows y(rows, w.out);
    Product p;
    p.w = w;
    p.x = {units.get(), w.in};
    p.rows = rows;
    p.y = y.on_device();
    p.scratch = scratch.get();
    product(nullptr, p);
    const std::vector<float> got = y.read();
    for (int row = 0; row < rows && k + row < w.in; ++row) {
      for (int o = 0; o < w.out; ++o)
        all[static_cast<std::size_t>(o * w.in + k + row)] = got[static_cast<std::size_t>(row * w.out + o)];
    }
  }
  return all;
}

TEST(PackTest, StoredNumbersAreThoseOfTheFile) {
  for (const DType type : {DType::f32, DType::f16, DType::bf16, DType::q8_0, DType::q4_0, DType::q4_k}) {
    const FileMatrix file(type, 5, type == DType::q4_k ? 256 : 64);
    Weights weights(is_block_dtype(type) ? DType::q4_k : type);
    const Result<Mat> mat = weights.add_matrix(file.view, MatRole::plain, {});
    ASSERT_TRUE(mat);
    EXPECT_EQ(numbers_of(weights.matrix(mat->id)), file.values) << dtype_name(type);
  }
}

TEST(PackTest, Conversions) {
  for (const bool inputs_first : {false, true}) {
    const FileMatrix file(DType::f32, 37, 32, inputs_first);
    for (const DType asked : {DType::f32, DType::f16, DType::bf16, DType::q8_0, DType::q4_k}) {
      for (const MatRole role : {MatRole::plain, MatRole::sparse_input, MatRole::low_rank, MatRole::head}) {
        Weights weights(asked);
        const Result<Mat> mat = weights.add_matrix(file.view, role, {});
        ASSERT_TRUE(mat);
        const DType stored = stored_dtype(asked, role, file.view);
        EXPECT_EQ(weights.matrix(mat->id).type, weight_type(stored));
        std::vector<float> expected = file.values;
        if (is_block_dtype(stored)) {
          std::vector<std::byte> blocks(expected.size() / 32 * dtype_size(stored));
          ASSERT_TRUE(quantise(stored, file.values, blocks.data()));
          dequantise(stored, blocks.data(), expected);
        } else if (stored != DType::f32) {
          for (float& v : expected)
            v = stored == DType::f16 ? half_to_float(float_to_half(v)) : bf16_to_float(float_to_bf16(v));
        }
        EXPECT_EQ(numbers_of(weights.matrix(mat->id)), expected) << dtype_name(asked) << inputs_first;
      }
    }
  }
}

TEST(PackTest, EmbeddingsKeepTheFilesNumbersWithoutPadding) {
  for (const DType type : plain_types) {
    const FileMatrix file(type, 6, 35);
    Weights weights(DType::q4_k);
    const Result<Mat> mat = weights.add_matrix(file.view, MatRole::embedding, {});
    ASSERT_TRUE(mat);
    const DeviceMatrix& w = weights.matrix(mat->id);
    EXPECT_EQ(w.type, weight_type(type));
    std::vector<std::byte> bytes(file.bytes.size());
    expect_ok(cudaMemcpy(bytes.data(), w.codes, bytes.size(), cudaMemcpyDeviceToHost));
    EXPECT_EQ(bytes, file.bytes);
  }
  const FileMatrix blocks(DType::q8_0, 3, 64);
  Weights weights(DType::q8_0);
  ASSERT_TRUE(weights.add_matrix(blocks.view, MatRole::embedding, {}));
  EXPECT_EQ(weights.matrix(0).type, WeightType::f16);
  std::vector<std::uint16_t> halves(blocks.values.size());
  expect_ok(cudaMemcpy(halves.data(), weights.matrix(0).codes, 2 * halves.size(), cudaMemcpyDeviceToHost));
  for (std::size_t i = 0; i < halves.size(); ++i) EXPECT_EQ(halves[i], float_to_half(blocks.values[i]));
}

TEST(PackTest, VectorsAndBytes) {
  Weights weights(DType::f16);
  const std::vector<float> values = random_floats(77);
  const Result<Tensor> a = weights.add_vector(values, {{1, 7, 11}}),
                       b = weights.add_vector(values, {{1, 1, 77}});
  ASSERT_TRUE(a && b);
  EXPECT_EQ(b->id, 1);
  EXPECT_EQ(weights.vectors(), 2);
  std::vector<float> back(values.size());
  expect_ok(cudaMemcpy(back.data(), weights.vector(1), back.size() * sizeof(float), cudaMemcpyDeviceToHost));
  EXPECT_EQ(back, values);
  EXPECT_EQ(weights.bytes(), 2 * 512);
  weights.finish();
  EXPECT_TRUE(weights.add_vector(values, {{1, 1, 77}}));  // starts again by itself
}

TEST(PackTest, NumbersThatDoNotFit) {
  FileMatrix file(DType::f32, 4, 64);
  const float large = 1e6f;
  std::memcpy(file.bytes.data() + 400, &large, sizeof large);
  for (const MatRole role : {MatRole::plain, MatRole::sparse_input}) {
    Weights weights(DType::f16);
    const Result<Mat> mat = weights.add_matrix(file.view, role, {});
    ASSERT_FALSE(mat);
    EXPECT_EQ(mat.error().code, ErrorCode::invalid_file);
    EXPECT_NE(mat.error().message.find("tensor w"), std::string::npos);
    EXPECT_TRUE(Weights(DType::bf16).add_matrix(file.view, role, {}));
  }
}

TEST(PackTest, OutOfMemory) {
  FileMatrix file(DType::f16, 1, 1 << 20);
  TensorView huge = file.view;  // two terabytes: one row, again and again
  huge.shape[0] = 1 << 20;
  huge.stride[0] = 0;
  Weights weights(DType::f16);
  const Result<Mat> mat = weights.add_matrix(huge, MatRole::plain, {});
  ASSERT_FALSE(mat);
  EXPECT_EQ(mat.error().code, ErrorCode::runtime);
  const std::string& message = mat.error().message;
  EXPECT_TRUE(message.starts_with("tensor w: need 2199024 MB, have ")) << message;
  EXPECT_TRUE(message.ends_with(" MB free (cuda:0): try int8 or int4, or leave layers on the cpu"))
      << message;
  EXPECT_EQ(cudaGetLastError(), cudaSuccess) << "the error is reported once";
  EXPECT_TRUE(weights.add_matrix(file.view, MatRole::plain, {})) << "the failure has left nothing behind";
}

}  // namespace
}  // namespace fr::cuda
