#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/quant.h"
#include "formats/formats.h"
#include "formats/gguf.h"
#include "formats/test_files.h"
#include "models/random_checkpoint.h"

namespace fr {
namespace {

RandomShape small(const std::string& version, int width = 64) {
  RandomShape s;
  s.version = version;
  s.n_embd = width;
  s.head_size = 16;
  s.n_ffn = width + 32;
  s.n_vocab = 20;
  s.rank_mix = 4;
  s.rank_w = 6;
  s.rank_a = 8;
  s.rank_v = 5;
  s.rank_g = 10;
  return s;
}

Checkpoint random_model(const RandomShape& shape, DType dtype = DType::bf16) {
  Result<Checkpoint> file = random_checkpoint(shape, {dtype, 3, 0});
  EXPECT_TRUE(file.ok());
  file->path = "m.pth";
  return std::move(file).value();
}

std::string bytes_at(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream all;
  all << in.rdbuf();
  return all.str();
}

class GgufWriter : public testing::Test {
 protected:
  GgufWriter() { std::filesystem::create_directories(folder_); }
  ~GgufWriter() override { std::filesystem::remove_all(folder_); }

  // Written and read again; notes_ has the notes.
  Checkpoint written(const Checkpoint& model, const GgufOptions& options = {},
                     const std::string& name = "m.gguf") {
    const std::string path = folder_ / name;
    auto notes = write_gguf(path, model, options);
    EXPECT_TRUE(notes.ok()) << notes.error().message;
    if (!notes) return {};
    notes_ = notes->notes;
    auto file = open_checkpoint(path);
    EXPECT_TRUE(file.ok()) << file.error().message;
    return file ? std::move(file).value() : Checkpoint{};
  }

  bool noted(const std::string& part) const {
    for (const std::string& note : notes_) {
      if (note.find(part) != note.npos) return true;
    }
    return false;
  }

  void expect_refused(const Checkpoint& model, const GgufOptions& options, ErrorCode code,
                      const std::string& part) {
    const std::string path = folder_ / "refused.gguf";
    const auto notes = write_gguf(path, model, options);
    ASSERT_FALSE(notes.ok()) << part;
    EXPECT_EQ(notes.error().code, code) << notes.error().message;
    EXPECT_NE(notes.error().message.find(part), std::string::npos) << notes.error().message;
    EXPECT_TRUE(test::is_good_message(notes.error(), "m.pth") || test::is_good_message(notes.error(), path))
        << notes.error().message;
    EXPECT_FALSE(std::filesystem::exists(path));
  }

  const std::filesystem::path folder_ =
      std::filesystem::path(testing::TempDir()) / ("fr_gguf_writer_" + std::to_string(::getpid()));
  std::vector<std::string> notes_;
};

// The same numbers, and the same bits when they are narrowed to what they were.
void expect_same(const Checkpoint& found, const Checkpoint& expected, DType dtype) {
  EXPECT_EQ(found.tensors.size(), expected.tensors.size());
  for (const TensorView& e : expected.tensors) {
    const TensorView* t = found.find(e.name);
    ASSERT_NE(t, nullptr) << e.name;
    EXPECT_EQ(t->shape, e.shape) << e.name;
    EXPECT_EQ(restored_dtype(found, *t), dtype) << e.name;
    EXPECT_EQ(test::values_of(*t), test::values_of(e)) << e.name;
  }
}

TEST_F(GgufWriter, RoundTripsAreExact) {
  for (const char* version : {"6", "7"}) {
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
      SCOPED_TRACE(std::string(version).append(" ").append(dtype_name(dtype)));
      const Checkpoint model = random_model(small(version), dtype);
      const Checkpoint file = written(model);
      expect_same(file, model, dtype);
      EXPECT_EQ(file.find("blocks.1.ffn.key.weight")->dtype, dtype);
      EXPECT_EQ(file.find("emb.weight")->dtype, dtype);
      EXPECT_EQ(file.find("blocks.1.ln1.weight")->dtype, DType::f32);
      EXPECT_TRUE(noted("no tokenizer"));
      // And a file made of this file is the same file.
      written(file, {}, "again.gguf");
      EXPECT_EQ(bytes_at(folder_ / "m.gguf"), bytes_at(folder_ / "again.gguf"));
    }
  }
}

TEST_F(GgufWriter, RoundTripsOfTheOfficialFilesAreExact) {
  const std::filesystem::path goldens = FR_SOURCE_DIR "/../shared/goldens/models";
  if (!std::filesystem::exists(goldens)) GTEST_SKIP() << "THE CONFORMANCE SET IS MISSING: " << goldens;
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(goldens)) {
    const std::string name = entry.path().filename();
    if (entry.path().extension() != ".pth" || name.find("chatrwkv") != name.npos ||
        name.find("tuned") != name.npos)
      continue;
    if (!name.starts_with("v6") && !name.starts_with("v7")) continue;
    SCOPED_TRACE(name);
    auto model = open_checkpoint(entry.path());
    ASSERT_TRUE(model.ok());
    std::erase_if(model->tensors, [](const TensorView& t) { return t.name.ends_with(".time_state"); });
    model->index();
    const Checkpoint file = written(*model);
    for (const TensorView& e : model->tensors) {
      const TensorView* t = file.find(e.name);
      if (t == nullptr && e.name.starts_with("blocks.0.att.v") && noted("left out")) continue;
      ASSERT_NE(t, nullptr) << e.name;
      EXPECT_EQ(t->shape, e.shape) << e.name;
      EXPECT_EQ(restored_dtype(file, *t), e.dtype) << e.name;
      EXPECT_EQ(test::values_of(*t), test::values_of(e)) << e.name;
    }
    ++files;
  }
  EXPECT_GE(files, 4);
}

