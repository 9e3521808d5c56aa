// GGUF models compute what their twins of plain fp32 tensors of official form compute, on every backend:
// those that the PyPI package gguf wrote (tools/make_gguf_fixtures.py), and those that write_gguf writes.
#include <gtest/gtest.h>

#include <filesystem>

#include "formats/formats.h"
#include "formats/gguf.h"
#include "golden.h"

namespace fr::test {
namespace {

std::vector<float> logits(Checkpoint file, const Target& target) {
  DeviceRunnerOptions options;
  options.target = target;
  DeviceRunner runner(std::move(file), options);
  runner.reserve(1);
  return runner.step({{1, 15, 3, 0, 3, 9, 12}, {{0, 0, 7}}, {0, 1, 2, 3, 4, 5, 6}});
}

// The same numbers as contiguous fp32.
Checkpoint twin(const Checkpoint& file) {
  auto numbers = std::make_shared<std::vector<std::vector<float>>>();
  Checkpoint copy;
  copy.path = file.path;
  copy.rescale_every = file.rescale_every;
  for (const TensorView& t : file.tensors) {
    std::vector<float>& values = numbers->emplace_back(static_cast<std::size_t>(t.size()));
    t.read(0, values);
    copy.tensors.push_back({t.name, DType::f32, t.shape, dense_strides(t.shape),
                            reinterpret_cast<const std::byte*>(values.data())});
  }
  copy.memory = numbers;
  copy.index();
  return copy;
}

class GgufModels : public testing::TestWithParam<Target> {};

TEST_P(GgufModels, FilesOfThePackage) {
  const std::filesystem::path folder = FR_SOURCE_DIR "/src/formats/testdata";
  for (const char* name : {"v6_separate", "v6_legacy", "v7_half", "v7_k_quants"}) {
    const Checkpoint file = need(open_checkpoint(folder / (std::string(name) + ".gguf")));
    EXPECT_LE(difference(logits(file, GetParam()), logits(twin(file), GetParam())).l2, 1e-5) << name;
  }
}

TEST_P(GgufModels, FilesThatAreWritten) {
  const std::string path =
      std::filesystem::path(testing::TempDir()) / ("fr_gguf_model_" + GetParam().name() + ".gguf");
  for (const char* version : {"6", "7"}) {
    RandomShape shape;
    shape.version = version;
    shape.n_embd = 256;
    const Checkpoint model = need(random_checkpoint(shape, {DType::bf16, 4, 0}));
    const std::vector<float> expected = logits(model, GetParam());
    for (const DType dtype : {DType::f32, DType::bf16, DType::q8_0, DType::q4_0, DType::q4_k}) {
      GgufOptions options;
      options.dtype = dtype;
      need(write_gguf(path, model, options));
      const Checkpoint file = need(open_checkpoint(path));
      const std::vector<float> found = logits(file, GetParam());
      EXPECT_LE(difference(found, logits(twin(file), GetParam())).l2, 1e-5)
          << version << " " << dtype_name(dtype);
      // Against the model itself: nothing is lost, or as much as the format costs.
      const double cost = is_float_dtype(dtype) ? 1e-6 : dtype == DType::q8_0 ? 0.04 : 0.5;
      EXPECT_LE(difference(found, expected).l2, cost) << version << " " << dtype_name(dtype);
    }
  }
  std::filesystem::remove(path);
}

INSTANTIATE_TEST_SUITE_P(Backends, GgufModels, testing::ValuesIn(targets()),
                         [](const auto& info) { return info.param.name(); });

}  // namespace
}  // namespace fr::test
