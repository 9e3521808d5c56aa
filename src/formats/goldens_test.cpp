// The official checkpoints of the shared conformance set against their manifests, which PyTorch made.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "formats/formats.h"
#include "formats/pth.h"
#include "formats/test_files.h"

namespace fr {
namespace {

const std::filesystem::path goldens = FR_SOURCE_DIR "/../shared/goldens";

double element(const TensorView& t, std::int64_t offset) {
  const std::byte* p = t.data + offset * static_cast<std::int64_t>(dtype_size(t.dtype));
  if (t.dtype == DType::u8) return static_cast<double>(*p);
  if (t.dtype == DType::f32) {
    float f;
    std::memcpy(&f, p, sizeof f);
    return f;
  }
  std::uint16_t half;
  std::memcpy(&half, p, sizeof half);
  return t.dtype == DType::f16 ? half_to_float(half) : bf16_to_float(half);
}

// Every element in row-major order, by another way than TensorView::read.
void append_elements(const TensorView& t, std::size_t dimension, std::int64_t offset,
                     std::vector<double>& out) {
  if (dimension == t.shape.size()) {
    out.push_back(element(t, offset));
    return;
  }
  for (std::int64_t i = 0; i < t.shape[dimension]; ++i) {
    append_elements(t, dimension + 1, offset + i * t.stride[dimension], out);
  }
}
std::vector<double> elements(const TensorView& t) {
  std::vector<double> out;
  append_elements(t, 0, 0, out);
  return out;
}

std::string torch_name(DType t) {
  switch (t) {
    case DType::f32:
      return "float32";
    case DType::f16:
      return "float16";
    case DType::bf16:
      return "bfloat16";
    case DType::u8:
      return "uint8";
    default:
      return "other";
  }
}

TEST(Goldens, EveryPthAgreesWithItsManifest) {
  if (!std::filesystem::exists(goldens)) GTEST_SKIP() << "THE CONFORMANCE SET IS MISSING: " << goldens;
  std::size_t files = 0;
  for (const auto& manifest : std::filesystem::directory_iterator(goldens / "manifests")) {
    ++files;
    const auto model = goldens / "models" / manifest.path().stem();
    SCOPED_TRACE(model.string());
    std::ifstream in(manifest.path());
    const auto expected = nlohmann::json::parse(in);
    const auto file = MappedFile::open(model);  // names and shapes as they are stored
    ASSERT_TRUE(file.ok()) << file.error().message;
    const auto bytes = (*file)->bytes();
    const auto c = parse_pth(bytes, model.string());
    ASSERT_TRUE(c.ok()) << c.error().message;
    EXPECT_TRUE(verify_pth(bytes, model.string()).ok());
    EXPECT_TRUE(test::views_are_inside(*c, bytes));
    ASSERT_EQ(c->tensors.size() + c->metadata.size(), expected.size());
    std::size_t next = 0;
    for (const auto& e : expected) {
      if (!e.contains("shape")) {  // "_strategy" and the like
        const auto& value = e["python_value"];
        EXPECT_EQ(c->metadata.at(e["name"]), value.is_string() ? value.get<std::string>() : value.dump());
        continue;
      }
      const TensorView& t = c->tensors[next++];
      SCOPED_TRACE(t.name);
      EXPECT_EQ(t.name, e["name"]);
      EXPECT_EQ(torch_name(t.dtype), e["dtype"]);
      EXPECT_EQ(t.shape, e["shape"].get<std::vector<std::int64_t>>());
      EXPECT_EQ(t.stride, e["stride"].get<std::vector<std::int64_t>>());
      const auto values = elements(t);
      const auto first = e["first"].get<std::vector<double>>();
      ASSERT_GE(values.size(), first.size());
      EXPECT_TRUE(std::equal(first.begin(), first.end(), values.begin()));
      EXPECT_EQ(values.back(), e["last"].get<double>());
      double sum = 0, magnitude = 0;
      for (const double v : values) {
        sum += v;
        magnitude += std::abs(v);
      }
      EXPECT_NEAR(sum, e["sum"].get<double>(), 1e-9 * (1 + magnitude));
      EXPECT_NEAR(magnitude, e["abs_sum"].get<double>(), 1e-9 * (1 + magnitude));
    }
  }
  EXPECT_GE(files, 18u);
}

TEST(Goldens, ConvertedFilesKeepTheirMarks) {
  if (!std::filesystem::exists(goldens)) GTEST_SKIP() << "THE CONFORMANCE SET IS MISSING: " << goldens;
  const auto c = open_checkpoint(goldens / "models/v4_l7.chatrwkv_cuda_fp16i8.pth");
  ASSERT_TRUE(c.ok()) << c.error().message;
  EXPECT_EQ(c->metadata, (std::map<std::string, std::string>{
                             {"_strategy", "cuda fp16i8"}, {"_rescale_layer", "6"}, {"_version", "0.7"}}));
}

TEST(Goldens, SafetensorsEqualsPth) {
  if (!std::filesystem::exists(goldens)) GTEST_SKIP() << "THE CONFORMANCE SET IS MISSING: " << goldens;
  const auto a = open_checkpoint(goldens / "models/v6_state.pth");
  const auto b = open_checkpoint(goldens / "models/v6_state.safetensors");
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_EQ(b->format, "safetensors");
  EXPECT_EQ(a->tensors.size(), b->tensors.size());
  for (const TensorView& t : a->tensors) {
    const TensorView* other = b->find(t.name);
    ASSERT_NE(other, nullptr) << t.name;
    EXPECT_EQ(t.dtype, other->dtype);
    EXPECT_EQ(t.shape, other->shape);
    EXPECT_EQ(elements(t), elements(*other)) << t.name;
  }
}

TEST(Goldens, EveryOtherModelFileOpensOrIsNamed) {
  if (!std::filesystem::exists(goldens)) GTEST_SKIP() << "THE CONFORMANCE SET IS MISSING: " << goldens;
  const std::set<std::string> models = {".pth", ".safetensors", ".st", ".fr", ".fla"};
  const std::map<std::string, std::string> others = {
      {".msgpack", "vocabulary"}, {".txt", "text file"}, {".json", "JSON"}};
  std::size_t opened = 0, refused = 0;
  for (const char* folder : {"models", "reverse", "tiny", "tokenizer"}) {
    for (const auto& entry : std::filesystem::directory_iterator(goldens / folder)) {
      const std::string path = entry.path(), ending = entry.path().extension();
      const auto c = open_checkpoint(path);
      const bool model = models.contains(ending) || entry.path().filename().string().starts_with("tiny-");
      if (model) {
        ASSERT_TRUE(c.ok()) << c.error().message;
        EXPECT_TRUE(verify_checkpoint(*c).ok());
        ++opened;
        continue;
      }
      ASSERT_FALSE(c.ok()) << path;
      EXPECT_TRUE(test::is_good_message(c.error(), path)) << c.error().message;
      if (const auto it = others.find(ending); it != others.end()) {
        EXPECT_NE(c.error().message.find(it->second), std::string::npos) << c.error().message;
      }
      ++refused;
    }
  }
  EXPECT_GE(opened, 26u);
  EXPECT_GE(refused, 8u);
}

}  // namespace
}  // namespace fr
