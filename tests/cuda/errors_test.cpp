// What goes wrong around a GPU, injected into the emulated one, and what costs time if it happens in every
// step.
#include <gtest/gtest.h>

#include "backends/cuda/driver.h"
#include "cuda_emulator/emulator.h"
#include "cuda_net.h"

namespace fr::cuda {
namespace {

using namespace fr::cpu;

class CudaErrors : public testing::Test {
 protected:
  void SetUp() override { cuda_emulator::reset(); }
  void TearDown() override { cuda_emulator::reset(); }
};

std::string message_of_make() {
  const auto device = CudaDevice::make(cuda_options());
  return device.ok() ? "" : device.error().message;
}

TEST_F(CudaErrors, MachinesWithoutAUsableGpu) {
  cuda_emulator::settings().driver = 0;
  EXPECT_EQ(message_of_make(), "no NVIDIA driver (cuda): install it, or use the cpu");
  cuda_emulator::settings().driver = 12040;
  EXPECT_EQ(message_of_make(),
            "the driver runs CUDA 12.4, this build needs 13.0 or newer (cuda): update the driver");
  cuda_emulator::reset();
  cuda_emulator::settings().devices = 0;
  EXPECT_NE(message_of_make().find("no NVIDIA GPU is visible"), std::string::npos) << message_of_make();
  cuda_emulator::reset();
  cuda_emulator::settings().kernel_images = false;
  cuda_emulator::settings().major = 7;
  cuda_emulator::settings().minor = 5;
  EXPECT_NE(message_of_make().find("no kernel for this card (sm_75, cuda:0): this build has sm_80, sm_90a"),
            std::string::npos)
      << message_of_make();
  cuda_emulator::reset();
  EXPECT_EQ(message_of_make(), "");
}

TEST_F(CudaErrors, SeveralGpus) {
  cuda_emulator::settings().devices = 2;
  const Net net(tiny_size);
  CudaOptions second = cuda_options();
  second.device.index = 1;
  CudaRunner a(net, &emit_products, cuda_options()), b(net, &emit_products, second);
  EXPECT_EQ(b.cuda->description().substr(0, 12), "cuda:1 fp32,");
  const Batch batch = make_batch({{0, 2}}, net.size.vocab);
  const std::vector<float> pending = pending_of(batch, net, 1);
  EXPECT_EQ(b.step(batch, pending), a.step(batch, pending));
  int current = -1;
  ASSERT_EQ(cudaGetDevice(&current), cudaSuccess);
  EXPECT_EQ(current, 0) << "the thread's own choice stays";
  second.device.index = 2;
  const auto third = CudaDevice::make(second);
  ASSERT_FALSE(third.ok());
  EXPECT_EQ(third.error().message, "there is no cuda:2 (strategy): this machine has cuda:0 to cuda:1");
}

TEST_F(CudaErrors, OutOfMemoryWhileLoading) {
  auto device = CudaDevice::make(cuda_options());
  ASSERT_TRUE(device.ok());
  cuda_emulator::settings().memory = cuda_emulator::counts().allocated + (1 << 20);
  std::vector<float> values(1024 * 1024, 0.5f);
  Checkpoint file;
  const TensorView w{"w", DType::f32, {1024, 1024}, {1024, 1}, reinterpret_cast<std::byte*>(values.data())};
  const auto added = (*device)->add_matrix(w, MatRole::plain, file);
  ASSERT_FALSE(added.ok());
  EXPECT_NE(added.error().message.find("(cuda:0)"), std::string::npos) << added.error().message;
  EXPECT_NE(added.error().message.find("int8"), std::string::npos) << added.error().message;
}

TEST_F(CudaErrors, OutOfMemoryForStates) {
  auto device = CudaDevice::make(cuda_options());
  ASSERT_TRUE(device.ok());
  StateSpec spec;
  spec.add("kv", 0, {256, 1024});
  ASSERT_TRUE((*device)->set_state(spec, 0, 1).ok());
  ASSERT_TRUE((*device)->reserve_slots(1).ok());
  const std::vector<float> values(256 * 1024, 3.0f);
  (*device)->import_slot(0, values);
  cuda_emulator::settings().memory = cuda_emulator::counts().allocated + (4 << 20);
  const Status s = (*device)->reserve_slots(100);
  ASSERT_FALSE(s.ok());
  EXPECT_NE(s.error().message.find("not enough GPU memory for 100 states: need 99 MB, have 4 MB (cuda:0)"),
            std::string::npos)
      << s.error().message;
  ASSERT_TRUE((*device)->reserve_slots(3).ok()) << "what fits is still given";
  std::vector<float> kept(values.size());
  (*device)->export_slot(0, kept);
  EXPECT_EQ(kept, values);
}

TEST_F(CudaErrors, OutOfMemoryInAStepLeavesTheDeviceUsable) {
  const Net net(tiny_size);
  CudaRunner r(net, &emit_products, cuda_options());
  const Program p{1, [](Ops& op) { op.output(port_x, op.affine(op.input(port_x, 3), 2, 0)); }};
  const std::vector<float> x{1, 2, 3};
  std::vector<float> y(3);
  const PortIn in[] = {{port_x, x}};
  const PortOut out[] = {{port_x, y}};
  cuda_emulator::fail("cudaMalloc", cudaErrorMemoryAllocation);
  const Status s = r.cuda->step(p, {{0}, {{0, 0, 1}}, {}}, in, out);
  ASSERT_FALSE(s.ok());
  EXPECT_NE(s.error().message.find("not enough GPU memory for a step of 1 rows"), std::string::npos)
      << s.error().message;
  ASSERT_TRUE(r.cuda->step(p, {{0}, {{0, 0, 1}}, {}}, in, out).ok());
  EXPECT_EQ(y, (std::vector<float>{2, 4, 6}));
}

// Wherever the GPU is lost, that call or the next returns the error, and so do all later ones.
TEST_F(CudaErrors, ALostGpuIsAnErrorForEver) {
  const Net net(tiny_size);
  for (const char* function : {"launch", "cudaMemcpyAsync", "cudaStreamSynchronize", "cudaGraphLaunch"}) {
    cuda_emulator::reset();
    CudaRunner r(net, &emit_wkv, cuda_options());
    const Batch b = make_batch({{0, 1}}, net.size.vocab);
    const std::vector<float> pending = pending_of(b, net, 1);
    for (int i = 0; i < 3; ++i) r.step(b, pending);
    const bool graph = std::string(function) == "cudaGraphLaunch";
    const Batch last = graph ? b : make_batch({{0, 2}}, net.size.vocab);
    cuda_emulator::fail(function, cudaErrorIllegalAddress, 0, true);
    const std::vector<float> rows = pending_of(last, net, 1);
    std::vector<float> y(rows.size());
    const PortIn in[] = {{port_pending, rows}};
    const PortOut out[] = {{port_x, y}};
    const States states(net.size);
    const Program p{7, [&](Ops& op) { emit_wkv(op, net, states); }};
    for (int again = 0; again < 3; ++again) {
      const Status s = r.cuda->step(p, last, in, out);
      ASSERT_FALSE(s.ok()) << function;
      EXPECT_EQ(s.error().code, ErrorCode::runtime);
      EXPECT_NE(s.error().message.find("the GPU stopped working (cudaErrorIllegalAddress, cuda:0): restart"),
                std::string::npos)
          << function << ": " << s.error().message;
    }
    EXPECT_FALSE(r.cuda->reserve_slots(100).ok());
    r.cuda->reset_slot(0);
    r.cuda->copy_slot(0, 1);
    const std::vector<float> state = r.state(1);
    EXPECT_TRUE(std::all_of(state.begin(), state.end(), [](float v) { return v == 0; }));
    r.cuda->import_slot(0, state);
    r.cuda->last_counts();
  }
}

TEST_F(CudaErrors, StepsThatCannotBeCapturedAreLaunched) {
  const Net net(tiny_size);
  for (const char* function : {"cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate"}) {
    for (const cudaError_t error : {cudaErrorMemoryAllocation, cudaErrorStreamCaptureUnsupported}) {
      cuda_emulator::reset();
      CudaRunner r(net, &emit_wkv, cuda_options());
      CudaOptions plain = cuda_options();
      plain.graphs = false;
      CudaRunner direct(net, &emit_wkv, plain);
      const Batch b = make_batch({{0, 1}}, net.size.vocab);
      const std::vector<float> pending = pending_of(b, net, 1);
      for (int i = 0; i < 4; ++i) {
        if (i == 1) cuda_emulator::fail(function, error);
        EXPECT_EQ(r.step(b, pending), direct.step(b, pending)) << function << ", step " << i;
      }
    }
  }
}

TEST_F(CudaErrors, NothingIsAllocatedInTheSteadyState) {
  const Net net(tiny_size);
  CudaRunner r(net, &emit_wkv, cuda_options());
  const std::vector<Batch> batches{
      make_batch({{0, 1}}, net.size.vocab), make_batch({{0, 1}, {2, 1}}, net.size.vocab),
      make_batch({{1, 7}}, net.size.vocab), make_batch({{1, 2}, {3, 1}}, net.size.vocab)};
  const auto round = [&] {
    for (const Batch& b : batches) r.step(b, pending_of(b, net, 1));
  };
  for (int i = 0; i < 3; ++i) round();
  const cuda_emulator::Counts before = cuda_emulator::counts();
  for (int i = 0; i < 3; ++i) round();
  const cuda_emulator::Counts after = cuda_emulator::counts();
  EXPECT_EQ(after.allocations, before.allocations);
  EXPECT_EQ(after.host_allocations, before.host_allocations);
  EXPECT_EQ(after.captures, before.captures);
  EXPECT_EQ(after.graph_launches - before.graph_launches,
            3);  // the single token; the others want some rows only
  EXPECT_EQ(after.allocated, before.allocated);
}

TEST_F(CudaErrors, DrawingReportsMissingMemoryAndALostGpu) {
  const auto device = CudaDevice::make(cuda_options());
  ASSERT_TRUE(device.ok() && (*device)->set_state({}, 0, 0).ok() && (*device)->reserve_slots(1).ok());
  const Program p{1,
                  [](Ops& op) { op.output(port_logits, op.wanted(op.affine(op.input(port_x, 3), 2, 0))); }};
  const std::vector<float> x{1, 3, 2};
  const PortIn in[] = {{port_x, x}};
  ASSERT_TRUE((*device)->step(p, {{0}, {{0, 0, 1}}, {0}}, in, {}).ok());
  DrawRequest request;
  request.greedy = true;
  DrawResult result;
  const auto draw = [&] {
    const Status s = (*device)->draw({&request, 1}, {&result, 1});
    return s.ok() ? std::string() : s.error().message;
  };
  for (const char* call : {"cudaMalloc", "cudaMallocHost"}) {
    cuda_emulator::fail(call, cudaErrorMemoryAllocation);
    EXPECT_NE(draw().find("memory for drawing tokens"), std::string::npos) << call;
  }
  EXPECT_EQ(draw(), "") << "memory may come back";
  EXPECT_EQ(result.token, 1);
  cuda_emulator::fail("launch", cudaErrorLaunchFailure, 0, true);
  EXPECT_NE(draw().find("the GPU stopped working (cudaErrorLaunchFailure, cuda:0)"), std::string::npos);
  EXPECT_FALSE((*device)->step(p, {{0}, {{0, 0, 1}}, {0}}, in, {}).ok());
}

TEST_F(CudaErrors, EverythingIsFreed) {
  const std::size_t before = cuda_emulator::counts().allocated;
  {
    const Net net(tiny_size);
    CudaRunner r(net, &emit_mixes, cuda_options());
    const Batch b = make_batch({{0, 1}}, net.size.vocab);
    for (int i = 0; i < 3; ++i) r.step(b, pending_of(b, net, 1));
    EXPECT_GT(cuda_emulator::counts().allocated, before);
  }
  EXPECT_EQ(cuda_emulator::counts().allocated, before);
}

}  // namespace
}  // namespace fr::cuda
