// How the program finds the device library, and what it says when it cannot.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "backends/backend.h"

namespace fr {

const Backend& cuda_backend();

namespace {

std::string problem() {
  const Status s = cuda_backend().available();
  return s.ok() ? "" : s.error().message;
}

// In one test: a library that was found stays.
TEST(CudaLoader, FindsTheLibraryAndSaysWhenItCannot) {
  unsetenv("FRWKV_CUDA_LIBRARY");
  EXPECT_EQ(problem(),
            "this program has no CUDA device library (libfaster_rwkv_cuda.so beside it): build with "
            "-DFR_ENABLE_CUDA=ON");
  EXPECT_FALSE(cuda_backend().create({}).ok());
  EXPECT_EQ(cuda_backend().free_memory(0), 0);

  setenv("FRWKV_CUDA_LIBRARY", "/nowhere/libcuda_device.so", 1);
  EXPECT_NE(problem().find("the CUDA device library cannot be loaded (/nowhere/libcuda_device.so"),
            std::string::npos)
      << problem();
  const std::filesystem::path damaged =
      std::filesystem::temp_directory_path() / "fr_damaged_device_library.so";
  std::ofstream(damaged) << "no library";
  setenv("FRWKV_CUDA_LIBRARY", damaged.c_str(), 1);
  EXPECT_NE(problem().find("cannot be loaded"), std::string::npos) << problem();
  std::filesystem::remove(damaged);
  setenv("FRWKV_CUDA_LIBRARY", "libm.so.6", 1);
  EXPECT_NE(problem().find("no CUDA device library (libm.so.6)"), std::string::npos) << problem();

  setenv("FRWKV_CUDA_LIBRARY", FR_EMULATED_LIBRARY, 1);
  EXPECT_EQ(problem(), "");
  EXPECT_GT(cuda_backend().free_memory(0), 0);
  EXPECT_EQ(cuda_backend().free_memory(7), 0);
  const auto missing = cuda_backend().create({DType::f16, 0, 7});
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code, ErrorCode::usage);
  auto device = cuda_backend().create({DType::f16, 0, 0});
  ASSERT_TRUE(device.ok()) << device.error().message;
  EXPECT_EQ((*device)->description().substr(0, 11), "cuda:0 fp16");
  ASSERT_TRUE((*device)->set_state({}, 0, 0).ok());
  ASSERT_TRUE((*device)->reserve_slots(1).ok());
  const Program p{1, [](Ops& op) { op.output(port_x, op.affine(op.input(port_x, 2), 3, 1)); }};
  const std::vector<float> x{1, 2};
  std::vector<float> y(2);
  const PortIn in[] = {{port_x, x}};
  const PortOut out[] = {{port_x, y}};
  ASSERT_TRUE((*device)->step(p, {{0}, {{0, 0, 1}}, {}}, in, out).ok());
  EXPECT_EQ(y, (std::vector<float>{4, 7}));
}

}  // namespace
}  // namespace fr
