// Models that ChatRWKV and faster-rwkv converted: on every backend the logits that ChatRWKV's formulas give
// from the same stored numbers (tools/make_chatrwkv_fixtures.py); and what our writers make of them.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "formats/formats.h"
#include "formats/fr_writer.h"
#include "formats/layout.h"
#include "formats/safetensors.h"
#include "golden.h"

namespace fr::test {
namespace {

using nlohmann::json;

const std::string folder = FR_SOURCE_DIR "/src/formats/testdata/chatrwkv/";

const json& expected() {
  static const json all = [] {
    std::ifstream in(folder + "expected.json");
    return json::parse(in);
  }();
  return all;
}

std::vector<float> logits_of(Checkpoint file, const std::vector<std::int32_t>& tokens,
                             const Target& target = {}) {
  DeviceRunnerOptions options;
  options.target = target;
  DeviceRunner runner(std::move(file), options);
  runner.reserve(1);
  runner.reset(0);
  Batch batch{tokens, {{0, 0, static_cast<int>(tokens.size())}}, {}};
  for (int i = 0; i < batch.rows(); ++i) batch.wanted.push_back(i);
  return runner.step(batch);
}

void expect_rows(std::span<const float> found, const json& rows, const std::string& where) {
  for (std::size_t i = 0, at = 0; i < rows.size(); ++i) {
    const auto row = rows[i].get<std::vector<float>>();
    const Difference d = difference(found.subspan(at, row.size()), row);
    EXPECT_LE(d.max_abs, 1e-4) << where << ", row " << i;
    EXPECT_LE(d.l2, 5e-5) << where << ", row " << i;
    at += row.size();
  }
}

class Converted : public testing::TestWithParam<Target> {
 protected:
  static void SetUpTestSuite() { std::filesystem::create_directories(scratch()); }
  static void TearDownTestSuite() { std::filesystem::remove_all(scratch()); }
  static std::string scratch() {
    return testing::TempDir() + "frwkv_converted_" + std::to_string(::getpid());
  }
};

TEST_P(Converted, LogitsOfEveryFixture) {
  const auto tokens = expected()["tokens"].get<std::vector<std::int32_t>>();
  int files = 0;
  for (const auto& [name, e] : expected()["files"].items()) {
    if (e.contains("model")) continue;  // a state
    Checkpoint file = need(open_checkpoint(folder + name));
    EXPECT_EQ(file.rescale_every, e["rescale"].get<int>()) << name;
    EXPECT_EQ(need(make_model(file))->info().version, e["version"]) << name;
    expect_rows(logits_of(std::move(file), tokens, GetParam()), e["logits"], name);
    ++files;
  }
  EXPECT_GE(files, 11);
}
INSTANTIATE_TEST_SUITE_P(Backends, Converted, testing::ValuesIn(targets()),
                         [](const auto& info) { return info.param.name(); });

using ConvertedFiles = Converted;

// A converted file keeps its processed numbers in safetensors, and says so.
TEST_F(ConvertedFiles, SafetensorsKeepsTheProcessedForm) {
  const auto tokens = expected()["tokens"].get<std::vector<std::int32_t>>();
  const std::string path = scratch() + "/model.safetensors";
  for (const char* name : {"v4_fp16.fr", "v4_first.fr", "v5_2.fr", "v5_1_fp16.pth", "v6_layered.pth"}) {
    const Checkpoint file = need(open_checkpoint(folder + name));
    need(write_safetensors(path, file.tensors, converted_metadata(file)));
    Checkpoint again = need(open_checkpoint(path));
    EXPECT_EQ(again.rescale_every, file.rescale_every) << name;
    EXPECT_EQ(logits_of(std::move(again), tokens), logits_of(need(open_checkpoint(folder + name)), tokens))
        << name;
  }
}

// From official weights: ln0, decay, bonus and divisors are computed here.
TEST_F(ConvertedFiles, OfficialModelToFr) {
  const std::string path = scratch() + "/model.fr";
  const std::vector<std::int32_t> tokens = {3, 1, 4, 1, 5, 9, 2, 6};
  for (const char* version : {"4", "5.0", "5.1", "5.2"}) {
    RandomShape shape;
    shape.version = version;
    shape.n_layer = 7;
    shape.n_embd = 64;
    shape.n_ffn = 128;
    shape.head_size = 32;
    const auto official = [&] { return need(random_checkpoint(shape, {.dtype = DType::f16})); };
    const std::vector<float> right = logits_of(official(), tokens);
    for (const DType dtype : {DType::f32, DType::f16}) {
      EXPECT_TRUE(need(write_fr(path, official(), {.dtype = dtype})).notes.empty());
      Checkpoint file = need(open_checkpoint(path));
      EXPECT_EQ(file.rescale_every, dtype == DType::f16 ? 6 : 0);
      const Difference d = difference(logits_of(std::move(file), tokens), right);
      EXPECT_LE(d.l2, dtype == DType::f16 ? 2e-3 : 1e-5)
          << version;  // fp16: the normalised embedding is rounded
    }
  }
}

// Divisors come and go with the number format.
TEST_F(ConvertedFiles, FrInTheOtherNumberFormat) {
  const auto tokens = expected()["tokens"].get<std::vector<std::int32_t>>();
  const std::string wide = scratch() + "/wide.fr", back = scratch() + "/back.fr";
  need(write_fr(wide, need(open_checkpoint(folder + "v4_fp16.fr")), {.dtype = DType::f32}));
  EXPECT_EQ(need(open_checkpoint(wide)).rescale_every, 0);
  const std::vector<float> right = logits_of(need(open_checkpoint(folder + "v4_fp16.fr")), tokens);
  // Not halving x changes what the epsilon of the norms weighs.
  EXPECT_LE(difference(logits_of(need(open_checkpoint(wide)), tokens), right).l2, 2e-4);
  need(write_fr(back, need(open_checkpoint(wide)), {.dtype = DType::f16}));
  EXPECT_EQ(logits_of(need(open_checkpoint(back)), tokens), right);
}

// Bytes become numbers, and what rwkv.cpp processed is not processed again.
TEST_F(ConvertedFiles, OtherFormsToFr) {
  std::vector<std::string> files = {folder + "v5_2_layered.pth", folder + "v4_layered.pth"};
  const std::string tiny = goldens_folder() + "/tiny/";
  for (const char* name : {"tiny-rwkv-4v0-660K-FP16.bin", "tiny-rwkv-5v2-730K-FP32.bin"}) {
    if (std::filesystem::exists(tiny + name)) files.push_back(tiny + name);
  }
  const auto tokens = expected()["tokens"].get<std::vector<std::int32_t>>();
  const std::string path = scratch() + "/model.fr";
  for (const std::string& file : files) {
    need(write_fr(path, need(open_checkpoint(file)), {.dtype = DType::f32}));
    const std::vector<float> right = logits_of(need(open_checkpoint(file)), tokens);
    EXPECT_LE(difference(logits_of(need(open_checkpoint(path)), tokens), right).l2, 2e-4) << file;
  }
  if (files.size() < 4) GTEST_SKIP() << "NOT TESTED on rwkv.cpp's files: no " << tiny;
}

// ChatRWKV's converter takes RWKV-7 files too, although its own package cannot run what comes out.
TEST_F(ConvertedFiles, Rwkv7) {
  const RandomShape shape = variant_shape("7_bare");  // no ln0: the embedding is the same on both sides
  const std::vector<std::int32_t> tokens = {3, 1, 4, 1, 5};
  Checkpoint file = need(random_checkpoint(shape, {.dtype = DType::f32}));
  for (TensorView& t : file.tensors) {
    for (const char* end :
         {".key.weight", ".value.weight", ".receptance.weight", ".output.weight", "head.weight"}) {
      if (t.name.ends_with(end)) t = t.transposed();
    }
  }
  file.metadata = {{"_strategy", "cpu fp32"}, {"_rescale_layer", "0"}, {"_version", "0.7"}};
  need(to_official_layout(file));
  EXPECT_EQ(file.layout, "ChatRWKV");
  EXPECT_EQ(logits_of(std::move(file), tokens),
            logits_of(need(random_checkpoint(shape, {.dtype = DType::f32})), tokens));
}

}  // namespace
}  // namespace fr::test
