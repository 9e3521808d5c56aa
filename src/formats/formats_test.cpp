#include "formats/formats.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "formats/test_files.h"

namespace fr {
namespace {

using namespace std::string_literals;

class Formats : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::path(testing::TempDir()) /
              ("fr_" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string write(const std::string& name, const std::string& content) const {
    const std::string path = folder_ / name;
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }
  void expect_error(const std::string& path, std::string_view part) const {
    const auto c = open_checkpoint(path);
    ASSERT_FALSE(c.ok()) << "wanted: " << part;
    EXPECT_NE(c.error().message.find(part), std::string::npos) << c.error().message;
    EXPECT_TRUE(test::is_good_message(c.error(), path)) << c.error().message;
    EXPECT_EQ(c.error().code, ErrorCode::invalid_file);
  }

  std::filesystem::path folder_;
};

const std::string pth = test::pth_zip(test::two_tensors(), test::two_storages());
const std::string st = test::safetensors(R"({"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "x");

TEST_F(Formats, ContentDecidesAndNotTheName) {
  const auto a = open_checkpoint(write("model.safetensors", pth));
  ASSERT_TRUE(a.ok()) << a.error().message;
  EXPECT_EQ(a->format, "pth");
  EXPECT_EQ(a->path, (folder_ / "model.safetensors").string());
  ASSERT_EQ(a->files.size(), 1u);
  EXPECT_TRUE(test::views_are_inside(*a, a->files[0]->bytes()));
  const auto b = open_checkpoint(write("model.pth", st));
  ASSERT_TRUE(b.ok()) << b.error().message;
  EXPECT_EQ(b->format, "safetensors");
  EXPECT_TRUE(verify_checkpoint(*a).ok());
  EXPECT_TRUE(verify_checkpoint(*b).ok());
}

TEST_F(Formats, DamagedPayloadIsFoundByVerification) {
  std::string damaged = pth;
  damaged[pth.find(test::counting(1.0f, 6))] ^= 1;
  const auto c = open_checkpoint(write("m", damaged));
  ASSERT_TRUE(c.ok()) << c.error().message;
  EXPECT_FALSE(verify_checkpoint(*c).ok());
}

TEST_F(Formats, WhatIsNoFile) {
  expect_error(folder_ / "missing.pth", "cannot open");
  expect_error(write("empty", ""), "empty");
  expect_error(folder_, "directory without weights");
}

TEST_F(Formats, OtherFormatsAreNamed) {
  const std::pair<std::string, const char*> cases[] = {
      {"GGUF\3\0\0\0"s, "GGUF"},
      {"fmggd\0\0\0"s, "rwkv.cpp"},
      {"\x87\xac"
       "embd_weights\xdc"s,
       ".fr file"},
      {"\xde\0\x10\xa7weights"s, ".fr file"},
      {"\xde\xff\xf9\x01\xc4\x01\0"s, "tokenizer vocabulary"},
      {"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git-lfs pointer"},
      {"<!doctype html>\n<html><body>Not found", "web page"},
      {"\n <html>", "web page"},
      {"{\"model_type\": \"rwkv\"}", "JSON"},
      {"1 '\\x00' 1\n2 '\\x01' 1\n", "text file"},
      {"hi", "text file"},
      {"var x = {}; // a brace where a safetensors header begins", "text file"},
      {"\x08\x07\x12\x07pytorch"s, "ONNX"},
      {"\x1f\x8b\x08\0"s, "gzip"},
      {std::string(257, 'a') + "\0ustar"s, "no known format"},
      {std::string("name") + std::string(253, '\0') + "ustar", "tar archive"},
      {std::string(4096, '\0'), "begins with zeros"},
      {"\x01\x02\x03\x04\x05"s, "no known format"},
      {"PK\3\4 a web page that became a zip"s, "directory at the end of the file is missing"},
      {"\x80\x02}."s, "Python pickle, but not a PyTorch checkpoint"},
      {"\xff\0\0\0\0\0\0\0{"s, "header is longer than the file"},
  };
  int n = 0;
  for (const auto& [content, part] : cases) expect_error(write("file" + std::to_string(n++), content), part);
}

TEST_F(Formats, OpeningCanBeWatchedAndStopped) {
  const std::string path = write("m", pth);
  std::uint64_t seen = 0;
  EXPECT_TRUE(open_checkpoint(path, [&](std::string_view, std::uint64_t done, std::uint64_t total) {
                EXPECT_EQ(total, pth.size());
                seen = done;
                return true;
              }).ok());
  EXPECT_EQ(seen, pth.size());
  const auto stopped = open_checkpoint(path, [](auto, auto, auto) { return false; });
  ASSERT_FALSE(stopped.ok());
  EXPECT_EQ(stopped.error().code, ErrorCode::interrupted);
}

}  // namespace
}  // namespace fr
