// Every op of the cuda backend, fused, expanded and primitive, against the reference backend on ragged
// batches.
#include <gtest/gtest.h>

#include "cuda_net.h"

namespace fr::cuda {
namespace {

using namespace fr::cpu;

// The widths that models have, and odd ones.
constexpr Sizes sizes[] = {odd_size, tiny_size, small_heads, head_40, head_32};

void compare_with_reference(const Net& net, Emit emit, const CudaOptions& options, const Limits& limits,
                            const std::string& what) {
  auto reference = reference_backend().create(options.device);
  ASSERT_TRUE(reference.ok());
  fr::cpu::Runner oracle(std::move(reference).value(), net, emit);
  CudaRunner tested(net, emit, options);
  oracle.program_sliced = tested.runner.program_sliced;
  const int vocab = net.size.vocab;
  unsigned seed = 1;
  for (const Batch& b : {make_batch({{2, 3}, {0, 1}, {1, 9}}, vocab),
                         make_batch({{0, 1}, {1, 1}, {2, 1}}, vocab, 3), make_batch({{3, 1}}, vocab, 5),
                         make_batch({{1, 21}}, vocab, 2), make_batch({{0, 2}, {3, 4}}, vocab, 9)}) {
    const std::vector<float> pending = pending_of(b, net, ++seed);
    expect_close(tested.step(b, pending), oracle.step(b, pending), limits,
                 what + ", step " + std::to_string(seed));
  }
  for (int slot = 0; slot < 4; ++slot)
    expect_close(tested.state(slot), oracle.state(slot), limits, what + ", state");
}

TEST(CudaOps, FusedOpsEqualTheReference) {
  for (const Sizes& size : sizes) {
    const std::string name = "width " + std::to_string(size.d);
    compare_with_reference(Net(size), &emit_mixes, cuda_options(), {}, "mixes, " + name);
    compare_with_reference(Net(size), &emit_products, cuda_options(), {}, "products, " + name);
    compare_with_reference(Net(size), &emit_wkv, cuda_options(), {}, "wkv, " + name);
  }
}

TEST(CudaOps, PrimitivesEqualTheReference) {
  for (const Sizes& size : {odd_size, tiny_size}) {
    compare_with_reference(Net(size), &emit_primitives, cuda_options(), {}, "primitives");
    compare_with_reference(Net(size), &emit_scan, cuda_options(), {}, "scan");
  }
}

TEST(CudaOps, ExpansionsEqualTheReference) {
  CudaOptions expanded = cuda_options();
  expanded.expand_all = true;
  compare_with_reference(Net(odd_size), &emit_mixes, expanded, {}, "mixes");
  compare_with_reference(Net(odd_size), &emit_products, expanded, {}, "products");
  compare_with_reference(Net(tiny_size), &emit_wkv, expanded, {}, "wkv");
}

// Many rows multiply inputs rounded to 10 bits of mantissa by 16-bit weights and blocks.
constexpr Limits rounded{1e-2, 2e-3};

TEST(CudaOps, EveryStoredFormat) {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    for (const DType file : {DType::f32, DType::f16, DType::bf16}) {
      const std::string what = std::string(dtype_name(file)) + " as " + std::string(dtype_name(dtype));
      compare_with_reference(Net(odd_size, file), &emit_products, cuda_options(dtype),
                             dtype == DType::f32 ? Limits{} : rounded, what);
    }
    compare_with_reference(Net(head_32), &emit_mixes, cuda_options(dtype),
                           dtype == DType::f32 ? Limits{} : rounded,
                           "mixes, " + std::string(dtype_name(dtype)));
  }
}

// int8 and int4 store the same blocks as the reference, from any file.
TEST(CudaOps, EveryBlockFormat) {
  for (const DType dtype : {DType::q8_0, DType::q4_k}) {
    for (const DType file : {DType::f32, DType::q8_0, DType::q4_0, DType::q4_k}) {
      const std::string what = std::string(dtype_name(file)) + " as " + std::string(dtype_name(dtype));
      compare_with_reference(Net(with_blocks, file), &emit_products, cuda_options(dtype), rounded, what);
    }
    compare_with_reference(Net(odd_size), &emit_products, cuda_options(dtype), rounded,
                           "rows that are no blocks");
  }
}

TEST(CudaOps, CountsNativeAndExpandedOps) {
  const Batch b = make_batch({{0, 2}}, odd_size.vocab);
  for (const Emit emit : {&emit_mixes, &emit_products, &emit_wkv}) {
    const Net net(odd_size);
    CudaOptions o = cuda_options();
    CudaRunner native(net, emit, o);
    native.step(b, pending_of(b, net, 1));
    EXPECT_EQ(native.cuda->last_counts().expanded, 0);
    EXPECT_GT(native.cuda->last_counts().native, 0);
    o.expand_all = true;
    CudaRunner expanded(net, emit, o);
    expanded.step(b, pending_of(b, net, 1));
    EXPECT_EQ(expanded.cuda->last_counts().native, 0);
    EXPECT_GE(expanded.cuda->last_counts().expanded, native.cuda->last_counts().native);
  }
}

// The same tokens of slots 0 to 2 in one batch, cut by the device, one by one and in pieces.
TEST(CudaOps, BatchingAndChunkingChangeNothing) {
  constexpr int rows = 19;
  for (const Emit emit : {&emit_mixes, &emit_products, &emit_wkv}) {
    const Net net(tiny_size);
    const auto d = static_cast<std::size_t>(net.size.d);
    const Batch all = make_batch({{0, rows}, {1, 1}, {2, 5}}, net.size.vocab);
    const std::vector<float> pending = pending_of(all, net, 1);
    CudaRunner once(net, emit, cuda_options());
    const Outputs expected = once.step(all, pending);

    CudaOptions cut_options = cuda_options();
    cut_options.most_rows = 4;
    CudaRunner cut(net, emit, cut_options);
    expect_close(cut.step(all, pending), expected, {}, "cut by the device");
    expect_close(cut.state(0), once.state(0), {}, "cut by the device, state");

    CudaRunner pieces(net, emit, cuda_options());
    std::vector<float> x;
    Outputs last;
    for (int begin = 0, count = 1; begin < rows;
         begin += count, count = std::min(begin / 3 + 1, rows - begin)) {
      Batch b;
      b.tokens.assign(all.tokens.begin() + begin, all.tokens.begin() + begin + count);
      b.sequences = {{0, 0, count}};
      if (begin + count == rows) b.wanted = {count - 1};
      const auto from = pending.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(begin) * d);
      last = pieces.step(b, {from, from + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(count) * d)});
      x.insert(x.end(), last.x.begin(), last.x.end());
    }
    expect_close(x, {expected.x.begin(), expected.x.begin() + static_cast<std::ptrdiff_t>(rows * d)}, {},
                 "pieces, x");
    const std::size_t vocab = static_cast<std::size_t>(net.size.vocab);
    expect_close(last.logits,
                 {expected.logits.begin(), expected.logits.begin() + static_cast<std::ptrdiff_t>(vocab)}, {},
                 "pieces, logits");
    expect_close(pieces.state(0), once.state(0), {}, "pieces, state");
  }
}

}  // namespace
}  // namespace fr::cuda
