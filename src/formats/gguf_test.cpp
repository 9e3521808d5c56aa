#include "formats/gguf.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/quant.h"
#include "formats/formats.h"
#include "formats/layout.h"
#include "formats/test_gguf.h"

namespace fr {
namespace {

using gguf::Value;
using test::bytes_of;
using test::counting;
using test::GgufBuilder;
using test::le;
using test::rwkv_gguf;
using namespace std::string_literals;
using namespace std::string_view_literals;

const std::filesystem::path testdata = FR_SOURCE_DIR "/src/formats/testdata";

std::string error_of(const std::string& file) {
  const auto c = parse_gguf(bytes_of(file), "m.gguf");
  EXPECT_FALSE(c.ok());
  if (c.ok()) return "";
  EXPECT_TRUE(test::is_good_message(c.error(), "m.gguf")) << c.error().message;
  return c.error().message;
}
#define EXPECT_SAYS(message, part) \
  EXPECT_PRED2([](const std::string& m, const std::string& p) { return m.find(p) != m.npos; }, message, part)

// ---- the container

TEST(Gguf, ReadsEveryKindOfMetadata) {
  GgufBuilder b = rwkv_gguf();
  b.add("u8", Value::u8, "\xff").add("i8", Value::i8, "\xff").add("u16", Value::u16, "\xff\xff");
  b.add("i16", Value::i16, "\xff\xff")
      .add("i32", Value::i32, le(-7))
      .add("u64", Value::u64, le(~std::uint64_t{0}));
  b.add("i64", Value::i64, le(std::int64_t{-8}))
      .add("f32", Value::f32, le(0.1f))
      .add("f64", Value::f64, le(0.1));
  b.add("yes", Value::boolean, "\1")
      .add("no", Value::boolean, "\0"s)
      .add("text", "a\0b\n"s)
      .add("u32", 4'000'000'000u);
  b.add_array("numbers", Value::f64, 2, std::string(16, 'x'));
  b.add_array("nested", Value::array, 2,
              le(static_cast<std::uint32_t>(Value::u8)) + le<std::uint64_t>(3) + "abc" +
                  le(static_cast<std::uint32_t>(Value::string)) + le<std::uint64_t>(1) +
                  GgufBuilder::text("x"));
  b.add_array("tokenizer.ggml.tokens", Value::string, 3,
              GgufBuilder::text("<s>") + GgufBuilder::text("") + GgufBuilder::text("\xff\0\n"s));
  b.add_array("tokenizer.ggml.merges", Value::string, 1, GgufBuilder::text("a b"));
  const std::string file = b.tensor("t", {1}, 0, le(1.0f)).file();
  const auto c = parse_gguf(bytes_of(file), "m.gguf");
  ASSERT_TRUE(c.ok()) << c.error().message;
  const std::map<std::string, std::string> expected = {{"general.architecture", "rwkv7"},
                                                       {"rwkv7.wkv.head_size", "2"},
                                                       {"u8", "255"},
                                                       {"i8", "-1"},
                                                       {"u16", "65535"},
                                                       {"i16", "-1"},
                                                       {"i32", "-7"},
                                                       {"u64", "18446744073709551615"},
                                                       {"i64", "-8"},
                                                       {"f32", "0.100000001"},
                                                       {"f64", "0.10000000000000001"},
                                                       {"yes", "true"},
                                                       {"no", "false"},
                                                       {"text", "a\0b\n"s},
                                                       {"u32", "4000000000"}};
  EXPECT_EQ(c->metadata, expected);
  EXPECT_EQ(c->tokens, (std::vector<std::string_view>{"<s>", "", "\xff\0\n"sv}));
  EXPECT_EQ(c->format, "gguf");
}

TEST(Gguf, ReversesDimensionsAndReadsEveryNumberFormat) {
  GgufBuilder b = rwkv_gguf();
  b.version = 2;
  b.tensor("a", {3, 2}, 0, counting(1.0f, 6))
      .tensor("b", {1, 1, 1, 2}, 24, "\1\xff")
      .tensor("c", {}, 0, le(4.0f));
  b.tensor("d", {0, 7}, 0, "").tensor("e", {1}, 28, le(2.0));
  for (const gguf::TensorType& type : gguf::tensor_types) {
    if (!type.dtype) continue;
    const std::int64_t n = block_size(*type.dtype);
    b.tensor(std::string(type.name), {n, 2}, type.number, std::string(2 * dtype_size(*type.dtype), '\1'));
  }
  const std::string file = b.file();
  const auto c = parse_gguf(bytes_of(file), "m.gguf");
  ASSERT_TRUE(c.ok()) << c.error().message;
  EXPECT_TRUE(test::views_are_inside(*c, bytes_of(file)));
  const TensorView* a = c->find("a");
  EXPECT_EQ(a->shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(test::values_of(*a), (std::vector<float>{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(c->find("b")->shape, (std::vector<std::int64_t>{2, 1, 1, 1}));
  EXPECT_EQ(test::values_of(*c->find("c")), (std::vector<float>{4}));
  EXPECT_EQ(c->find("d")->shape, (std::vector<std::int64_t>{7, 0}));
  EXPECT_EQ(c->find("e")->dtype, DType::f64);
  for (const gguf::TensorType& type : gguf::tensor_types) {
    if (!type.dtype) continue;
    const TensorView* t = c->find(type.name);
    EXPECT_EQ(t->dtype, *type.dtype);
    EXPECT_EQ(t->bytes().size(), 2 * dtype_size(*type.dtype)) << type.name;
  }
}

TEST(Gguf, HonoursTheAlignment) {
  for (const std::uint32_t alignment : {1u, 8u, 64u, 4096u}) {
    GgufBuilder b = rwkv_gguf();
    b.alignment = alignment;
    b.add("general.alignment", alignment);
    b.tensor("a", {1}, 1, "ab").tensor("b", {1}, 0, le(5.0f));
    const std::string file = b.file();
    const auto c = parse_gguf(bytes_of(file), "m.gguf");
    ASSERT_TRUE(c.ok()) << c.error().message;
    EXPECT_EQ(test::values_of(*c->find("b")), (std::vector<float>{5})) << alignment;
  }
  for (const std::uint32_t alignment : {0u, 3u, 96u, 1u << 21, 0xffffffffu}) {
    const std::string file = rwkv_gguf().add("general.alignment", alignment).tensor("a", {1}, 1, "ab").file();
    EXPECT_SAYS(error_of(file), std::string("general.alignment is \"").append(std::to_string(alignment)) +
                                    "\", not a power of two");
  }
}

TEST(Gguf, NamesWhatItDoesNotRead) {
  GgufBuilder b = rwkv_gguf();
  b.version = 1;
  EXPECT_SAYS(error_of(b.file()), "GGUF file of version 1");
  b.version = 4;
  EXPECT_SAYS(error_of(b.file()), "GGUF file of version 4");
  b.version = 0x03000000;
  EXPECT_SAYS(error_of(b.file()), "big-endian GGUF file");
  for (const char* other : {"llama", "qwen2", "arwkv7", "rwkv6qwen2", "clip"}) {
    // Whatever its number formats are.
    const std::string file =
        GgufBuilder().add("general.architecture", other).tensor("t", {256}, 16, "").file();
    EXPECT_SAYS(error_of(file), "architecture \"" + std::string(other) + "\", not RWKV");
  }
  EXPECT_SAYS(error_of(GgufBuilder().file()), "does not say what model it is");
  for (const auto& [number, name] :
       {std::pair{16u, "IQ2_XXS"}, {15u, "Q8_K"}, {31u, "Q4_0_4_4"}, {34u, "TQ1_0"}, {39u, "MXFP4"}}) {
    const std::string message =
        error_of(rwkv_gguf().tensor("blk.0.x", {256}, number, std::string(256, 'x')).file());
    EXPECT_SAYS(message, "tensor \"blk.0.x\" is stored as " + std::string(name) + ", which is not supported");
  }
  EXPECT_SAYS(error_of(rwkv_gguf().tensor("x", {256}, 77, "").file()), "unknown number format 77");
}

TEST(Gguf, RefusesWhatCannotBe) {
  const auto one = [](const std::vector<std::int64_t>& dims, std::uint32_t type, std::uint64_t offset) {
    GgufBuilder b = rwkv_gguf();
    b.info("x", dims, type, offset).data = std::string(64, 'x');
    return error_of(b.file());
  };
  EXPECT_SAYS(one({4}, 0, 64), "outside the file");
  EXPECT_SAYS(one({17}, 0, 0), "outside the file");
  EXPECT_SAYS(one({4}, 0, 4), "multiple of the alignment");
  EXPECT_SAYS(one({4}, 0, ~std::uint64_t{31}), "outside the file");
  EXPECT_SAYS(one({33}, 8, 0), "no whole blocks of q8_0");
  EXPECT_SAYS(one({-4}, 0, 0), "negative size");
  EXPECT_SAYS(one({1, 1, 1, 1, 1}, 0, 0), "5 dimensions");
  EXPECT_SAYS(one({std::int64_t{1} << 40, std::int64_t{1} << 40}, 0, 0), "impossible shape");
  EXPECT_SAYS(one({std::int64_t{1} << 62}, 0, 0), "impossible shape");

  GgufBuilder b = rwkv_gguf();
  b.tensor("x", {16}, 0, std::string(64, 'x')).info("y", {8}, 0, 32);
  EXPECT_SAYS(error_of(b.file()), "\"y\" overlaps");
  EXPECT_SAYS(error_of(rwkv_gguf().tensor("x", {1}, 1, "ab").tensor("x", {1}, 1, "ab").file()),
              "more than once");
  EXPECT_SAYS(error_of(rwkv_gguf().file()), "no tensors");
  EXPECT_SAYS(error_of(rwkv_gguf().add("k", "v").add("k", "w").file()), "\"k\" twice");
  EXPECT_SAYS(error_of(rwkv_gguf().add("", "v").file()), "impossible length");
  EXPECT_SAYS(error_of(rwkv_gguf().add("k", static_cast<Value>(13), "").file()), "unknown type 13");
  EXPECT_SAYS(error_of(rwkv_gguf().add_array("k", static_cast<Value>(99), 0, "").file()), "unknown type 99");
  std::string nested;
  for (int i = 0; i < 20; ++i) nested += le(static_cast<std::uint32_t>(Value::array)) + le<std::uint64_t>(1);
  EXPECT_SAYS(error_of(rwkv_gguf().add_array("k", Value::array, 1, nested).file()), "nested too deeply");
  GgufBuilder counts = rwkv_gguf();
  counts.tensors = 40'000;
  EXPECT_SAYS(error_of(counts.file()), "claims 40000 tensors");
  counts.tensors = 0;
  counts.entries = ~std::uint64_t{0};
  EXPECT_SAYS(error_of(counts.file()), "metadata entries");
}

// ---- names and shapes

Result<Checkpoint> official(const std::string& file) {
  auto c = parse_gguf(bytes_of(file), "m.gguf");
  if (!c) return c;
  FR_OK(to_official_layout(*c));
  return c;
}

TEST(GgufLayout, SmallFile) {
  const std::string file = test::small_gguf();
  const auto c = official(file);
  ASSERT_TRUE(c.ok()) << c.error().message;
  EXPECT_EQ(c->layout, "llama.cpp");
  EXPECT_EQ(c->find("blocks.0.att.r_k")->shape, (std::vector<std::int64_t>{2, 2}));
  EXPECT_EQ(c->find("blocks.0.att.w1")->shape, (std::vector<std::int64_t>{32, 2}));
  EXPECT_EQ(c->find("blocks.0.att.a0")->shape, (std::vector<std::int64_t>{1, 1, 1}));
  float first = 1;
  for (const char mix : std::string("rwkvag")) {
    const TensorView* t = c->find(std::string("blocks.0.att.x_") + mix);
    ASSERT_NE(t, nullptr);
    EXPECT_EQ(t->shape, (std::vector<std::int64_t>{1, 1, 2}));
    EXPECT_EQ(test::values_of(*t), (std::vector<float>{first, first + 1}));
    first += 2;
  }
}

TEST(GgufLayout, ImpossibleShapesAreNamed) {
  const auto fails = [](GgufBuilder b, const std::string& part) {
    const std::string file = b.file();
    const auto c = official(file);
    ASSERT_FALSE(c.ok()) << part;
    EXPECT_TRUE(test::is_good_message(c.error(), "m.gguf")) << c.error().message;
    EXPECT_SAYS(c.error().message, part);
  };
  const std::string zeros(256, '\0');
  fails(rwkv_gguf().tensor("blk.0.time_mix_w1.weight", {4}, 0, zeros), "[4], expected a matrix");
  fails(rwkv_gguf().tensor("blk.0.time_mix_r_k.weight", {3}, 0, zeros), "[3] for heads of 2");
  fails(rwkv_gguf().tensor("blk.0.time_mix_lerp_fused.weight", {7}, 0, zeros), "expected 6 mixes");
  fails(rwkv_gguf().tensor("blk.0.time_mix_lerp_fused.weight", {4, 1, 1, 5}, 0, zeros), "without gates");
  fails(rwkv_gguf().tensor("blk.0.time_mix_lerp_fused.weight", {96}, 8, zeros), "expected 6 mixes");
  fails(rwkv_gguf("rwkv6").add("rwkv6.rescale_every_n_layers", Value::i32, le(-1)).tensor("x", {1}, 0, zeros),
        "rescale_every_n_layers is -1");
  fails(rwkv_gguf()
            .add("split.no", Value::u16, "\1\0"s)
            .add("split.count", Value::u16, "\2\0"s)
            .tensor("x", {1}, 0, zeros),
        "give the first one");
  fails(rwkv_gguf()
            .add("split.no", Value::u16, "\0\0"s)
            .add("split.count", Value::u16, "\2\0"s)
            .tensor("x", {1}, 0, zeros),
        "under another name");
  fails(GgufBuilder().add("split.no", Value::u16, "\1\0"s).tensor("x", {1}, 0, zeros), "further file");
}

TEST(GgufLayout, CopiesInLayer0AreDroppedAndOtherValuesKept) {
  for (const bool equal : {true, false}) {
    GgufBuilder b = rwkv_gguf();
    for (const char* i : {"0", "1", "2"}) {
      b.tensor("blk.0.time_mix_a"s + i + ".weight", {2, 2}, 0, counting(1.0f, 4));
      b.tensor("blk.0.time_mix_v"s + i + ".weight", {2, 2}, 0, counting(equal || *i != '2' ? 1.0f : 2.0f, 4));
    }
    const std::string file = b.file();
    const auto c = official(file);
    ASSERT_TRUE(c.ok()) << c.error().message;
    EXPECT_EQ(c->find("blocks.0.att.v1") == nullptr, equal);
    EXPECT_NE(c->find("blocks.0.att.a1"), nullptr);
  }
}

TEST(GgufLayout, SplitFilesAreReadTogether) {
  const std::filesystem::path folder =
      std::filesystem::path(testing::TempDir()) / ("fr_gguf_split_" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  const auto write = [&](int no, int count, GgufBuilder b) {
    b.add("split.no", Value::u16, le(static_cast<std::uint16_t>(no)));
    b.add("split.count", Value::u16, le(static_cast<std::uint16_t>(count)));
    const std::string number = std::to_string(no),
                      name = std::string("m-0000").append(std::to_string(no + 1)) + "-of-00003.gguf";
    std::ofstream(folder / name, std::ios::binary)
        << b.tensor(std::string("t").append(number), {1}, 0, le(static_cast<float>(no))).file();
  };
  write(0, 3, rwkv_gguf());
  write(1, 3, GgufBuilder());
  write(2, 3, GgufBuilder());
  const std::string first = folder / "m-00001-of-00003.gguf";
  auto c = open_checkpoint(first);
  ASSERT_TRUE(c.ok()) << c.error().message;
  EXPECT_EQ(c->tensors.size(), 3u);
  EXPECT_EQ(c->files.size(), 3u);
  EXPECT_EQ(test::values_of(*c->find("t2")), (std::vector<float>{2}));
  write(2, 2, GgufBuilder());
  c = open_checkpoint(first);
  ASSERT_FALSE(c.ok());
  EXPECT_SAYS(c.error().message, "not file 3 of the model");
  std::filesystem::remove(folder / "m-00003-of-00003.gguf");
  c = open_checkpoint(first);
  ASSERT_FALSE(c.ok());
  EXPECT_SAYS(c.error().message, "m-00003-of-00003.gguf");
  std::filesystem::remove_all(folder);
}

// ---- files that the PyPI package gguf wrote (tools/make_gguf_fixtures.py)

class GgufFixture : public testing::TestWithParam<const char*> {};

TEST_P(GgufFixture, HasTheNumbersThatThePackageReads) {
  std::ifstream in(testdata / "gguf_fixtures.json");
  const auto expected = nlohmann::json::parse(in)[GetParam()];
  const auto c = open_checkpoint(testdata / (std::string(GetParam()) + ".gguf"));
  ASSERT_TRUE(c.ok()) << c.error().message;
  EXPECT_EQ(c->rescale_every, std::string(GetParam()) == "v6_separate" ? 1 : 0);
  EXPECT_EQ(c->metadata.at("test.float64"), "0.10000000000000001");
  EXPECT_EQ(c->metadata.at("test.int8"), "-5");
  EXPECT_EQ(c->metadata.at("test.uint64"), "9223372036854775808");
  if (std::string(GetParam()) == "v7_half") {
    EXPECT_EQ(c->tokens.size(), 16u);
    EXPECT_EQ(c->tokens.at(4), "\xff\0\xfe"sv);
  }
  EXPECT_EQ(c->tensors.size(), expected.size());
  for (const auto& [name, e] : expected.items()) {
    const TensorView* t = c->find(name);
    ASSERT_NE(t, nullptr) << name;
    EXPECT_EQ(t->shape, e["shape"].get<std::vector<std::int64_t>>()) << name;
    double sum = 0, weighted = 0, magnitude = 0;
    const std::vector<float> values = test::values_of(*t);
    for (std::size_t i = 0; i < values.size(); ++i) {
      sum += double{values[i]};
      weighted += double{values[i]} * (static_cast<double>(i * 7919 % 1009) - 504);
      magnitude += std::abs(double{values[i]});
    }
    EXPECT_GT(magnitude, 0) << name;
    EXPECT_NEAR(sum, e["sum"].get<double>(), 1e-6 * magnitude) << name;
    EXPECT_NEAR(weighted, e["weighted"].get<double>(), 1e-4 * magnitude) << name;
  }
}
INSTANTIATE_TEST_SUITE_P(Files, GgufFixture,
                         testing::Values("v6_separate", "v6_legacy", "v7_half", "v7_k_quants"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace fr
