// The cpu backend against the reference: every fused op and primitive on random ragged batches, for every
// kernel table; and the promise that the bits are the same for every batching, chunking and number of
// threads.
#include <gtest/gtest.h>

#include <cmath>

#include "backends/cpu/test_net.h"

namespace fr::cpu {
namespace {

// Bounds of the largest difference (relative to numbers above 1) and of the relative L2 distance.
struct Bounds {
  double most = 3e-4, l2 = 2e-5;
};

void expect_close(const std::vector<float>& got, const std::vector<float>& expected, const std::string& what,
                  Bounds bounds) {
  ASSERT_EQ(got.size(), expected.size()) << what;
  double most = 0, difference = 0, total = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_TRUE(std::isfinite(got[i])) << what << " at " << i;
    const double d = double{got[i]} - double{expected[i]};
    most = std::max(most, std::abs(d) / std::max(1.0, std::abs(double{expected[i]})));
    difference += d * d;
    total += double{expected[i]} * double{expected[i]};
  }
  EXPECT_LE(most, bounds.most) << what;
  EXPECT_LE(std::sqrt(difference), bounds.l2 * std::sqrt(total) + 1e-30) << what;
}

void expect_close(const Outputs& got, const Outputs& expected, const std::string& what, Bounds bounds) {
  expect_close(got.x, expected.x, what + ", x", bounds);
  expect_close(got.pending, expected.pending, what + ", pending", bounds);
  expect_close(got.v_first, expected.v_first, what + ", v_first", bounds);
  expect_close(got.hidden, expected.hidden, what + ", hidden", bounds);
  expect_close(got.logits, expected.logits, what + ", logits", bounds);
}

void compare_with_reference(const Net& net, Emit emit, const CpuOptions& options, const std::string& what,
                            Bounds bounds = {}) {
  auto reference = reference_backend().create(options.device);
  ASSERT_TRUE(reference.ok());
  Runner oracle(std::move(reference).value(), net, emit), tested = make_cpu(net, emit, options);
  oracle.program_sliced = tested.program_sliced;
  const int vocab = net.size.vocab;
  unsigned seed = 1;
  for (const Batch& b : {make_batch({{2, 3}, {0, 1}, {1, 9}}, vocab),
                         make_batch({{0, 1}, {1, 1}, {2, 1}}, vocab, 3), make_batch({{3, 1}}, vocab, 5),
                         make_batch({{1, 33}}, vocab, 2), make_batch({{0, 2}, {3, 18}}, vocab, 9)}) {
    const std::vector<float> pending = pending_of(b, net, ++seed);
    expect_close(tested.step(b, pending), oracle.step(b, pending), what + ", step " + std::to_string(seed),
                 bounds);
  }
  for (int slot = 0; slot < 4; ++slot)
    expect_close(tested.state(slot), oracle.state(slot), what + ", state", bounds);
}

class CpuOpsTest : public testing::TestWithParam<const Kernels*> {
 protected:
  // Inputs of products are not rounded.
  CpuOptions options(DType dtype = DType::f32, int threads = 2) const {
    return {{dtype, threads, 0, true}, GetParam(), false, 128};
  }
};
INSTANTIATE_TEST_SUITE_P(, CpuOpsTest, testing::ValuesIn(tested_kernels()), kernels_name);

TEST_P(CpuOpsTest, FusedOpsEqualTheReference) {
  for (const Sizes& size : {odd_size, usual_size, small_heads, head_40, head_32}) {
    const std::string name = "width " + std::to_string(size.d);
    compare_with_reference(Net(size), &emit_mixes, options(), "mixes, " + name);
    compare_with_reference(Net(size), &emit_products, options(), "products, " + name);
    compare_with_reference(Net(size), &emit_wkv, options(), "wkv, " + name);
  }
}

TEST_P(CpuOpsTest, PrimitivesEqualTheReference) {
  for (const Sizes& size : {odd_size, usual_size}) {
    compare_with_reference(Net(size), &emit_primitives, options(), "primitives");
    compare_with_reference(Net(size), &emit_scan, options(), "scan");
  }
}

TEST_P(CpuOpsTest, ExpansionsEqualTheReference) {
  CpuOptions expanded = options();
  expanded.expand_all = true;
  for (const Sizes& size : {odd_size, usual_size}) {
    compare_with_reference(Net(size), &emit_mixes, expanded, "mixes");
    compare_with_reference(Net(size), &emit_products, expanded, "products");
    compare_with_reference(Net(size), &emit_wkv, expanded, "wkv");
  }
}

TEST_P(CpuOpsTest, EveryStoredFormat) {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    for (const DType file : {DType::f32, DType::f16, DType::bf16}) {
      const std::string what = std::string(dtype_name(file)) + " as " + std::string(dtype_name(dtype));
      compare_with_reference(Net(odd_size, file), &emit_products, options(dtype), what);
    }
  }
}

