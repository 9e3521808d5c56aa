// What a cpu device promises beyond running programs: slots, segments, ports, memory, errors.
#include "backends/cpu/cpu_device.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "backends/cpu/test_net.h"

namespace fr::cpu {
namespace {

TEST(CpuDevice, SlotsAreIndependent) {
  const Net net(odd_size);
  Runner r = make_cpu(net, &emit_wkv, {{DType::f32, 2}});
  const std::vector<float> fresh = r.state(1);
  EXPECT_EQ(fresh.back(), -1e30f);  // pp starts there
  const Batch b = make_batch({{1, 4}}, net.size.vocab);
  const Outputs first = r.step(b, pending_of(b, net, 1));
  const std::vector<float> used = r.state(1);
  EXPECT_NE(used, fresh);
  EXPECT_EQ(r.state(0), fresh);
  r.dev->copy_slot(1, 2);
  EXPECT_EQ(r.state(2), used);
  r.dev->reset_slot(1);
  EXPECT_EQ(r.state(1), fresh);
  EXPECT_EQ(r.step(b, pending_of(b, net, 1)), first);
  r.dev->import_slot(3, used);
  EXPECT_EQ(r.state(3), used);
  ASSERT_TRUE(r.dev->reserve_slots(9).ok());
  EXPECT_EQ(r.state(3), used) << "growing keeps what there was";
  EXPECT_EQ(r.state(8), fresh);
  EXPECT_EQ(r.dev->memory().states, 9 * static_cast<std::int64_t>(used.size() * sizeof(float)));
}

TEST(CpuDevice, ASegmentHoldsItsOwnBlocks) {
  auto dev = cpu_backend().create({DType::f32, 1});
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

TEST(CpuDevice, OutputsMayBeLeftOutAndProgramsMixed) {
  auto dev = cpu_backend().create({DType::f32, 2});
  ASSERT_TRUE(dev.ok());
  ASSERT_TRUE((*dev)->set_state({}, 0, 0).ok());
  ASSERT_TRUE((*dev)->reserve_slots(1).ok());
  std::vector<float> y(3);
  for (int round = 0; round < 2; ++round) {
    for (int key = 0; key < 40; ++key) {  // more programs than are kept
      const Program p{key, [&](Ops& op) {
                        const Tensor x = op.input(port_x, 3);
                        op.output(port_x, op.affine(x, 1, static_cast<float>(key)));
                        op.output(port_hidden, op.wanted(x));
                      }};
      const std::vector<float> x{1, 2, 3};
      const PortIn in[] = {{port_x, x}};
      const PortOut out[] = {{port_x, y}};
      ASSERT_TRUE((*dev)->step(p, {{0}, {{0, 0, 1}}, {0}}, in, out).ok());
      const float k = static_cast<float>(key);
      EXPECT_EQ(y, (std::vector<float>{1 + k, 2 + k, 3 + k}));
    }
  }
}

TEST(CpuDevice, MemoryIsWhatWasPackedAndMapped) {
  const Net net(usual_size, DType::f16);
  Runner half = make_cpu(net, &emit_products, {{DType::f16, 1}}),
         full = make_cpu(net, &emit_products, {{DType::f32, 1}});
  const MemoryUse h = half.dev->memory(), f = full.dev->memory();
  EXPECT_EQ(h.mapped, 96 * 128 * 2);  // the embedding stays where it is
  EXPECT_EQ(f.mapped, h.mapped);
  const std::int64_t matrices =
      5 * 128 * 128 + 4 * 448 * 128 + 96 * 128 + 6 * 128 * 32 + 160 * 128 + 5 * 128 * 32;
  EXPECT_EQ(f.weights - h.weights, matrices * 2);
  EXPECT_LT(h.weights, matrices * 2 + 64 * 1024);
  EXPECT_EQ(h.scratch, 0);
  const Batch b = make_batch({{0, 3}}, net.size.vocab);
  half.step(b, pending_of(b, net, 1));
  EXPECT_GT(half.dev->memory().scratch, 0);
}

TEST(CpuDevice, BlocksTakeTheMemoryOfTheirFormat) {
  const Net net(with_blocks);
  const auto bytes = [&](DType dtype) {
    return make_cpu(net, &emit_products, {{dtype, 1}}).dev->memory().weights;
  };
  const std::int64_t d = 256, ffn = 544, low_rank = 2 * (6 * d * 32 + 160 * d + 5 * d * 32);
  const std::int64_t by_d = 5 * d * d + 2 * ffn * d, by_ffn = 2 * d * ffn, head = 96 * d;
  const std::int64_t int8 = (by_d + by_ffn + head) * 34 / 32 + low_rank;
  const std::int64_t int4 = by_d * 148 / 256 + by_ffn * 18 / 32 + head * 34 / 32 + low_rank;
  EXPECT_GE(bytes(DType::q8_0), int8);
  EXPECT_LT(bytes(DType::q8_0), int8 + 48 * 1024);  // vectors
  EXPECT_GE(bytes(DType::q4_k), int4);
  EXPECT_LT(bytes(DType::q4_k), int4 + 48 * 1024);
}

TEST(CpuDevice, NumbersThatDoNotFitAreErrors) {
  for (const DType dtype : {DType::f16, DType::q8_0, DType::q4_k}) {
    for (const float bad : {NAN, INFINITY, 1e30f}) {
      auto dev = create_device({{dtype, 2}});
      ASSERT_TRUE(dev.ok());
      std::vector<float> values(64 * 256, 0.5f);
      values[63 * 256 + 200] = bad;
      Checkpoint file;
      file.path = "m.pth";
      const TensorView w{"w", DType::f32, {64, 256}, {256, 1}, reinterpret_cast<std::byte*>(values.data())};
      const auto added = (*dev)->add_matrix(w, MatRole::plain, file);
      ASSERT_FALSE(added.ok()) << dtype_name(dtype) << " " << bad;
      EXPECT_EQ(added.error().code, ErrorCode::invalid_file);
      EXPECT_NE(added.error().message.find("tensor w: a number is NaN, infinite or too large"),
                std::string::npos);
    }
  }
}

TEST(CpuDevice, CountsZerosLikeTheReference) {
  const Net net(odd_size);
  const Batch b = make_batch({{0, 1}, {1, 6}}, net.size.vocab);
  Runner cpu = make_cpu(net, &emit_products, {{DType::f32, 2}, nullptr, false, 3});
  Runner reference(reference_backend().create({DType::f32, 1}).value(), net, &emit_products);
  cpu.step(b, pending_of(b, net, 1));
  reference.step(b, pending_of(b, net, 1));
  const OpCounts counts = cpu.dev->last_counts(), expected = reference.dev->last_counts();
  EXPECT_GT(expected.zeros, 0);
  EXPECT_EQ(counts.zeros, expected.zeros);
  EXPECT_EQ(counts.sparse_inputs, expected.sparse_inputs);
}

TEST(CpuDevice, ErrorsSayWhatToDo) {
  const auto message = [](const CpuOptions& o) {
    const auto dev = create_device(o);
    return dev.ok() ? "" : dev.error().message;
  };
  EXPECT_NE(message({{DType::i8, 1}}).find("int8"), std::string::npos);
  EXPECT_NE(message({{DType::f32, -1}}).find("-1 threads"), std::string::npos);
  EXPECT_NE(message({{DType::f32, 100000}}).find("100000 threads"), std::string::npos);

  ASSERT_EQ(setenv("FR_ISA", "mmx", 1), 0);
  EXPECT_NE(message({{DType::f32, 1}}).find("mmx"), std::string::npos);
  ASSERT_EQ(setenv("FR_ISA", "generic", 1), 0);
  auto dev = create_device({{DType::f16, 1}});
  ASSERT_EQ(unsetenv("FR_ISA"), 0);
  ASSERT_TRUE(dev.ok());
  EXPECT_EQ((*dev)->description(), "cpu fp16, 1 thread, generic");

  StateSpec big;
  big.add("kv", 0, {1024, 1024, 1024});
  ASSERT_TRUE((*dev)->set_state(big, 0, 1).ok());
  const Status s = (*dev)->reserve_slots(1000000);
  ASSERT_FALSE(s.ok());
  EXPECT_NE(s.error().message.find("1000000 states of 4096 MB"), std::string::npos) << s.error().message;
}

}  // namespace
}  // namespace fr::cpu