TEST_F(GgufWriter, NumberFormats) {
  RandomShape wide = small("7", 256);
  wide.n_ffn = 512;
  const Checkpoint model = random_model(wide);
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::q8_0, DType::q4_0, DType::q4_k}) {
    GgufOptions options;
    options.dtype = dtype;
    const Checkpoint file = written(model, options);
    const bool four_bits = dtype == DType::q4_0 || dtype == DType::q4_k;
    EXPECT_EQ(file.find("blocks.0.att.key.weight")->dtype, dtype);
    EXPECT_EQ(file.find("blocks.1.ffn.value.weight")->dtype, dtype);
    for (const char* table : {"emb.weight", "head.weight"})
      EXPECT_EQ(file.find(table)->dtype, four_bits ? DType::q8_0 : dtype);
    EXPECT_EQ(file.find("blocks.1.att.g1")->dtype, is_block_dtype(dtype) ? DType::f16 : dtype);
    for (const char* small : {"blocks.0.att.w1", "blocks.0.att.x_r", "blocks.1.att.r_k", "ln_out.bias"})
      EXPECT_EQ(file.find(small)->dtype, DType::f32) << small;
    EXPECT_EQ(file.metadata.at("general.file_type"), dtype == DType::f32    ? "0"
                                                     : dtype == DType::f16  ? "1"
                                                     : dtype == DType::bf16 ? "32"
                                                     : dtype == DType::q8_0 ? "7"
                                                     : dtype == DType::q4_0 ? "2"
                                                                            : "14");
    // As far from the source as the format is coarse.
    const auto expected = test::values_of(*model.find("blocks.0.att.key.weight"));
    const auto found = test::values_of(*file.find("blocks.0.att.key.weight"));
    double error = 0, size = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      error += (double{expected[i]} - double{found[i]}) * (double{expected[i]} - double{found[i]});
      size += double{expected[i]} * double{expected[i]};
    }
    EXPECT_LE(std::sqrt(error / size), four_bits              ? 0.12
                                       : dtype == DType::q8_0 ? 0.01
                                                              : 1e-3)
        << dtype_name(dtype);
  }
}

TEST_F(GgufWriter, OnlyWidenedNumbersAreNarrowedAgain) {
  const Checkpoint model = random_model(small("6"));
  GgufOptions options;
  options.dtype = DType::q8_0;
  const Checkpoint blocks = written(model, options, "blocks.gguf");
  for (const char* widened : {"blocks.0.att.time_decay", "ln_out.weight", "blocks.1.att.time_maa_w1"})
    EXPECT_EQ(restored_dtype(blocks, *blocks.find(widened)), DType::bf16) << widened;
  options.dtype = DType::f32;  // matrices that were blocks would lose digits
  const Checkpoint expanded = written(blocks, options, "expanded.gguf");
  for (const TensorView& t : expanded.tensors) EXPECT_EQ(restored_dtype(expanded, t), DType::f32) << t.name;
  EXPECT_EQ(restored_dtype(model, *model.find("emb.weight")), DType::bf16);
}

TEST_F(GgufWriter, BlocksOfAGgufFileAreCopied) {
  const auto source = open_checkpoint(FR_SOURCE_DIR "/src/formats/testdata/v7_k_quants.gguf");
  ASSERT_TRUE(source.ok());
  const Checkpoint file = written(*source);
  EXPECT_EQ(file.find("blocks.0.att.output.weight")->dtype, DType::q3_k);
  for (const TensorView& e : source->tensors) {
    ASSERT_NE(file.find(e.name), nullptr) << e.name;
    EXPECT_EQ(test::values_of(*file.find(e.name)), test::values_of(e)) << e.name;
  }
}

