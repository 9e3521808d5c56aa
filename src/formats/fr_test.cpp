// .fr files, saved states of faster-rwkv and ChatRWKV-converted .pth: what is in them, and the writer.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "formats/formats.h"
#include "formats/fr_msgpack.h"
#include "formats/fr_writer.h"
#include "formats/test_files.h"

namespace fr {
namespace {

using test::bytes_of;
using test::packed_list;
using test::packed_map;
using test::packed_tensor;
using Shape = std::vector<std::int64_t>;

const std::string goldens = FR_SOURCE_DIR "/../shared/goldens/models/";
std::string fixture(const std::string& name) {
  return FR_SOURCE_DIR "/src/formats/testdata/chatrwkv/" + name;
}

std::string contents(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

Checkpoint open(const std::string& path) {
  auto c = open_checkpoint(path);
  if (!c) throw std::runtime_error(c.error().message);
  return std::move(*c);
}

class FrFile : public testing::Test {
 protected:
  void TearDown() override { std::filesystem::remove(path_); }
  std::string written(const Checkpoint& model, const FrOptions& options = {}) {
    const auto remarks = write_fr(path_, model, options);
    if (!remarks) throw std::runtime_error(remarks.error().message);
    remarks_ = remarks->notes;
    return contents(path_);
  }
  const std::string path_ = testing::TempDir() + "frwkv_fr_" + std::to_string(::getpid());
  std::vector<std::string> remarks_;
};

void expect(const Checkpoint& c, const std::string& name, DType dtype, const Shape& shape, bool processed) {
  const TensorView* t = c.find(name);
  ASSERT_NE(t, nullptr) << name;
  EXPECT_EQ(t->dtype, dtype) << name;
  EXPECT_EQ(t->shape, shape) << name;
  EXPECT_EQ(t->processed, processed) << name;
}

// ---- reading

TEST_F(FrFile, FirstForm) {
  const Checkpoint c = open(fixture("v4_first.fr"));
  EXPECT_EQ(c.format, "fr");
  EXPECT_EQ(c.layout, "ChatRWKV");
  EXPECT_EQ(c.rescale_every, 0);
  EXPECT_EQ(c.metadata, (std::map<std::string, std::string>{{"n_embd", "16"}, {"n_layer", "3"}}));
  expect(c, "emb.weight", DType::f16, {24, 16}, true);
  expect(c, "blocks.2.att.time_decay", DType::f32, {16}, true);
  expect(c, "blocks.2.att.time_first", DType::f32, {16}, false);
  expect(c, "blocks.2.ffn.key.weight", DType::f32, {32, 16}, false);
  const TensorView& emb = *c.find("emb.weight");
  EXPECT_GT(emb.row_gap, 0);
  EXPECT_FALSE(emb.contiguous());
  // The last row is where its bytes are, and reads the same alone.
  const std::vector<float> all = test::values_of(emb), last = test::values_of(emb.rows(23, 24));
  EXPECT_EQ(last, std::vector<float>(all.end() - 16, all.end()));
  std::uint16_t half;
  std::memcpy(&half, emb.rows(23, 24).data + 30, 2);
  EXPECT_EQ(half_to_float(half), all.back());
}

TEST_F(FrFile, LastForm) {
  const Checkpoint c = open(fixture("v5_2.fr"));
  EXPECT_EQ(c.rescale_every, 6);
  EXPECT_EQ(c.metadata.at("version"), "5.2");
  EXPECT_EQ(c.metadata.at("n_head"), "2");
  expect(c, "blocks.1.att.time_decay", DType::f32, {2, 8}, true);
  expect(c, "blocks.1.att.time_faaaa", DType::f32, {2, 8}, false);
  expect(c, "blocks.1.att.ln_x.weight", DType::f32, {16}, false);
  expect(open(fixture("v5_1.fr")), "blocks.0.att.time_decay", DType::f32, {2}, true);
}

TEST_F(FrFile, ConvertedPth) {
  const Checkpoint bytes = open(fixture("v6_fp32i8.pth"));
  EXPECT_EQ(bytes.format, "pth");
  EXPECT_EQ(bytes.layout, "ChatRWKV");
  EXPECT_EQ(bytes.rescale_every, 0);
  expect(bytes, "blocks.0.att.time_decay", DType::f32, {1, 1, 16}, false);  // raw in v6
  expect(bytes, "blocks.0.att.time_faaaa", DType::f32, {2, 8}, false);
  expect(bytes, "blocks.0.ffn.value.weight", DType::u8, {16, 32}, false);
  EXPECT_EQ(bytes.find("blocks.0.ffn.value.weight_mx"), nullptr);
  EXPECT_TRUE(bytes.find("blocks.0.ffn.value.weight")->readable());
  const Checkpoint layered = open(fixture("v4_layered.pth"));
  EXPECT_EQ(layered.rescale_every, 2);
  EXPECT_EQ(layered.metadata.at("_strategy"), "cpu fp32 *1 -> cuda fp16i8 *1 -> cuda bf16");
  expect(layered, "blocks.0.att.key.weight", DType::f32, {16, 16}, false);
  expect(layered, "blocks.1.att.key.weight", DType::u8, {16, 16}, false);
  expect(layered, "blocks.2.att.key.weight", DType::bf16, {16, 16}, false);
}

TEST_F(FrFile, SavedState) {
  const Checkpoint c = open(fixture("v5_1_fp16.state"));
  EXPECT_EQ(c.format, "fr");
  EXPECT_EQ(c.layout, "official");
  ASSERT_EQ(c.tensors.size(), 9u);
  expect(c, "blocks.2.att.kv", DType::f32, {2, 8, 8}, false);
  expect(c, "blocks.2.ffn.x_prev", DType::f16, {16}, false);
  expect(open(fixture("v4_fp32.state")), "blocks.1.att.pp", DType::f32, {16}, false);
}

// ---- wrong files

std::string error_of(const std::string& file) {
  const auto c = parse_fr(bytes_of(file), "f");
  if (c.ok()) return "";
  EXPECT_TRUE(test::is_good_message(c.error(), "f")) << c.error().message;
  return c.error().message;
}

TEST_F(FrFile, WrongContentsAreNamed) {
  const std::string row = packed_tensor("torch.float16", "abcd", {2}), embedding = packed_list({row, row});
  const std::string weights =
      packed_map({{"ln_out.weight", packed_tensor("torch.float32", "abcdefgh", {2})}});
  const auto file = [&](const std::string& e, const std::string& w) {
    return packed_map({{"embd_weights", e}, {"weights", w}, {"n_embd", "\x02"}});
  };
  const auto one = [&](const std::string& tensor) { return file(embedding, packed_map({{"x", tensor}})); };
  EXPECT_EQ(error_of(file(embedding, weights)), "");
  const std::pair<std::string, std::string> cases[] = {
      {file(embedding, weights) + "x", "1 bytes follow"},
      {file(embedding, weights).substr(0, 60), "no complete"},
      {packed_map({{"embd_weights", embedding}}), "no embd_weights and weights"},
      {packed_map({{"weights", weights}}), "no embd_weights and weights"},
      {packed_map({{"version",
                    "\xa1"
                    "1"},
                   {"type",
                    "\xa3"
                    "ABC"}}),
       "tokenizer vocabulary"},
      {file(packed_list({}), weights), "rows of the embedding"},
      {file(packed_list({row, packed_tensor("torch.float16", "ab", {1})}), weights),
       "row 1 of the embedding"},
      {file(packed_list({row, packed_tensor("torch.float32", "abcdefgh", {2})}), weights),
       "row 1 of the embedding"},
      {file(packed_list({packed_tensor("torch.float16", "abcd", {2, 1})}), weights),
       "row 0 of the embedding"},
      {file(packed_list({packed_tensor("torch.float16", "", {0})}), weights), "row 0 of the embedding"},
      {one(packed_tensor("torch.float32", "abcd", {2})), "tensor \"x\" of shape [2] has 4 bytes"},
      {one(packed_tensor("torch.float32", "", {1 << 30, 1 << 30, 1 << 30})), "has 0 bytes"},
      {one(packed_tensor("torch.complex64", "", {0})), "number format \"torch.complex64\""},
      {one(packed_map({{"dtype",
                        "\xa1"
                        "x"}})),
       "no complete tensor \"x\""},
      {one("\x01"), "no complete tensor \"x\""},
      {packed_map({{"embd_weights", embedding}, {"weights", weights}, {"n_embd", "\x03"}}),
       "n_embd is 3, but the tensors say 2"},
      {packed_map({{"embd_weights", embedding}, {"weights", weights}, {"n_layer", "\x01"}}),
       "n_layer is 1, but the tensors say 0"},
      {packed_map({{"embd_weights", embedding}, {"embd_weights", embedding}, {"weights", weights}}),
       "\"emb.weight\" occurs more than once"},
      {packed_list({packed_list({packed_tensor("torch.float32", "", {0})})}), "state of a layer"},
  };
  for (const auto& [bytes, part] : cases)
    EXPECT_NE(error_of(bytes).find(part), std::string::npos) << error_of(bytes);
}

TEST_F(FrFile, ValuesOfOtherKindsAreSkipped) {
  const std::string row = packed_tensor("torch.float16", "abcd", {2});
  const std::string unknown = std::string(
      "\x9b\xc0\xc3\xca"
      "abcd\xcb"
      "abcdefgh\xd6"
      "tabcd\xc7\2tab\x81\xa1"
      "k\x90\xd1\xff\xfe\xd9\1s\xc5\0\1b\xff",
      43);
  std::string nested;
  for (int i = 0; i < 100'000; ++i) nested += '\x91';
  nested += '\1';
  const std::string file = packed_map({{"deep", nested},
                                       {"some", unknown},
                                       {"embd_weights", packed_list({row})},
                                       {"weights", packed_map({{"x", row}})}});
  EXPECT_EQ(error_of(file), "");
}

TEST_F(FrFile, ImpossibleTensorsOfConvertedFiles) {
  const std::string row = packed_tensor("torch.float16", "abcd", {2});
  const auto error = [&](const std::vector<std::pair<std::string, std::string>>& weights) {
    std::ofstream(path_, std::ios::binary)
        << packed_map({{"embd_weights", packed_list({row, row})}, {"weights", packed_map(weights)}});
    const auto c = open_checkpoint(path_);
    if (c.ok()) return std::string();
    EXPECT_TRUE(test::is_good_message(c.error(), path_)) << c.error().message;
    return c.error().message;
  };
  const std::string bytes = packed_tensor("torch.uint8", "abcdef", {2, 3}),
                    two = packed_tensor("torch.float16", "abcd", {2}),
                    three = packed_tensor("torch.float16", "abcdef", {3});
  EXPECT_EQ(error({{"x", bytes}, {"x_mx", three}, {"x_my", two}, {"x_rx", three}, {"x_ry", two}}), "");
  EXPECT_NE(
      error({{"x", bytes}, {"x_mx", three}, {"x_my", two}, {"x_rx", three}}).find("\"x_ry\" is missing"),
      std::string::npos);
  EXPECT_NE(error({{"x", bytes}, {"x_mx", two}, {"x_my", two}, {"x_rx", three}, {"x_ry", two}})
                .find("\"x_mx\" has shape [2]"),
            std::string::npos);
  EXPECT_NE(error({{"x", packed_tensor("torch.uint8", "a", {1})}}).find("expected a matrix of bytes"),
            std::string::npos);
  EXPECT_NE(error({{"head.weight", two}}).find("expected a matrix"), std::string::npos);
}

// ---- writing

TEST_F(FrFile, RewritingGivesTheSameBytes) {
  for (const char* name : {"v4_fp16.fr", "v5_2.fr"})
    EXPECT_EQ(written(open(fixture(name))), contents(fixture(name))) << name;
}

TEST_F(FrFile, ConvertedPthBecomesWhatFasterRwkvMadeOfIt) {
  if (!std::filesystem::exists(goldens)) GTEST_SKIP() << "THE CONFORMANCE SET IS MISSING: " << goldens;
  for (const char* name : {"v4_l7", "v5_2_l7"}) {
    const Checkpoint converted = open(goldens + name + ".chatrwkv_cuda_fp16.pth");
    EXPECT_TRUE(written(converted) == contents(goldens + name + ".cuda_fp16.fr")) << name;
    EXPECT_TRUE(remarks_.empty());
  }
}

// The official model gives the same file but for the last bit of some numbers: PyTorch's exp, and its layer
// norm.
TEST_F(FrFile, OfficialModelBecomesTheSameFile) {
  if (!std::filesystem::exists(goldens)) GTEST_SKIP() << "THE CONFORMANCE SET IS MISSING: " << goldens;
  for (const char* name : {"v4_l7", "v5_2_l7"}) {
    const std::string ours = written(open(goldens + name + ".pth"));
    EXPECT_EQ(ours.size(), contents(goldens + name + ".cuda_fp16.fr").size());
    const Checkpoint a = open(path_), b = open(goldens + name + ".cuda_fp16.fr");
    ASSERT_EQ(a.tensors.size(), b.tensors.size());
    for (std::size_t i = 0; i < a.tensors.size(); ++i) {
      ASSERT_EQ(a.tensors[i].name, b.tensors[i].name);
      ASSERT_EQ(a.tensors[i].shape, b.tensors[i].shape);
      ASSERT_EQ(a.tensors[i].dtype, b.tensors[i].dtype);
      const std::vector<float> x = test::values_of(a.tensors[i]), y = test::values_of(b.tensors[i]);
      const bool embedding = a.tensors[i].name == "emb.weight";  // ChatRWKV keeps it in the file's own bf16
      for (std::size_t k = 0; k < x.size(); ++k) {
        ASSERT_NEAR(x[k], y[k], (embedding ? 0.02f : 1e-6f) * std::max(1.0f, std::abs(y[k])))
            << a.tensors[i].name;
      }
    }
  }
}

TEST_F(FrFile, NumberFormats) {
  const Checkpoint layered = open(fixture("v4_layered.pth"));
  const auto dtypes = [&](const FrOptions& options) {
    written(layered, options);
    const Checkpoint c = open(path_);
    EXPECT_EQ(c.metadata.at("version"), "4");
    std::vector<DType> found;
    for (const char* name : {"emb.weight", "blocks.0.att.key.weight", "blocks.1.att.key.weight",
                             "blocks.2.att.key.weight", "blocks.1.att.time_decay"}) {
      found.push_back(c.find(name)->dtype);
    }
    return std::pair(found, c.rescale_every);
  };
  constexpr DType f16 = DType::f16, f32 = DType::f32;
  EXPECT_EQ(dtypes({}), std::pair(std::vector({f32, f32, f16, f16, f32}), 6));
  EXPECT_EQ(dtypes({f16}), std::pair(std::vector({f16, f16, f16, f16, f32}), 6));
  EXPECT_EQ(dtypes({f32}), std::pair(std::vector({f32, f32, f32, f32, f32}), 0));
  // The divisor 2 of layer 2 is gone again, since no x will be halved.
  const TensorView *before = layered.find("blocks.2.ffn.value.weight"), *after = nullptr;
  const Checkpoint c = open(path_);
  after = c.find("blocks.2.ffn.value.weight");
  const std::vector<float> x = test::values_of(*before), y = test::values_of(*after);
  for (std::size_t i = 0; i < x.size(); ++i) EXPECT_EQ(2 * x[i], y[i]);
}

Checkpoint with_tensor(const std::string& name) {
  Checkpoint c = open(fixture("v5_1_fp16.pth"));
  c.tensors.push_back(*c.find("ln_out.bias"));
  c.tensors.back().name = name;
  c.index();
  return c;
}

TEST_F(FrFile, WhatCannotBeWrittenIsRefusedByName) {
  const auto refused = [&](const Checkpoint& c) {
    const auto remarks = write_fr(path_, c);
    EXPECT_FALSE(remarks.ok() || std::filesystem::exists(path_));
    return remarks.ok() ? "" : remarks.error().message;
  };
  EXPECT_NE(refused(open(fixture("v6_layered.pth"))).find("RWKV-6"), std::string::npos);
  EXPECT_NE(refused(with_tensor("blocks.0.att.r_k")).find("RWKV-7"), std::string::npos);
  EXPECT_NE(refused(open(fixture("v5_1_fp16.state"))).find("no RWKV-4 or RWKV-5 model"), std::string::npos);
  Checkpoint bare = open(fixture("v4_fp32.pth"));
  for (TensorView& t : bare.tensors) t.processed = false;
  EXPECT_NE(refused(bare).find("without ln0"), std::string::npos);
  std::vector<float> large(16, 1e6f);
  Checkpoint c = open(fixture("v4_fp32.pth"));
  for (TensorView& t : c.tensors) {
    if (t.name == "ln_out.bias") t.data = reinterpret_cast<const std::byte*>(large.data());
  }
  const auto remarks = write_fr(path_, c, {.dtype = DType::f16});
  ASSERT_FALSE(remarks.ok());
  EXPECT_NE(remarks.error().message.find("\"ln_out.bias\" holds 1000000"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(FrFile, RemarksAndProgress) {
  written(with_tensor("blocks.0.att.output.bias"));
  ASSERT_EQ(remarks_.size(), 1u);
  EXPECT_NE(remarks_[0].find("blocks.0.att.output.bias"), std::string::npos);
  std::uint64_t last = 0;
  int calls = 0;
  const Checkpoint c = open(fixture("v4_fp16.fr"));
  FrOptions options;
  options.progress = [&](std::string_view, std::uint64_t done, std::uint64_t total) {
    EXPECT_TRUE(last <= done && done <= total);
    last = done;
    return ++calls < 10;
  };
  std::filesystem::remove(path_);
  const auto remarks = write_fr(path_, c, options);
  ASSERT_FALSE(remarks.ok());
  EXPECT_EQ(remarks.error().code, ErrorCode::interrupted);
  EXPECT_FALSE(std::filesystem::exists(path_));
}

}  // namespace
}  // namespace fr
