// The files that PyTorch itself wrote into testdata/ (by tools/make_format_fixtures.py).
#include <gtest/gtest.h>

#include "formats/formats.h"
#include "formats/test_files.h"

namespace fr {
namespace {

std::string path_of(const std::string& name) { return FR_SOURCE_DIR "/src/formats/testdata/" + name; }

using Shape = std::vector<std::int64_t>;
using Floats = std::vector<float>;

template <class T>
std::vector<T> raw_values(const TensorView& t) {
  std::vector<T> out(static_cast<std::size_t>(t.size()));
  std::memcpy(out.data(), t.data, out.size() * sizeof(T));
  return out;
}

void expect(const Checkpoint& c, const char* name, DType dtype, const Shape& shape, const Shape& stride,
            const Floats& values) {
  const TensorView* t = c.find(name);
  ASSERT_NE(t, nullptr) << name;
  EXPECT_EQ(t->dtype, dtype) << name;
  EXPECT_EQ(t->shape, shape) << name;
  EXPECT_EQ(t->stride, stride) << name;
  EXPECT_EQ(test::values_of(*t), values) << name;
}

class TorchFiles : public testing::TestWithParam<const char*> {};

TEST_P(TorchFiles, EveryKindOfTensor) {
  const auto c = open_checkpoint(path_of(GetParam()));
  ASSERT_TRUE(c.ok()) << c.error().message;
  EXPECT_EQ(c->format, "pth");
  std::vector<std::string> names;
  for (const TensorView& t : c->tensors) names.push_back(t.name);
  EXPECT_EQ(names, (std::vector<std::string>{"bf16", "fp16", "fp32", "transposed", "base", "base.rows",
                                             "base.columns", "expanded", "scalar", "empty", "parameter",
                                             "fp64", "int64", "int32", "int16", "int8", "uint8", "bool"}));
  expect(*c, "bf16", DType::bf16, {2, 3}, {3, 1}, {1, 2, 3, 4, 5, 6});
  expect(*c, "fp16", DType::f16, {1, 1, 5}, {5, 5, 1}, {10, 11, 12, 13, 14});
  expect(*c, "fp32", DType::f32, {3}, {1}, {20, 21, 22});
  expect(*c, "transposed", DType::bf16, {4, 3}, {1, 4}, {0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11});
  expect(*c, "base.rows", DType::f32, {2, 6}, {6, 1},
         {106, 107, 108, 109, 110, 111, 112, 113, 114, 115, 116, 117});
  expect(*c, "base.columns", DType::f32, {4, 2}, {6, 2}, {102, 104, 108, 110, 114, 116, 120, 122});
  EXPECT_EQ(c->find("base.rows")->data, c->find("base")->data + 24);  // shared storage
  expect(*c, "expanded", DType::f16, {2, 3}, {0, 0}, {7, 7, 7, 7, 7, 7});
  expect(*c, "scalar", DType::f32, {}, {}, {42.5});
  expect(*c, "empty", DType::f32, {3, 0}, {1, 1}, {});
  expect(*c, "parameter", DType::f32, {2, 2}, {2, 1}, {30, 31, 32, 33});
  EXPECT_EQ(raw_values<double>(*c->find("fp64")), (std::vector<double>{40, 41}));
  EXPECT_EQ(raw_values<std::int64_t>(*c->find("int64")), (std::vector<std::int64_t>{50, 51}));
  EXPECT_EQ(raw_values<std::int32_t>(*c->find("int32")), (std::vector<std::int32_t>{52, 53}));
  EXPECT_EQ(raw_values<std::int16_t>(*c->find("int16")), (std::vector<std::int16_t>{54, 55}));
  EXPECT_EQ(raw_values<std::int8_t>(*c->find("int8")), (std::vector<std::int8_t>{56, 57}));
  EXPECT_EQ(raw_values<std::uint8_t>(*c->find("uint8")), (std::vector<std::uint8_t>{58, 59}));
  EXPECT_EQ(raw_values<std::uint8_t>(*c->find("bool")), (std::vector<std::uint8_t>{1, 0}));
  EXPECT_EQ(c->metadata, (std::map<std::string, std::string>{{"_strategy", "cuda fp16i8"},
                                                             {"_version", "0.7"},
                                                             {"_rescale_layer", "6"},
                                                             {"_converted", "true"}}));
  EXPECT_TRUE(verify_checkpoint(*c).ok());
  EXPECT_TRUE(test::views_are_inside(*c, c->files[0]->bytes()));
}

INSTANTIATE_TEST_SUITE_P(Forms, TorchFiles,
                         testing::Values("zip.pth", "protocol4.pth", "legacy.pth", "legacy_protocol5.pth",
                                         "no_crc.pth"),
                         [](const auto& info) {
                           return std::string(info.param, std::strcspn(info.param, "."));
                         });

TEST(TorchFile, TrainingCheckpoint) {
  const auto c = open_checkpoint(path_of("wrapped.pth"));
  ASSERT_TRUE(c.ok()) << c.error().message;
  expect(*c, "weight", DType::f32, {3, 2}, {2, 1}, {1, 2, 3, 4, 5, 6});
  expect(*c, "bias", DType::f32, {3}, {1}, {7, 8, 9});
  EXPECT_EQ(c->metadata.at("epoch"), "3");
  EXPECT_EQ(c->notes.size(), 2u);
}

TEST(TorchFile, WhatIsNoWeightsIsNamed) {
  const std::pair<const char*, const char*> cases[] = {
      {"whole_module.pth", "\"torch.nn.modules.linear.Linear\""},
      {"float8.pth", "\"torch.float8_e4m3fn\""},
      {"list.pth", "not a dict"}};
  for (const auto& [file, part] : cases) {
    const auto c = open_checkpoint(path_of(file));
    ASSERT_FALSE(c.ok()) << file;
    EXPECT_NE(c.error().message.find(part), std::string::npos) << c.error().message;
    EXPECT_TRUE(test::is_good_message(c.error(), path_of(file))) << c.error().message;
  }
}

}  // namespace
}  // namespace fr