TEST_F(GgufWriter, RowsThatAreNoWholeBlocks) {
  GgufOptions options;
  options.dtype = DType::q4_k;
  Checkpoint file = written(random_model(small("6", 96)), options);
  EXPECT_EQ(file.find("blocks.0.att.key.weight")->dtype, DType::q8_0);
  EXPECT_TRUE(noted("16 tensors have rows that are no whole blocks of q4_k and are stored as q8_0"));
  options.dtype = DType::q8_0;
  file = written(random_model(small("7", 48)), options);
  EXPECT_EQ(file.find("blocks.0.att.key.weight")->dtype, DType::f16);
  EXPECT_TRUE(noted("blocks of q8_0 and are stored as fp16"));
}

TEST_F(GgufWriter, Metadata) {
  GgufOptions options;
  options.model_name = "a name";
  options.tokens = {"<s>", "\\n", "\\n\\n", "a"};
  const Checkpoint seven = written(random_model(small("7")), options);
  const std::map<std::string, std::string> expected = {
      {"general.architecture", "rwkv7"},
      {"general.type", "model"},
      {"general.name", "a name"},
      {"general.file_type", "32"},
      {"general.quantization_version", "2"},
      {"faster_rwkv.source_dtype", "bf16"},
      {"rwkv7.context_length", "1048576"},
      {"rwkv7.embedding_length", "64"},
      {"rwkv7.block_count", "2"},
      {"rwkv7.feed_forward_length", "96"},
      {"rwkv7.attention.head_count", "0"},
      {"rwkv7.attention.layer_norm_epsilon", "9.99999975e-06"},
      {"rwkv7.wkv.head_size", "16"},
      {"rwkv7.attention.decay_lora_rank", "6"},
      {"rwkv7.attention.iclr_lora_rank", "8"},
      {"rwkv7.attention.value_residual_mix_lora_rank", "5"},
      {"rwkv7.attention.gate_lora_rank", "10"},
      {"tokenizer.ggml.model", "rwkv"},
      {"tokenizer.ggml.bos_token_id", "0"},
      {"tokenizer.ggml.eos_token_id", "0"},
      {"tokenizer.ggml.eot_token_id", "2"},
      {"tokenizer.chat_template", std::string(rwkv_chat_template)},
  };
  EXPECT_EQ(seven.metadata, expected);
  EXPECT_EQ(seven.tokens.size(), 20u);
  EXPECT_EQ(seven.tokens[3], "a");
  EXPECT_EQ(seven.tokens[19], "[PAD19]");
  const Checkpoint six = written(random_model(small("6")));
  EXPECT_EQ(six.metadata.at("rwkv6.time_mix_extra_dim"), "4");
  EXPECT_EQ(six.metadata.at("rwkv6.time_decay_extra_dim"), "6");
  EXPECT_EQ(six.metadata.at("rwkv6.rescale_every_n_layers"), "0");
  EXPECT_EQ(six.metadata.at("rwkv6.vocab_size"), "20");
  EXPECT_EQ(six.metadata.at("tokenizer.ggml.model"), "no_vocab");
}

TEST_F(GgufWriter, RescalesAndUndoesIt) {
  const Checkpoint model = random_model(small("6"));
  GgufOptions options;
  options.rescale_every = 1;
  const Checkpoint halved = written(model, options, "halved.gguf");
  EXPECT_EQ(halved.rescale_every, 1);
  for (const char* name : {"att.output.weight", "ffn.value.weight"}) {
    for (const int layer : {0, 1}) {
      const std::string tensor = "blocks." + std::to_string(layer) + "." + name;
      std::vector<float> expected = test::values_of(*model.find(tensor));
      for (float& x : expected) x /= static_cast<float>(1 << layer);
      EXPECT_EQ(test::values_of(*halved.find(tensor)), expected) << tensor;
    }
  }
  const Checkpoint kept = written(halved);
  EXPECT_EQ(kept.rescale_every, 1);
  expect_same(kept, halved, DType::bf16);
  options.rescale_every = 0;
  expect_same(written(halved, options), model, DType::bf16);
}