// int8 and int4 store the same blocks as the reference, from any file; of blocks that lie along the outputs
// (transposed matrices) and of those that the backend has no kernels for, too.
TEST_P(CpuOpsTest, EveryBlockFormat) {
  for (const DType dtype : {DType::f32, DType::q8_0, DType::q4_k}) {
    for (const DType file : {DType::f32, DType::bf16, DType::q8_0, DType::q4_0, DType::q4_k}) {
      if (dtype == DType::f32 && is_float_dtype(file)) continue;
      const std::string what = std::string(dtype_name(file)) + " as " + std::string(dtype_name(dtype));
      compare_with_reference(Net(with_blocks, file), &emit_products, options(dtype), what);
    }
    compare_with_reference(Net(odd_size), &emit_products, options(dtype), "rows that are no blocks");
  }
}

// Rounded inputs: to 8 bits where weights are blocks, to bf16 where there are tiles (fp16 weights: to 16
// bits).
TEST_P(CpuOpsTest, RoundedInputsStayClose) {
  const auto rounding = [&](DType dtype) {
    CpuOptions o = options(dtype);
    o.device.exact_activations = false;
    return o;
  };
  for (const DType dtype : {DType::q8_0, DType::q4_k}) {
    compare_with_reference(Net(with_blocks), &emit_products, rounding(dtype), "blocks", {0.1, 2e-2});
    compare_with_reference(Net(one_panel), &emit_products, rounding(dtype), "one panel", {0.1, 2e-2});
  }
  for (const Sizes& size : {odd_size, usual_size}) {
    compare_with_reference(Net(size), &emit_products, rounding(DType::f32), "fp32");
    compare_with_reference(Net(size), &emit_products, rounding(DType::f16), "fp16", {1e-3, 1e-4});
    compare_with_reference(Net(size), &emit_products, rounding(DType::bf16), "bf16", {0.1, 1e-2});
  }
}

// With few panels and many rows, rows are cut into blocks, so that there is work for all threads.
TEST_P(CpuOpsTest, BlocksOfRows) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::q8_0, DType::q4_k}) {
    for (const Sizes& size : {with_blocks, one_panel}) {
      const Net net(size, DType::bf16);
      const Batch b = make_batch({{0, 153}}, size.vocab);
      const std::vector<float> pending = pending_of(b, net, 1);
      CpuOptions o = options(dtype, 1);
      o.device.exact_activations = false;
      o.most_rows = 300;
      auto reference = reference_backend().create(o.device);
      ASSERT_TRUE(reference.ok());
      Runner one = make_cpu(net, &emit_products, o),
             oracle(std::move(reference).value(), net, &emit_products);
      oracle.program_sliced = one.program_sliced;
      const Outputs expected = one.step(b, pending);
      expect_close(expected, oracle.step(b, pending), dtype_name(dtype).data(), {0.1, 2e-2});
      for (const int threads : {2, 3}) {
        o.device.threads = threads;
        Runner several = make_cpu(net, &emit_products, o);
        EXPECT_EQ(several.step(b, pending), expected) << dtype_name(dtype) << ", " << threads << " threads";
      }
    }
  }
}

