#include "tools_core/doctor.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/cpu_info.h"
#include "tools_core/gpu_info.h"

namespace fr {
namespace {

using Json = nlohmann::json;

TEST(Doctor, DescribesThisMachine) {
  const auto text = doctor_json({"", "/no/such/folder"});
  ASSERT_TRUE(text.ok()) << text.error().message;
  const Json j = Json::parse(*text);
  EXPECT_EQ(j["cpu"]["cores"], available_cores());
  EXPECT_EQ(j["cpu"]["processors"], available_cpus());
  EXPECT_FALSE(j["cpu"]["model"].get<std::string>().empty());
  const auto& found = j["cpu"]["found"];
  EXPECT_EQ(cpu_features().avx2, std::find(found.begin(), found.end(), "avx2") != found.end());
  EXPECT_TRUE(j["memory"].contains("available"));
  EXPECT_GT(j["cache"]["total"].get<std::uint64_t>(), 0u) << "the disk of the nearest folder that exists";
  EXPECT_FALSE(j.contains("model"));
  bool has_cpu = false;
  for (const auto& line : j["backends"]) has_cpu |= line.get<std::string>().starts_with("cpu: ");
  EXPECT_TRUE(has_cpu);
}

TEST(Doctor, ComparesAModelWithTheMemory) {
  const auto text = doctor_json({FR_SOURCE_DIR "/models/rwkv7-story-9m.pth", ""});
  ASSERT_TRUE(text.ok()) << text.error().message;
  const Json weights = Json::parse(*text)["model"]["weights"];
  ASSERT_EQ(weights.size(), 4u);
  EXPECT_EQ(weights[0]["dtype"], "fp32");
  EXPECT_EQ(weights[0]["bytes"], 9083904 * 4);
  EXPECT_EQ(weights[0]["verdict"], "fits");
  for (std::size_t i = 1; i < 4; ++i) EXPECT_LT(weights[i]["bytes"], weights[i - 1]["bytes"]);
  EXPECT_GT(weights[3]["bytes"], 9083904 / 2);
}

TEST(Doctor, AModelThatIsNoneIsAnError) {
  const auto missing = doctor_json({"/no/model.pth", ""});
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code, ErrorCode::invalid_file);
}

TEST(Doctor, FindsGpusThroughTheDriver) {
  const GpuInfo two = gpu_info(FR_FAKE_CUDA);
  EXPECT_EQ(two.cuda, 12040);
  EXPECT_EQ(two.problem, "");
  ASSERT_EQ(two.devices.size(), 2u);
  EXPECT_EQ(two.devices[1].name, "GPU 101");
  EXPECT_EQ(two.devices[1].memory, std::uint64_t{8} << 30);
  ::setenv("FR_FAKE_CUDA_ERROR", "100", 1);
  const GpuInfo broken = gpu_info(FR_FAKE_CUDA);
  ::unsetenv("FR_FAKE_CUDA_ERROR");
  EXPECT_TRUE(broken.devices.empty());
  EXPECT_NE(broken.problem.find("100"), std::string::npos);
}

TEST(Doctor, NoDriverAndAStrangeLibraryAreNoCrash) {
  for (const char* library : {"libno-such-library.so.1", "libm.so.6"}) {
    const GpuInfo none = gpu_info(library);
    EXPECT_EQ(none.cuda, 0);
    EXPECT_TRUE(none.devices.empty());
  }
}

}  // namespace
}  // namespace fr
