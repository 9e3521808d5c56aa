#include "formats/safetensors.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "formats/formats.h"
#include "formats/test_files.h"

namespace fr {
namespace {

using test::bytes_of;
using test::counting;
using test::le;
using test::safetensors;
using namespace std::string_literals;

void expect_error(const std::string& file, std::string_view part) {
  const auto c = parse_safetensors(bytes_of(file), "f");
  ASSERT_FALSE(c.ok()) << "wanted: " << part;
  EXPECT_NE(c.error().message.find(part), std::string::npos) << c.error().message;
  EXPECT_TRUE(test::is_good_message(c.error(), "f")) << c.error().message;
  EXPECT_EQ(c.error().code, ErrorCode::invalid_file);
}

std::string tensor(const std::string& dtype, const std::string& shape, const std::string& range) {
  return "{\"dtype\":\"" + dtype + "\",\"shape\":[" + shape + "],\"data_offsets\":[" + range + "]}";
}

TEST(Safetensors, ReadsTensorsMetadataAndPadding) {
  const std::string file = safetensors(
      "{\"b\":" + tensor("F16", "4", "24,32") +
          ",\"__metadata__\":{\"format\":\"pt\"},\"a\\u00e9\":" + tensor("F32", "2, 3", "0,24") +
          ", \"s\":" + tensor("BF16", "", "32,34") + ",\"e\":" + tensor("U8", "3,0", "34,34") + "}     ",
      counting(1.0f, 6) + counting<std::uint16_t>(0x3c00, 4) + le<std::uint16_t>(0x4000));
  const auto c = parse_safetensors(bytes_of(file), "f");
  ASSERT_TRUE(c.ok()) << c.error().message;
  EXPECT_EQ(c->format, "safetensors");
  ASSERT_EQ(c->tensors.size(), 4u);
  EXPECT_EQ(c->tensors[0].name, "b");  // file order
  const TensorView* a = c->find("a\xc3\xa9");
  ASSERT_NE(a, nullptr);
  EXPECT_EQ(a->shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(a->stride, (std::vector<std::int64_t>{3, 1}));
  EXPECT_EQ(test::values_of(*a), (std::vector<float>{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(test::values_of(*c->find("s")), std::vector<float>{2});
  EXPECT_EQ(c->find("e")->size(), 0);
  EXPECT_EQ(c->metadata.at("format"), "pt");
  EXPECT_TRUE(test::views_are_inside(*c, bytes_of(file)));
}

TEST(Safetensors, EveryDtype) {
  const std::pair<const char*, DType> dtypes[] = {
      {"F32", DType::f32}, {"F16", DType::f16},     {"BF16", DType::bf16}, {"F64", DType::f64},
      {"I64", DType::i64}, {"I32", DType::i32},     {"I16", DType::i16},   {"I8", DType::i8},
      {"U8", DType::u8},   {"BOOL", DType::boolean}};
  for (const auto& [name, dtype] : dtypes) {
    const std::size_t size = dtype_size(dtype) * 2;
    const std::string file =
        safetensors("{\"x\":" + tensor(name, "2", "0," + std::to_string(size)) + "}", std::string(size, 'x'));
    const auto c = parse_safetensors(bytes_of(file), "f");
    ASSERT_TRUE(c.ok()) << c.error().message;
    EXPECT_EQ(c->tensors[0].dtype, dtype);
  }
  for (const char* name : {"F8_E4M3", "F8_E5M2", "U16", "U64", "C64", "F4", "bf16", "", "\\u001b[31m"}) {
    expect_error(safetensors("{\"x\":" + tensor(name, "1", "0,1") + "}", "x"), "tensor \"x\" has dtype ");
  }
}

TEST(Safetensors, LyingHeaderLengths) {
  const std::string rest = "{\"x\":" + tensor("U8", "1", "0,1") + "}x";
  expect_error("", "too short");
  expect_error("1234567", "too short");
  for (const std::uint64_t length : {std::uint64_t{100'000'001}, std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
    expect_error(le(length) + rest, "more than 100 MB");
  }
  expect_error(le<std::uint64_t>(rest.size() + 1) + rest, "longer than the file");
  expect_error(le<std::uint64_t>(rest.size()) + rest, "not valid JSON");  // data taken for header
  expect_error(le<std::uint64_t>(0) + rest, "does not begin with {");
  expect_error(safetensors("[]", ""), "does not begin with {");
  expect_error(safetensors(" {}", ""), "does not begin with {");
  expect_error(safetensors("{}", ""), "holds no tensors");
}

TEST(Safetensors, JsonOfAnotherShape) {
  expect_error(safetensors("{", ""), "not valid JSON at byte");
  expect_error(safetensors("{}{}", ""), "not valid JSON");
  expect_error(safetensors("{\"x\":1}", ""), "unexpected value at \"x\"");
  expect_error(safetensors("{\"x\":\"y\"}", ""), "unexpected value at \"x\"");
  expect_error(safetensors("{\"x\":[1]}", ""), "unexpected value at \"x\"");
  expect_error(safetensors("{\"\xff\":1}", ""), "not valid JSON");
  expect_error(safetensors("{\"__metadata__\":{\"x\":1}}", ""), "unexpected value at \"x\"");
  expect_error(safetensors("{\"__metadata__\":{\"x\":{}}}", ""), "unexpected value at \"x\"");
  expect_error(safetensors("{\"__metadata__\":{\"x\":\"\",\"x\":\"\"}}", ""), "metadata has \"x\" twice");
  expect_error(safetensors("{\"__metadata__\":{},\"__metadata__\":{}}", ""), "twice");
  expect_error(safetensors("{\"x\":{}}", ""), "tensor \"x\" lacks");
  expect_error(safetensors("{\"x\":{\"dtype\":\"U8\",\"shape\":[1]}}", "x"), "tensor \"x\" lacks");
  expect_error(safetensors("{\"x\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", "x"), "tensor \"x\" lacks");
  expect_error(safetensors("{\"x\":{\"dtype\":\"U8\",\"dtype\":\"U8\"}}", ""),
               "tensor \"x\" has an unexpected value at \"dtype\"");
  expect_error(safetensors("{\"x\":{\"shape\":[1],\"shape\":[1]}}", ""), "unexpected value at \"shape\"");
  expect_error(safetensors("{\"x\":{\"data_offsets\":[0,1],\"data_offsets\":[0,1]}}", ""),
               "unexpected value at \"data_offsets\"");
  expect_error(safetensors("{\"x\":{\"data_offsets\":[0,1,1]}}", ""), "unexpected value at \"data_offsets\"");
  expect_error(safetensors("{\"x\":{\"data_offsets\":[0]}}", ""), "tensor \"x\" lacks");
  expect_error(safetensors("{\"x\":{\"strides\":[1]}}", ""), "unexpected value at \"strides\"");
  expect_error(safetensors("{\"x\":{\"shape\":[[1]]}}", ""), "unexpected value at \"shape\"");
  for (const char* number :
       {"-1", "1.5", "1e3", "null", "true", "\"1\"", "18446744073709551616", "9223372036854775808"}) {
    expect_error(safetensors("{\"x\":{\"shape\":["s + number + "]}}", ""), "unexpected value at \"shape\"");
  }
  expect_error(safetensors("{\"x\":{\"shape\":[1,1,1,1,1,1,1,1,1]}}", ""), "unexpected value at \"shape\"");
}

TEST(Safetensors, ShapesAndRangesThatDisagree) {
  const auto one = [](const std::string& dtype, const std::string& shape, const std::string& range,
                      std::size_t data) {
    return safetensors("{\"x\":" + tensor(dtype, shape, range) + "}", std::string(data, 'x'));
  };
  EXPECT_TRUE(parse_safetensors(bytes_of(one("F32", "2", "0,8", 8)), "f").ok());
  expect_error(one("F32", "3", "0,8", 8), "tensor \"x\" has shape [3] in fp32, but 8 bytes");
  expect_error(one("F32", "2", "0,8", 7), "tensor \"x\" has its data outside the file");
  expect_error(one("F32", "2", "8,0", 8), "outside the file");
  expect_error(one("F32", "2", "18446744073709551615,7", 8), "outside the file");
  expect_error(one("F32", "2", "0,8", 9), "1 bytes after the data");
  expect_error(one("F32", "2", "1,9", 9), "tensor \"x\" leaves a hole");
  expect_error(one("F32", "4611686018427387904,4", "0,8", 8), "but 8 bytes");
  expect_error(one("F32", "4611686018427387906", "0,8", 8), "but 8 bytes");  // 4 * 2^62 + 8 is 8 in 64 bits
  expect_error(one("F32", "9223372036854775807,9223372036854775807,0", "0,0", 0), "but 0 bytes");
  const auto two = [](const std::string& a, const std::string& b) {
    return safetensors("{\"a\":" + tensor("U8", "4", a) + ",\"b\":" + tensor("U8", "4", b) + "}",
                       std::string(8, 'x'));
  };
  EXPECT_TRUE(parse_safetensors(bytes_of(two("4,8", "0,4")), "f").ok());
  expect_error(two("0,4", "0,4"), "tensor \"b\" overlaps");
  expect_error(two("0,4", "2,6"), "tensor \"b\" overlaps");
  expect_error(two("1,5", "0,4"), "tensor \"a\" overlaps");
  expect_error(safetensors("{\"a\":" + tensor("U8", "4", "0,4") + ",\"a\":" + tensor("U8", "4", "4,8") + "}",
                           std::string(8, 'x')),
               "tensor \"a\" occurs more than once");
  expect_error(safetensors("{\"" + std::string(2000, 'n') + "\":" + tensor("U8", "1", "0,1") + "}", "x"),
               "is too long");
}

TEST(Safetensors, EveryTruncationIsAnError) {
  const std::string file = safetensors("{\"x\":" + tensor("F32", "2", "0,8") + "}", std::string(8, 'x'));
  for (std::size_t n = 0; n < file.size(); ++n)
    EXPECT_FALSE(parse_safetensors(bytes_of(file.substr(0, n)), "f").ok()) << n;
}

// ---- writer

class Writer : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::path(testing::TempDir()) /
              ("fr_" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string path(const char* name = "out.safetensors") const { return folder_ / name; }
  static std::string content(const std::string& file) {
    std::ifstream in(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  std::size_t files_in_folder() const {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(folder_), {}));
  }

  std::filesystem::path folder_;
};

TensorView view(const char* name, DType dtype, std::vector<std::int64_t> shape,
                std::vector<std::int64_t> stride, const void* data) {
  return {name, dtype, std::move(shape), std::move(stride), static_cast<const std::byte*>(data)};
}

TEST_F(Writer, WhatIsWrittenIsReadBack) {
  const float f[6] = {1, 2, 3, 4, 5, 6};
  const std::uint8_t u[3] = {7, 8, 9};
  const double d[4] = {1, 2, 3, 4};
  const std::uint16_t h[6] = {1, 2, 3, 4, 5, 6};
  const TensorView tensors[] = {view("u", DType::u8, {3}, {1}, u),
                                view("plain", DType::f32, {2, 3}, {3, 1}, f),
                                view("t", DType::f32, {3, 2}, {1, 3}, f),
                                view("every second", DType::f64, {2}, {2}, d),
                                view("halves", DType::bf16, {3, 2}, {1, 3}, h),
                                view("u backwards", DType::u8, {3, 1}, {1, 0}, u),
                                view("repeated", DType::u8, {2, 2}, {0, 2}, u),
                                view("empty", DType::f32, {0, 3}, {1, 1}, f),
                                view("scalar \"\\\n", DType::f32, {}, {}, f + 4)};
  ASSERT_TRUE(write_safetensors(path(), tensors, {{"k", "v\n\""}, {"rwkv.version", "7"}}).ok());
  EXPECT_EQ(files_in_folder(), 1u);
  const auto c = open_checkpoint(path());
  ASSERT_TRUE(c.ok()) << c.error().message;
  EXPECT_EQ(c->metadata, (std::map<std::string, std::string>{{"k", "v\n\""}, {"rwkv.version", "7"}}));
  ASSERT_EQ(c->tensors.size(), std::size(tensors));
  for (const TensorView& t : c->tensors) {
    EXPECT_TRUE(t.contiguous()) << t.name;
    EXPECT_EQ((t.data - c->files[0]->bytes().data()) % static_cast<std::ptrdiff_t>(dtype_size(t.dtype)), 0)
        << t.name;
  }
  EXPECT_EQ(test::values_of(*c->find("plain")), (std::vector<float>{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(test::values_of(*c->find("t")), (std::vector<float>{1, 4, 2, 5, 3, 6}));
  EXPECT_EQ(test::values_of(*c->find("scalar \"\\\n")), std::vector<float>{5});
  EXPECT_EQ(c->find("empty")->shape, (std::vector<std::int64_t>{0, 3}));
  const double second[2] = {1, 3};
  EXPECT_EQ(std::memcmp(c->find("every second")->data, second, sizeof second), 0);
  const std::uint16_t halves[6] = {1, 4, 2, 5, 3, 6};
  EXPECT_EQ(std::memcmp(c->find("halves")->data, halves, sizeof halves), 0);
  EXPECT_EQ(std::memcmp(c->find("repeated")->data, "\7\11\7\11", 4), 0);
  EXPECT_EQ(c->tensors.front().name, "every second");  // wider elements first
  EXPECT_EQ(c->tensors[1].name, "plain");
}

TEST_F(Writer, TheSameInputGivesTheSameBytes) {
  const float f[2] = {1, 2};
  const TensorView t[] = {view("x", DType::f32, {2}, {1}, f)};
  ASSERT_TRUE(write_safetensors(path("a"), t, {{"k", "v"}}).ok());
  ASSERT_TRUE(write_safetensors(path("b"), t, {{"k", "v"}}).ok());
  const std::string expected =
      R"({"__metadata__":{"k":"v"},"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  EXPECT_EQ(content(path("a")),
            safetensors(expected + std::string(expected.size() % 8 ? 8 - expected.size() % 8 : 0, ' '),
                        counting(1.0f, 2)));
  EXPECT_EQ(content(path("a")), content(path("b")));
}

TEST_F(Writer, LargeStridedTensors) {
  std::vector<std::uint16_t> data(700 * 800);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::uint16_t>(i * 7);
  const TensorView t[] = {view("x", DType::f16, {800, 700}, {1, 800}, data.data())};
  ASSERT_TRUE(write_safetensors(path(), t).ok());
  const auto c = open_checkpoint(path());
  ASSERT_TRUE(c.ok()) << c.error().message;
  std::vector<std::uint16_t> out(data.size());
  std::memcpy(out.data(), c->tensors[0].data, out.size() * 2);
  for (std::size_t r = 0; r < 800; ++r) {
    for (std::size_t k = 0; k < 700; ++k) ASSERT_EQ(out[r * 700 + k], data[k * 800 + r]);
  }
}

TEST_F(Writer, ErrorsLeaveTheOldFileAlone) {
  const float f[2] = {1, 2};
  const TensorView good[] = {view("x", DType::f32, {2}, {1}, f)};
  ASSERT_TRUE(write_safetensors(path(), good).ok());
  const std::string before = content(path());
  for (const char* name : {"", "__metadata__", "\xff"}) {
    const TensorView bad[] = {view(name, DType::f32, {2}, {1}, f)};
    const auto status = write_safetensors(path(), bad);
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().code, ErrorCode::usage);
  }
  const TensorView twice[] = {good[0], good[0]};
  EXPECT_FALSE(write_safetensors(path(), twice).ok());
  EXPECT_FALSE(write_safetensors(path(), {}).ok());
  EXPECT_EQ(content(path()), before);
  const auto missing = write_safetensors(path("no/such/folder"), good);
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code, ErrorCode::runtime);
  EXPECT_TRUE(test::is_good_message(missing.error(), path("no/such/folder"))) << missing.error().message;
  std::filesystem::create_directory(path("directory"));
  EXPECT_FALSE(write_safetensors(path("directory"), good).ok());  // fails at the rename
  EXPECT_EQ(files_in_folder(), 2u);                               // no temporary file is left
}

}  // namespace
}  // namespace fr
