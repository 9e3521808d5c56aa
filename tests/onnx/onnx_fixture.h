// What the tests of ONNX exports share: small random models, a folder, a measure.
#pragma once
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>

#include "../runner.h"
#include "export/onnx.h"

namespace fr::test {

class Folder {
 public:
  Folder() : path_(std::filesystem::temp_directory_path() / ("frwkv-onnx-" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(path_);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

inline Checkpoint random_file(const std::string& variant, int head_size = 16) {
  RandomShape s = variant_shape(variant);
  s.n_layer = 2;
  s.n_embd = 32;
  s.head_size = head_size;
  s.n_ffn = 48;
  s.n_vocab = 19;
  s.rank_mix = 3;
  s.rank_w = 5;
  s.rank_a = 4;
  s.rank_v = 3;
  s.rank_g = 7;
  return need(random_checkpoint(s, {.dtype = DType::f32, .seed = 11}));
}

inline OnnxExportOptions options_of(DType dtype) {
  return {.dtype = dtype, .fingerprint = "abc", .producer_version = "1", .progress = {}};
}

// |found - expected| / |expected|
inline double rel_l2(std::span<const float> found, std::span<const float> expected) {
  EXPECT_EQ(found.size(), expected.size());
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < std::min(found.size(), expected.size()); ++i) {
    error += std::pow(double{found[i]} - expected[i], 2);
    norm += std::pow(double{expected[i]}, 2);
  }
  return std::sqrt(error / std::max(norm, 1e-30));
}

}  // namespace fr::test
