// The small net of the cpu backend's tests on cuda devices.
#pragma once
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "backends/cpu/test_net.h"
#include "backends/cuda/cuda_device.h"

namespace fr::cuda {

using fr::cpu::Emit;
using fr::cpu::Net;
using fr::cpu::Outputs;
using fr::cpu::Sizes;

inline constexpr Sizes tiny_size{32, 2, 64, 8, 24};

inline CudaOptions cuda_options(DType dtype = DType::f32) {
  CudaOptions o;
  o.device.dtype = dtype;
  return o;
}

// A device with the net's weights; `cuda` is the device itself.
struct CudaRunner {
  CudaRunner(const Net& net, Emit emit, const CudaOptions& options)
      : runner(open(options, &cuda), net, emit) {
    runner.program_sliced = emit == &fr::cpu::emit_primitives;
  }
  static std::unique_ptr<Device> open(const CudaOptions& options, CudaDevice** cuda) {
    auto device = CudaDevice::make(options);
    EXPECT_TRUE(device.ok()) << (device.ok() ? "" : device.error().message);
    *cuda = device->get();
    return std::move(device).value();
  }
  Outputs step(const Batch& batch, const std::vector<float>& pending) { return runner.step(batch, pending); }
  std::vector<float> state(int slot) const { return runner.state(slot); }

  CudaDevice* cuda = nullptr;
  fr::cpu::Runner runner;
};

struct Limits {
  double most = 3e-4, l2 = 2e-5;  // |a - b| / max(1, |b|) of each number; |a - b| / |b| of all
};

inline void expect_close(const std::vector<float>& got, const std::vector<float>& expected,
                         const Limits& limits, const std::string& what) {
  ASSERT_EQ(got.size(), expected.size()) << what;
  double most = 0, difference = 0, total = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_TRUE(std::isfinite(got[i])) << what << " at " << i;
    const double d = double{got[i]} - double{expected[i]};
    most = std::max(most, std::abs(d) / std::max(1.0, std::abs(double{expected[i]})));
    difference += d * d;
    total += double{expected[i]} * double{expected[i]};
  }
  EXPECT_LE(most, limits.most) << what;
  EXPECT_LE(std::sqrt(difference), limits.l2 * std::sqrt(total) + 1e-30) << what;
}

inline void expect_close(const Outputs& got, const Outputs& expected, const Limits& limits,
                         const std::string& what) {
  expect_close(got.x, expected.x, limits, what + ", x");
  expect_close(got.pending, expected.pending, limits, what + ", pending");
  expect_close(got.v_first, expected.v_first, limits, what + ", v_first");
  expect_close(got.hidden, expected.hidden, limits, what + ", hidden");
  expect_close(got.logits, expected.logits, limits, what + ", logits");
}

}  // namespace fr::cuda