// Layer 0 of RWKV-7: llama.cpp wants v0..v2, and of the low-rank size of a1, a2.
TEST_F(GgufWriter, ValuesOfTheFirstLayer) {
  const Checkpoint model = random_model(small("7"));
  ASSERT_EQ(model.find("blocks.0.att.v1"), nullptr);
  const auto raw = [&] {
    const std::string bytes = bytes_at(folder_ / "m.gguf");
    auto file = parse_gguf(test::bytes_of(bytes), "m.gguf");
    return test::values_of(*file->find("blk.0.time_mix_v1.weight"));
  };
  written(model);
  EXPECT_EQ(raw(), test::values_of(model.find("blocks.0.att.a1")->transposed()));
  for (const bool fits : {true, false}) {
    Checkpoint own = model;
    const std::string from = fits ? "blocks.0.att.w" : "blocks.1.att.v";
    for (const std::string i : {"0", "1", "2"}) {
      TensorView t = *model.find(from + i);
      if (fits && i != "0")
        t = model.find("blocks.1.att.a" + i)->reshaped(model.find("blocks.1.att.a" + i)->shape);
      t.name = "blocks.0.att.v" + i;
      own.tensors.push_back(t);
    }
    own.index();
    const Checkpoint file = written(own);
    EXPECT_EQ(noted("of layer 0"), !fits);
    EXPECT_EQ(file.find("blocks.0.att.v1") != nullptr, fits);
    if (fits) expect_same(file, own, DType::bf16);
  }
}

TEST_F(GgufWriter, RefusesModelsThatLlamaCppCannotRun) {
  for (const char* version : {"4", "5.0", "5.2"}) {
    expect_refused(random_model(small(version)), {}, ErrorCode::usage, "RWKV-6 and RWKV-7");
  }
  const Checkpoint model = random_model(small("7"));
  const auto without = [&](const std::string& name) {
    Checkpoint c = model;
    std::erase_if(c.tensors, [&](const TensorView& t) { return t.name == name; });
    c.index();
    return c;
  };
  expect_refused(without("blocks.0.ln0.weight"), {}, ErrorCode::usage, "no ln0");
  expect_refused(without("blocks.1.att.x_g"), {}, ErrorCode::invalid_file, "\"blocks.1.att.x_g\" is missing");
  expect_refused(without("head.weight"), {}, ErrorCode::invalid_file, "\"head.weight\" is missing");
  RandomShape biased = small("7");
  biased.biases = true;
  expect_refused(random_model(biased), {}, ErrorCode::usage, "no place for tensor");

  Checkpoint c = model;
  c.tensors[0].processed = true;
  ASSERT_EQ(c.tensors[0].name, "emb.weight");
  expect_refused(c, {}, ErrorCode::usage, "ln0 is already in the embedding");
  const auto changed = [&](const std::string& name, auto change) {
    Checkpoint other = model;
    for (TensorView& t : other.tensors) {
      if (t.name == name) change(t);
    }
    return other;
  };
  expect_refused(changed("blocks.1.att.a1",
                         [](TensorView& t) {
                           t = t.reshaped({128, 4});
                         }),
                 {}, ErrorCode::usage, "low-rank");
  expect_refused(changed("blocks.1.att.key.weight",
                         [](TensorView& t) {
                           t = t.reshaped({32, 128});
                         }),
                 {}, ErrorCode::invalid_file, "is [32, 128], expected [64, 64]");
  expect_refused(changed("blocks.1.att.key.weight", [](TensorView& t) { t.dtype = DType::i16; }), {},
                 ErrorCode::invalid_file, "holds no weights");
}

TEST_F(GgufWriter, RefusesOptionsThatCannotBe) {
  const Checkpoint model = random_model(small("7"));
  const auto tokens = [&](std::vector<std::string> list, const std::string& part) {
    GgufOptions options;
    options.tokens = std::move(list);
    expect_refused(model, options, ErrorCode::usage, part);
  };
  tokens({"<s>", "\\n", "a", "a"}, "a token twice");
  tokens({"<s>", "a"}, "end of a line");
  tokens(std::vector<std::string>(21, "a"), "has 21 tokens, the model 20");
  GgufOptions options;
  options.rescale_every = 6;
  expect_refused(model, options, ErrorCode::usage, "only RWKV-6");
  options = {};
  options.dtype = DType::q6_k;
  expect_refused(model, options, ErrorCode::usage, "q6_k cannot be written");
  options = {};
  std::uint64_t last = 0, steps = 0;
  options.progress = [&](std::string_view, std::uint64_t done, std::uint64_t total) {
    EXPECT_TRUE(done > last && done <= total);
    last = done;
    return ++steps < 5;
  };
  expect_refused(model, options, ErrorCode::interrupted, "interrupted");
  EXPECT_EQ(steps, 5u);
}

TEST_F(GgufWriter, ATunedStateIsLeftOut) {
  Checkpoint model = random_model(small("6"));
  TensorView state = *model.find("blocks.0.att.key.weight");
  state.name = "blocks.0.att.time_state";
  model.tensors.push_back(state);
  model.index();
  const Checkpoint file = written(model);
  EXPECT_TRUE(noted("tuned initial state"));
  EXPECT_EQ(file.find("blocks.0.att.time_state"), nullptr);
}

}  // namespace
}  // namespace fr
