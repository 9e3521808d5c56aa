// The files that tools/make_layout_fixtures.py wrote into testdata/layouts/: each layout against its twin in
// the official one, tensor by tensor.
#include <gtest/gtest.h>

#include <cmath>

#include "formats/formats.h"
#include "formats/test_files.h"

namespace fr {
namespace {

std::string path_of(const std::string& name) { return FR_SOURCE_DIR "/src/formats/testdata/layouts/" + name; }

std::vector<std::int64_t> without_ones(const std::vector<std::int64_t>& shape) {
  std::vector<std::int64_t> out;
  std::copy_if(shape.begin(), shape.end(), std::back_inserter(out), [](std::int64_t n) { return n != 1; });
  return out;
}

struct Pair {
  const char *file, *twin, *format, *layout;
};
void PrintTo(const Pair& p, std::ostream* out) { *out << p.file; }

class LayoutFiles : public testing::TestWithParam<Pair> {};

// What rwkv.cpp's converter computed: the value in the official file, and the version.
float processed(std::string_view name, float x, bool v4) {
  if (name.ends_with("time_first")) return std::exp(x);
  return v4 ? -std::exp(x) : std::exp(-std::exp(x));
}

TEST_P(LayoutFiles, EqualTheirTwins) {
  const Pair& p = GetParam();
  const auto file = open_checkpoint(path_of(p.file)), twin = open_checkpoint(path_of(p.twin));
  ASSERT_TRUE(file.ok()) << file.error().message;
  ASSERT_TRUE(twin.ok()) << twin.error().message;
  EXPECT_EQ(twin->layout, "official");
  EXPECT_EQ(file->layout, p.layout);
  EXPECT_EQ(file->format, p.format);
  EXPECT_EQ(file->rescale_every, 0);
  const bool tied = std::string_view(p.file).find("tied") != std::string_view::npos;
  const bool repeated = std::string_view(p.file).starts_with("v5_1.web_rwkv");
  std::size_t compared = 0;
  for (const TensorView& expected : twin->tensors) {
    SCOPED_TRACE(expected.name);
    const TensorView* t = file->find(expected.name);
    if (expected.name.ends_with("time_state") && file->format == "rwkv.cpp") continue;  // never had one
    ASSERT_NE(t, nullptr);
    ++compared;
    std::vector<float> numbers =
        test::values_of(tied && t->name == "head.weight" ? *twin->find("emb.weight") : expected);
    const auto found = test::values_of(*t);
    if (repeated && expected.shape.size() == 1 && t->shape.size() == 2) {  // [H] as [H, N]
      std::vector<float> wide;
      for (const float x : numbers) wide.insert(wide.end(), static_cast<std::size_t>(t->shape[1]), x);
      numbers = wide;
    } else {
      EXPECT_EQ(without_ones(t->shape), without_ones(expected.shape));
    }
    ASSERT_EQ(found.size(), numbers.size());
    for (std::size_t i = 0; i < found.size(); ++i) {
      if (!t->processed) {
        ASSERT_EQ(found[i], numbers[i]) << i;
      } else {
        const float wanted = processed(t->name, numbers[i], std::string_view(p.file).starts_with("v4"));
        ASSERT_NEAR(found[i], wanted, 1e-6f * std::abs(wanted)) << i;
      }
    }
  }
  EXPECT_EQ(file->tensors.size(), compared);
}

constexpr Pair pairs[] = {
    {"v5_1.web_rwkv.st", "v5_1.safetensors", "safetensors", "web-rwkv"},
    {"v5_2.web_rwkv.st", "v5_2.safetensors", "safetensors", "web-rwkv"},
    {"v6.web_rwkv.st", "v6.safetensors", "safetensors", "web-rwkv"},
    {"v7.web_rwkv.st", "v7.safetensors", "safetensors", "web-rwkv"},
    {"v4.transformers.safetensors", "v4.safetensors", "safetensors", "transformers"},
    {"v6.transformers.safetensors", "v6.safetensors", "safetensors", "transformers"},
    {"v7.transformers.safetensors", "v7.safetensors", "safetensors", "transformers"},
    {"v7.fla", "v7.safetensors", "safetensors", "fla"},
    {"v7_tied.fla.safetensors", "v7.safetensors", "safetensors", "fla"},
    {"v4.rwkv_cpp.bin", "v4.safetensors", "rwkv.cpp", "rwkv.cpp"},
    {"v5_0.rwkv_cpp.bin", "v5_0.safetensors", "rwkv.cpp", "rwkv.cpp"},
    {"v5_1.rwkv_cpp.bin", "v5_1.safetensors", "rwkv.cpp", "rwkv.cpp"},
    {"v5_2.rwkv_cpp.bin", "v5_2.safetensors", "rwkv.cpp", "rwkv.cpp"},
    {"v6.rwkv_cpp.bin", "v6.safetensors", "rwkv.cpp", "rwkv.cpp"},
    {"v7.rwkv_cpp.bin", "v7.safetensors", "rwkv.cpp", "rwkv.cpp"},
    {"v4_quantised.rwkv_cpp.bin", "v4_quantised.safetensors", "rwkv.cpp", "rwkv.cpp"},
    {"v7_quantised.rwkv_cpp.bin", "v7_quantised.safetensors", "rwkv.cpp", "rwkv.cpp"},
};
INSTANTIATE_TEST_SUITE_P(All, LayoutFiles, testing::ValuesIn(pairs), [](const auto& info) {
  std::string name = info.param.file;
  std::replace_if(
      name.begin(), name.end(), [](char c) { return c == '.' || c == '-'; }, '_');
  return name;
});

TEST(LayoutFiles, WhatRwkvCppComputedIsMarked) {
  for (const char* version : {"v4", "v5_0", "v5_1", "v5_2", "v6", "v7"}) {
    const auto file = open_checkpoint(path_of(std::string(version) + ".rwkv_cpp.bin"));
    ASSERT_TRUE(file.ok()) << file.error().message;
    std::vector<std::string> marked;
    for (const TensorView& t : file->tensors) {
      if (t.processed) marked.push_back(t.name);
    }
    std::vector<std::string> expected;
    if (version[1] < '6') expected.push_back("blocks.0.att.time_decay");
    if (version == std::string("v5_0")) expected.push_back("blocks.0.att.time_first");
    EXPECT_EQ(marked, expected) << version;
  }
}

TEST(LayoutFiles, EveryBlockFormatIsThere) {
  for (const char* name : {"v4_quantised.rwkv_cpp.bin", "v7_quantised.rwkv_cpp.bin"}) {
    const auto file = open_checkpoint(path_of(name));
    ASSERT_TRUE(file.ok()) << file.error().message;
    for (const DType type : {DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1, DType::q8_0}) {
      EXPECT_TRUE(std::any_of(file->tensors.begin(), file->tensors.end(),
                              [&](const TensorView& t) { return t.dtype == type; }))
          << name << " " << dtype_name(type);
    }
  }
}

TEST(LayoutFiles, ShardsConfigAndNotes) {
  const auto file = open_checkpoint(path_of("v7.fla"));
  ASSERT_TRUE(file.ok()) << file.error().message;
  EXPECT_EQ(file->files.size(), 3u);
  EXPECT_EQ(file->path, path_of("v7.fla"));
  EXPECT_EQ(file->metadata.at("config.architectures"), "RWKV7ForCausalLM");
  EXPECT_EQ(file->metadata.at("config.head_dim"), "16");
  EXPECT_EQ(file->metadata.at("config.tie_word_embeddings"), "false");
  EXPECT_TRUE(file->notes.empty()) << file->notes.front();
  const auto tied = open_checkpoint(path_of("v7_tied.fla.safetensors"));
  ASSERT_TRUE(tied.ok()) << tied.error().message;
  ASSERT_EQ(tied->notes.size(), 2u);
  EXPECT_NE(tied->notes[0].find("head is the embedding"), std::string::npos);
  EXPECT_NE(tied->notes[1].find("epsilon"), std::string::npos);  // no config: 16 * 1e-5
}

}  // namespace
}  // namespace fr
