// Damaged and hostile GGUF files: a named error, or views inside the file; quickly, and within 64 MB above
// its size.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "formats/formats.h"
#include "formats/gguf.h"
#include "formats/hostile.h"
#include "formats/test_gguf.h"

namespace fr {
namespace {

using gguf::Value;
using test::check;
using test::damaged;
using test::GgufBuilder;
using test::le;
using test::rwkv_gguf;
using namespace std::string_literals;

TEST(HostileGguf, DamagedFiles) {
  std::mt19937_64 random(11);
  const std::string good = test::small_gguf();
  ASSERT_TRUE(check(parse_gguf, good));
  const std::size_t padding = 30;  // after the last number
  for (std::size_t n = 0; n + padding < good.size(); ++n)
    EXPECT_FALSE(check(parse_gguf, good.substr(0, n))) << "cut at " << n;
  std::size_t refused = 0;
  for (int i = 0; i < 3000; ++i) refused += !check(parse_gguf, damaged(good, random));
  EXPECT_GT(refused, 1000u);
}

TEST(HostileGguf, DamagedHeadersOfRealFiles) {
  std::mt19937_64 random(12);
  for (const char* name : {"v6_separate.gguf", "v6_legacy.gguf", "v7_half.gguf"}) {
    std::ifstream in(std::string(FR_SOURCE_DIR "/src/formats/testdata/") + name, std::ios::binary);
    const std::string good{std::istreambuf_iterator<char>(in), {}};
    ASSERT_TRUE(check(parse_gguf, good));
    const std::size_t header = 6000;
    for (int i = 0; i < 500; ++i)
      check(parse_gguf, damaged(good.substr(0, header), random) + good.substr(header));
  }
}

TEST(HostileGguf, DamagedFilesOnDisk) {
  std::mt19937_64 random(13);
  const std::string good = test::small_gguf(), path = std::filesystem::path(testing::TempDir()) /
                                                      ("fr_hostile_" + std::to_string(::getpid()));
  for (int i = 0; i < 200; ++i) {
    std::ofstream(path, std::ios::binary) << damaged(good, random);
    const auto c = open_checkpoint(path);
    if (c) {
      EXPECT_TRUE(test::views_are_inside(*c, c->files[0]->bytes()));
    } else {
      EXPECT_TRUE(test::is_good_message(c.error(), path)) << c.error().message;
    }
  }
  std::filesystem::remove(path);
}

TEST(HostileGguf, CountsThatLie) {
  const std::string rest(100, 'x');
  for (const std::uint64_t count :
       {std::uint64_t{14}, std::uint64_t{1} << 32, std::uint64_t{1} << 61, ~std::uint64_t{0}}) {
    for (std::uint32_t type = 0; type < gguf::value_types; ++type) {
      if (count == 14 && gguf::value_sizes[type] > 0) continue;  // there
      EXPECT_FALSE(
          check(parse_gguf, rwkv_gguf().add_array("k", static_cast<Value>(type), count, rest).file()));
    }
    EXPECT_FALSE(
        check(parse_gguf, rwkv_gguf().add_array(gguf::key_tokens, Value::string, count, rest).file()));
    EXPECT_FALSE(check(parse_gguf, rwkv_gguf().add("k", Value::string, le(count + 100) + rest).file()));
    for (std::uint64_t GgufBuilder::*field : {&GgufBuilder::entries, &GgufBuilder::tensors}) {
      GgufBuilder b = rwkv_gguf();
      b.tensor("t", {1}, 0, "abcd").*field += count;
      EXPECT_FALSE(check(parse_gguf, b.file()));
    }
  }
}

TEST(HostileGguf, FilesThatGrow) {
  const auto tokens = [](std::uint64_t n) {
    return rwkv_gguf()
        .add_array(gguf::key_tokens, Value::string, n, std::string(8 * n, '\0'))
        .tensor("t", {1}, 0, "abcd")
        .file();
  };
  EXPECT_TRUE(check(parse_gguf, tokens(2'000'000)));
  EXPECT_FALSE(check(parse_gguf, tokens(3'000'000)));
  const auto keys = [](std::size_t n, std::size_t length) {
    GgufBuilder b = rwkv_gguf();
    for (std::size_t i = 0; i < n; ++i)
      b.add(std::to_string(i) + std::string(length, 'k'), std::string(length, 'v'));
    return b.tensor("t", {1}, 0, "abcd").file();
  };
  EXPECT_TRUE(check(parse_gguf, keys(65'000, 1)));
  EXPECT_TRUE(check(parse_gguf, keys(1000, 30'000)));
  EXPECT_FALSE(check(parse_gguf, keys(70'000, 1)));
  EXPECT_FALSE(check(parse_gguf, keys(1, 70'000)));
  const auto tensors = [](std::size_t n, std::size_t length) {
    GgufBuilder b = rwkv_gguf();
    for (std::size_t i = 0; i < n; ++i)
      b.info(std::to_string(i) + std::string(length, 'n'), {1, 1, 1, 0}, 0, 0);
    return b.file();
  };
  EXPECT_TRUE(check(parse_gguf, tensors(32'000, 1000)));
  EXPECT_FALSE(check(parse_gguf, tensors(40'000, 1)));
  EXPECT_FALSE(check(parse_gguf, tensors(1, 2000)));
  std::string empty_arrays;
  for (int i = 0; i < 1'000'000; ++i) empty_arrays += le(0u) + le<std::uint64_t>(0);
  EXPECT_TRUE(check(
      parse_gguf,
      rwkv_gguf().add_array("k", Value::array, 1'000'000, empty_arrays).tensor("t", {1}, 0, "abcd").file()));
}

}  // namespace
}  // namespace fr