TEST_P(CpuOpsTest, CountsNativeAndExpandedOps) {
  const Batch b = make_batch({{0, 2}}, odd_size.vocab);
  for (const Emit emit : {&emit_mixes, &emit_products, &emit_wkv}) {
    const Net net(odd_size);
    CpuOptions o = options();
    Runner native = make_cpu(net, emit, o);
    native.step(b, pending_of(b, net, 1));
    EXPECT_EQ(native.dev->last_counts().expanded, 0);
    EXPECT_GT(native.dev->last_counts().native, 0);
    o.expand_all = true;
    Runner expanded = make_cpu(net, emit, o);
    expanded.step(b, pending_of(b, net, 1));
    EXPECT_EQ(expanded.dev->last_counts().native, 0);
    EXPECT_GE(expanded.dev->last_counts().expanded, native.dev->last_counts().native);
  }
}

// The same tokens of slots 0 to 2 in one batch, one by one, in pieces, with other threads and cut by the
// device: always the same bits.
void expect_same_bits(const Net& net, Emit emit, const CpuOptions& options) {
  constexpr int rows = 37;
  const auto with_threads = [&](int threads) {
    CpuOptions o = options;
    o.device.threads = threads;
    return o;
  };
  const std::size_t d = static_cast<std::size_t>(net.size.d);
  const Batch all = make_batch({{0, rows}, {1, 1}, {2, 5}}, net.size.vocab);
  const std::vector<float> pending = pending_of(all, net, 1);
  Runner once = make_cpu(net, emit, with_threads(1));
  const Outputs expected = once.step(all, pending);

  for (const int threads : {2, 3}) {
    Runner threaded = make_cpu(net, emit, with_threads(threads));
    EXPECT_EQ(threaded.step(all, pending), expected) << threads << " threads";
    EXPECT_EQ(threaded.state(0), once.state(0));
  }
  CpuOptions cut_options = options;
  cut_options.most_rows = 16;
  Runner cut = make_cpu(net, emit, cut_options);
  EXPECT_EQ(cut.step(all, pending), expected) << "cut by the device";
  EXPECT_EQ(cut.state(0), once.state(0));

  Runner pieces = make_cpu(net, emit, options);
  Outputs got;
  for (int begin = 0, count = 1; begin < rows; begin += count, count = std::min(count + 3, rows - begin)) {
    Batch b;
    b.tokens.assign(all.tokens.begin() + begin, all.tokens.begin() + begin + count);
    b.sequences = {{0, 0, count}};
    if (begin + count == rows) b.wanted = {count - 1};
    const auto from = pending.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(begin) * d);
    const Outputs o =
        pieces.step(b, {from, from + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(count) * d)});
    got.x.insert(got.x.end(), o.x.begin(), o.x.end());
    got.logits = o.logits;
  }
  EXPECT_TRUE(std::equal(got.x.begin(), got.x.end(), expected.x.begin())) << "pieces";
  EXPECT_TRUE(std::equal(got.logits.begin(), got.logits.end(), expected.logits.begin()));
  EXPECT_EQ(pieces.state(0), once.state(0));
}

TEST_P(CpuOpsTest, BitsDoNotDependOnBatchingChunkingOrThreads) {
  CpuOptions o = options();
  o.device.deterministic = true;
  o.device.exact_activations = false;
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    o.device.dtype = dtype;
    for (const Emit emit : {&emit_mixes, &emit_products, &emit_wkv}) expect_same_bits(Net(odd_size), emit, o);
  }
  // Blocks are multiplied in bf16 on tiles only, and then so are the plain matrices among them.
  o.device.deterministic = GetParam()->tiles != nullptr && GetParam()->tiles->least_blocks < never;
  for (const DType dtype : {DType::q8_0, DType::q4_k}) {
    o.device.dtype = dtype;
    for (const bool exact : {false, true}) {
      o.device.exact_activations = exact;
      for (const Sizes& size : {with_blocks, one_panel, odd_size})
        expect_same_bits(Net(size, DType::bf16), &emit_products, o);
    }
  }
}

}  // namespace
}  // namespace fr::cpu
