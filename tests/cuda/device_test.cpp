// What a cuda device promises beyond running programs: slots, segments, ports, graphs, memory, counts.
#include <gtest/gtest.h>

#include "backends/cuda/graphs.h"
#include "cuda_net.h"

namespace fr::cuda {
namespace {

using namespace fr::cpu;

std::unique_ptr<CudaDevice> small_device(const CudaOptions& options = cuda_options()) {
  auto device = CudaDevice::make(options);
  EXPECT_TRUE(device.ok()) << (device.ok() ? "" : device.error().message);
  EXPECT_TRUE((*device)->set_state({}, 0, 0).ok());
  EXPECT_TRUE((*device)->reserve_slots(1).ok());
  return std::move(device).value();
}

TEST(CudaDevice, SlotsAreIndependent) {
  const Net net(tiny_size);
  CudaRunner r(net, &emit_wkv, cuda_options());
  const std::vector<float> fresh = r.state(1);
  EXPECT_EQ(fresh.back(), -1e30f);  // pp starts there
  const Batch b = make_batch({{1, 4}}, net.size.vocab);
  const Outputs first = r.step(b, pending_of(b, net, 1));
  const std::vector<float> used = r.state(1);
  EXPECT_NE(used, fresh);
  EXPECT_EQ(r.state(0), fresh);
  r.cuda->copy_slot(1, 2);
  EXPECT_EQ(r.state(2), used);
  r.cuda->reset_slot(1);
  EXPECT_EQ(r.state(1), fresh);
  EXPECT_EQ(r.step(b, pending_of(b, net, 1)), first);
  r.cuda->import_slot(3, used);
  EXPECT_EQ(r.state(3), used);
  ASSERT_TRUE(r.cuda->reserve_slots(9).ok());
  EXPECT_EQ(r.state(3), used) << "growing keeps what there was";
  EXPECT_EQ(r.state(8), fresh);
  EXPECT_GE(r.cuda->memory().states, 9 * static_cast<std::int64_t>(used.size() * sizeof(float)));
}

TEST(CudaDevice, ASegmentHoldsItsOwnBlocks) {
  auto dev = CudaDevice::make(cuda_options());
  ASSERT_TRUE(dev.ok());
  StateSpec spec;
  spec.add("a", 0, {3}, 1);
  const StateRef second = spec.add("b", 1, {2}, 2);
  spec.add("c", 2, {4}, 3);
  ASSERT_TRUE((*dev)->set_state(spec, 1, 3).ok());
  ASSERT_TRUE((*dev)->reserve_slots(1).ok());
  std::vector<float> values(6);
  (*dev)->export_slot(0, values);
  EXPECT_EQ(values, (std::vector<float>{2, 2, 3, 3, 3, 3}));
  const Program p{1, [&](Ops& op) { op.output(port_x, op.shift(op.input(port_x, 2), second)); }};
  const std::vector<float> x{5, 6};
  std::vector<float> y(2);
  const PortIn in[] = {{port_x, x}};
  const PortOut out[] = {{port_x, y}};
  ASSERT_TRUE((*dev)->step(p, {{0}, {{0, 0, 1}}, {}}, in, out).ok());
  EXPECT_EQ(y, (std::vector<float>{2, 2}));
  (*dev)->export_slot(0, values);
  EXPECT_EQ(values, (std::vector<float>{5, 6, 3, 3, 3, 3}));
}

TEST(CudaDevice, OutputsMayBeLeftOutAndProgramsMixed) {
  const auto dev = small_device();
  std::vector<float> y(3);
  for (int round = 0; round < 3; ++round) {
    for (int key = 0; key < 40; ++key) {  // more programs than are kept
      const Program p{key, [&](Ops& op) {
                        const Tensor x = op.input(port_x, 3);
                        op.output(port_x, op.affine(x, 1, static_cast<float>(key)));
                        op.output(port_hidden, op.wanted(x));
                      }};
      const std::vector<float> x{1, 2, 3};
      const PortIn in[] = {{port_x, x}};
      const PortOut out[] = {{port_x, y}, {port_hidden, {}}};
      for (int again = 0; again < 3; ++again) {
        y.assign(3, 0);
        ASSERT_TRUE(dev->step(p, {{0}, {{0, 0, 1}}, {0}}, in, out).ok());
        const float k = static_cast<float>(key);
        EXPECT_EQ(y, (std::vector<float>{1 + k, 2 + k, 3 + k}));
      }
    }
  }
  EXPECT_LE(dev->graphs(), 16u);  // those of programs that are kept
}

// Rows of an odd width and results that are larger than the buffer that they pass through.
TEST(CudaDevice, LargeResultsArriveInPieces) {
  CudaOptions options = cuda_options();
  options.transfer_floats = 5000;
  const auto dev = small_device(options);
  constexpr int rows = 3, cols = 2001;
  std::vector<float> x(std::size_t{rows} * cols), y(x.size()), hidden(cols);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 1000003);
  const Program p{1, [&](Ops& op) {
                    const Tensor t = op.input(port_x, cols);
                    op.output(port_hidden, op.wanted(t));
                    op.output(port_x, t);
                  }};
  const PortIn in[] = {{port_x, x}};
  const PortOut out[] = {{port_x, y}, {port_hidden, hidden}};
  ASSERT_TRUE(dev->step(p, {{0, 0, 0}, {{0, 0, 3}}, {1}}, in, out).ok());
  EXPECT_EQ(x, y);
  EXPECT_TRUE(std::equal(hidden.begin(), hidden.end(), x.begin() + cols));
}

// Decode steps of changing batches, again and again: as graphs (padded) and launch by launch, in the same
// order.
TEST(CudaDevice, GraphsReplayWhatLaunchesDo) {
  const Net net(tiny_size);
  for (const Emit emit : {&emit_mixes, &emit_products, &emit_wkv}) {
    CudaOptions plain = cuda_options();
    plain.graphs = false;
    CudaRunner graphs(net, emit, cuda_options()), direct(net, emit, plain);
    for (CudaRunner* r : {&graphs, &direct}) {
      ASSERT_TRUE(r->cuda->reserve_slots(12).ok());
    }
    int step = 0;
    const auto same = [&](const Batch& b) {
      const std::vector<float> pending = pending_of(b, net, static_cast<unsigned>(++step));
      expect_close(graphs.step(b, pending), direct.step(b, pending), {}, "step " + std::to_string(step));
    };
    for (int round = 0; round < 3; ++round) {
      for (const int rows : {1, 3, 5}) {
        Batch b;
        for (int i = 0; i < rows; ++i) {
          b.tokens.push_back((5 * step + 3 * i) % net.size.vocab);
          b.sequences.push_back({(i * 5 + round) % 12, i, 1});
          b.wanted.push_back(i);
        }
        same(b);
        b.wanted.clear();
        same(b);
        if (rows > 1) b.wanted = {1};
        same(b);
      }
      same(make_batch({{2, 5}, {0, 1}}, net.size.vocab, round));
    }
    EXPECT_EQ(direct.cuda->graphs(), 0u);
    EXPECT_GE(graphs.cuda->graphs(), 6u);  // buckets 1, 4, 8, with and without logits
    for (int slot = 0; slot < 12; ++slot) expect_close(graphs.state(slot), direct.state(slot), {}, "state");
  }
}

// Also where rows are padded to a bucket: 3 to 4, 5 to 8.
TEST(CudaDevice, RowsDoNotDependOnTheirNeighbours) {
  const Net net({64, 2, 600, 8, 33});
  for (const int rows : {2, 3, 5}) {
    Batch b;
    for (int i = 0; i < rows; ++i) {
      b.tokens.push_back(i + 1);
      b.sequences.push_back({i, i, 1});
    }
    std::vector<float> pending = pending_of(b, net, 1);
    CudaRunner one(net, &emit_products, cuda_options()), other(net, &emit_products, cuda_options());
    std::vector<float> first = one.step(b, pending).x;
    for (std::size_t i = pending.size() - 64; i < pending.size(); ++i) pending[i] = -pending[i];
    std::vector<float> second = other.step(b, pending).x;
    EXPECT_NE(first, second);
    for (std::vector<float>* x : {&first, &second})
      x->resize(x->size() / static_cast<std::size_t>(rows) * static_cast<std::size_t>(rows - 1));
    EXPECT_EQ(first, second) << rows << " rows";
  }
}

TEST(CudaDevice, Buckets) {
  EXPECT_EQ(bucket_of(1), 1);
  EXPECT_EQ(bucket_of(3), 4);
  EXPECT_EQ(bucket_of(17), 24);
  EXPECT_EQ(bucket_of(128), 128);
  EXPECT_EQ(bucket_of(256), 256);
}

// Logits that nobody fetches stay where a sampler on the GPU finds them.
TEST(CudaDevice, LogitsStayOnTheDevice) {
  const auto dev = small_device();
  const Program p{1,
                  [&](Ops& op) { op.output(port_logits, op.wanted(op.affine(op.input(port_x, 3), 2, 0))); }};
  const std::vector<float> x{1, 2, 3, 4, 5, 6};
  const PortIn in[] = {{port_x, x}};
  for (int again = 0; again < 3; ++again) {
    ASSERT_TRUE(dev->step(p, {{0, 0}, {{0, 0, 2}}, {0, 1}}, in, {}).ok());
    const Rows logits = dev->logits_on_device();
    ASSERT_TRUE(logits);
    for (std::int64_t row = 0; row < 2; ++row) {
      float values[3];
      ASSERT_EQ(cudaMemcpyAsync(values, logits.p + row * logits.stride, sizeof values, cudaMemcpyDeviceToHost,
                                dev->stream()),
                cudaSuccess);
      ASSERT_EQ(cudaStreamSynchronize(dev->stream()), cudaSuccess);
      for (int i = 0; i < 3; ++i) EXPECT_EQ(values[i], 2 * x[static_cast<std::size_t>(row * 3 + i)]);
    }
    std::vector<DrawRequest> requests(2);
    requests[0].greedy = requests[1].greedy = true;
    const int banned[] = {2};
    requests[1].banned = banned;
    std::vector<DrawResult> drawn(2);
    ASSERT_TRUE(dev->draw(requests, drawn).ok());
    EXPECT_EQ(drawn, (std::vector<DrawResult>{{2, DrawFault::none}, {1, DrawFault::none}}));
  }
  const Program silent{2, [&](Ops& op) { op.output(port_x, op.input(port_x, 3)); }};
  ASSERT_TRUE(dev->step(silent, {{0, 0}, {{0, 0, 2}}, {}}, in, {}).ok());
  EXPECT_FALSE(dev->logits_on_device());
}

// Batches that need no padding; what is cut by the device is counted together.
TEST(CudaDevice, CountsZerosLikeTheReference) {
  const Net net(tiny_size);
  fr::cpu::Runner reference(reference_backend().create({DType::f32, 1}).value(), net, &emit_products);
  CudaOptions cut_options = cuda_options();
  cut_options.most_rows = 4;
  CudaRunner whole(net, &emit_products, cuda_options()), cut(net, &emit_products, cut_options);
  for (const Batch& b :
       {make_batch({{0, 1}, {1, 6}}, net.size.vocab), make_batch({{2, 1}}, net.size.vocab),
        make_batch({{2, 1}, {1, 1}}, net.size.vocab), make_batch({{0, 20}}, net.size.vocab)}) {
    reference.step(b, pending_of(b, net, 1));
    const OpCounts expected = reference.dev->last_counts();
    EXPECT_GT(expected.zeros, 0);
    for (CudaRunner* r : {&whole, &cut}) {
      r->step(b, pending_of(b, net, 1));
      EXPECT_EQ(r->cuda->last_counts().zeros, expected.zeros) << b.rows() << " rows";
      EXPECT_EQ(r->cuda->last_counts().sparse_inputs, expected.sparse_inputs);
    }
  }
}

TEST(CudaDevice, MemoryIsWhatWasAllocated) {
  const Net net(usual_size, DType::f16);
  CudaRunner half(net, &emit_products, cuda_options(DType::f16)), full(net, &emit_products, cuda_options());
  const std::int64_t matrices =
      5 * 128 * 128 + 4 * 448 * 128 + 96 * 128 + 6 * 128 * 32 + 160 * 128 + 5 * 128 * 32;
  const std::int64_t saved = full.cuda->memory().weights - half.cuda->memory().weights;
  EXPECT_NEAR(static_cast<double>(saved), static_cast<double>(matrices * 2), 16 * 1024);
  EXPECT_EQ(half.cuda->memory().mapped, 0);
  EXPECT_EQ(half.cuda->memory().scratch, 0);
  const Batch b = make_batch({{0, 3}}, net.size.vocab);
  half.step(b, pending_of(b, net, 1));
  EXPECT_GT(half.cuda->memory().scratch, 0);
}

TEST(CudaDevice, UnknownFormatsAndDevicesAreErrors) {
  const auto format = CudaDevice::make(cuda_options(DType::i8));
  ASSERT_FALSE(format.ok());
  EXPECT_NE(format.error().message.find("use fp32, fp16, bf16, int8 or int4"), std::string::npos);
  CudaOptions far = cuda_options();
  far.device.index = 99;
  const auto device = CudaDevice::make(far);
  ASSERT_FALSE(device.ok());
  EXPECT_EQ(device.error().code, ErrorCode::usage);
  EXPECT_NE(device.error().message.find("there is no cuda:99"), std::string::npos) << device.error().message;
}

}  // namespace
}  // namespace fr::cuda
