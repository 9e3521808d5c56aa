#include "formats/rwkv_bin.h"

#include <gtest/gtest.h>

#include "formats/test_files.h"

namespace fr {
namespace {

using test::bytes_of;
using test::counting;
using test::le;

std::string header(std::uint32_t version = 101, std::uint32_t format = 0) {
  std::string out;
  for (const std::uint32_t n : {0x67676d66u, version, 2u, 3u, 1u, format}) out += le(n);
  return out;
}
std::string tensor(const std::string& name, std::uint32_t format, const std::vector<std::uint32_t>& sizes,
                   const std::string& data) {
  std::string out =
      le(static_cast<std::uint32_t>(sizes.size())) + le(static_cast<std::uint32_t>(name.size())) + le(format);
  for (const std::uint32_t n : sizes) out += le(n);
  return out + name + data;
}
const std::string emb = tensor("emb.weight", 0, {3, 2}, counting(1.0f, 6));

void expect_error(const std::string& file, std::string_view part) {
  const auto c = parse_rwkv_bin(bytes_of(file), "f.bin");
  ASSERT_FALSE(c.ok()) << "wanted: " << part;
  EXPECT_NE(c.error().message.find(part), std::string::npos) << c.error().message;
  EXPECT_TRUE(test::is_good_message(c.error(), "f.bin")) << c.error().message;
}

TEST(RwkvBin, SizesAreReversed) {
  const std::string file = header() + emb + tensor("x", 1, {4, 3, 2}, std::string(48, 'h'));
  const auto c = parse_rwkv_bin(bytes_of(file), "f.bin");
  ASSERT_TRUE(c.ok()) << c.error().message;
  EXPECT_EQ(c->format, "rwkv.cpp");
  EXPECT_EQ(c->metadata.at("file_version"), "101");
  EXPECT_EQ(c->metadata.at("data_type"), "FP32");
  EXPECT_TRUE(test::views_are_inside(*c, bytes_of(file)));
  const TensorView* t = c->find("emb.weight");
  ASSERT_NE(t, nullptr);
  EXPECT_EQ(t->shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(test::values_of(*t), (std::vector<float>{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(c->find("x")->shape, (std::vector<std::int64_t>{2, 3, 4}));
  EXPECT_EQ(c->find("x")->dtype, DType::f16);
}

TEST(RwkvBin, BlocksAreReadWhereTheVersionHasTheirForm) {
  // One block of q8_0: the scale 1, then 32 numbers.
  const std::string block = le<std::uint16_t>(0x3c00) + counting<std::int8_t>(-3, 32);
  const std::string file = header(101, 9) + tensor("w", 9, {32, 1}, block);
  const auto c = parse_rwkv_bin(bytes_of(file), "f.bin");
  ASSERT_TRUE(c.ok()) << c.error().message;
  EXPECT_EQ(c->find("w")->dtype, DType::q8_0);
  EXPECT_EQ(test::values_of(*c->find("w"))[0], -3);
  expect_error(header(100, 9) + tensor("w", 9, {32, 1}, block), "before 2023-05-27");
  expect_error(header(100, 1) + tensor("w", 9, {32, 1}, block), "tensor \"w\" is quantised (Q8_0)");
  expect_error(header(101, 9) + tensor("w", 9, {33, 1}, block + block), "impossible shape [1, 33] in q8_0");
  expect_error(header(101, 9) + tensor("w", 9, {16, 2}, block), "impossible shape");
}

TEST(RwkvBin, WhatIsWrongIsNamed) {
  expect_error(header(), "no tensors");
  expect_error(header().substr(0, 20), "too short");
  expect_error(header(99), "version 99");
  expect_error(header(102) + emb, "version 102");
  expect_error(header(101, 4) + emb, "Q4_1_O");
  expect_error(header(101, 17) + emb, "unknown number format 17");
  expect_error(header() + tensor("w", 5, {2}, "12"), "tensor \"w\" has the number format Q4_2");
  expect_error(header() + emb + emb, "more than once");
  expect_error(header() + emb.substr(0, emb.size() - 1),
               "tensor \"emb.weight\" has its data outside the file");
  expect_error(header() + emb + "\1", "ends inside the header");
  expect_error(header() + emb + std::string(12, '\0'), "no header of a tensor");
  expect_error(header() + tensor("w", 0, {0}, ""), "impossible shape [0]");
  expect_error(header() + tensor("w", 0, {0xffffffffu, 0xffffffffu, 0xffffffffu}, "x"), "impossible shape");
  expect_error(header() + tensor("w", 0, {0xffffffffu, 2}, "x"), "outside the file");
  expect_error(header() + tensor("emb.weight", 0, {2, 3}, counting(1.0f, 6)), "the header says [2, 3]");
  expect_error(header() + le(1u) + le(2000u) + le(0u) + le(1u), "no header of a tensor");
  expect_error(header() + le(1u) + le(20u) + le(0u) + le(1u) + "name", "inside a tensor's name");
}

}  // namespace
}  // namespace fr
