#include "tools_core/convert.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <optional>
#include <random>

#include "engine/engine.h"
#include "formats/formats.h"
#include "formats/safetensors.h"
#include "models/random_checkpoint.h"
#include "tools_core/layerwise.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

class Convert : public testing::TestWithParam<const char*> {
 protected:
  Convert() {
    std::string name = testing::UnitTest::GetInstance()->current_test_info()->name();
    std::replace(name.begin(), name.end(), '/', '_');
    folder_ = fs::temp_directory_path() / ("frwkv_convert_" + name + "_" + std::to_string(::getpid()));
    fs::create_directories(folder_);
  }
  ~Convert() override { fs::remove_all(folder_); }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  // A random model as an official safetensors file.
  std::string model(const std::string& version, DType dtype = DType::bf16) const {
    RandomShape shape;
    shape.version = version;
    shape.n_layer = 7;  // one more than x is halved after
    shape.n_embd = 64;
    shape.n_ffn = 224;
    shape.n_vocab = 70;
    shape.rank_mix = shape.rank_w = shape.rank_a = shape.rank_v = shape.rank_g = 8;
    auto file = random_checkpoint(shape, {dtype});
    EXPECT_TRUE(file.ok());
    const std::string where = path("model" + version + ".safetensors");
    EXPECT_TRUE(write_safetensors(where, file->tensors).ok());
    return where;
  }

  static std::string bytes_of(const std::string& file) {
    std::ifstream in(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }

  // Same names, shapes, formats and numbers.
  static void expect_same_tensors(const std::string& a, const std::string& b) {
    const auto x = open_checkpoint(a), y = open_checkpoint(b);
    ASSERT_TRUE(x.ok() && y.ok());
    ASSERT_EQ(x->tensors.size(), y->tensors.size());
    for (const TensorView& t : x->tensors) {
      const TensorView* u = y->find(t.name);
      ASSERT_NE(u, nullptr) << t.name;
      EXPECT_EQ(t.dtype, u->dtype) << t.name;
      EXPECT_EQ(t.shape, u->shape) << t.name;
      std::vector<float> p(static_cast<std::size_t>(t.size())), q(p.size());
      t.read(0, p);
      u->read(0, q);
      EXPECT_EQ(p, q) << t.name;
    }
  }

 private:
  fs::path folder_;
};

ConvertOptions from_to(const std::string& in, const std::string& out, const std::string& dtype = "") {
  ConvertOptions options;
  options.in = in;
  options.out = out;
  options.dtype = dtype;
  options.threads = 1;
  return options;
}

TEST_P(Convert, ToSafetensorsIsExact) {
  const std::string in = model(GetParam());
  const auto report = convert(from_to(in, path("copy.safetensors")));
  ASSERT_TRUE(report.ok()) << report.error().message;
  expect_same_tensors(in, path("copy.safetensors"));
  ASSERT_TRUE(report->difference);
  EXPECT_EQ(report->difference->max_abs, 0);
  EXPECT_EQ(report->difference->argmax_agreement, 1);
  EXPECT_EQ(report->dtypes.size(), 1u);

  const auto wide = convert(from_to(in, path("wide.st"), "fp32"));
  ASSERT_TRUE(wide.ok()) << wide.error().message;
  EXPECT_EQ(wide->difference->max_abs, 0);
  const auto narrow = convert(from_to(path("wide.st"), path("narrow.safetensors"), "BF16"));
  ASSERT_TRUE(narrow.ok()) << narrow.error().message;
  expect_same_tensors(in, path("narrow.safetensors"));
}
INSTANTIATE_TEST_SUITE_P(Versions, Convert, testing::Values("4", "5.0", "5.1", "5.2", "6", "7"));

TEST_F(Convert, GgufAndBackIsBitExact) {
  for (const char* version : {"6", "7"}) {
    for (const DType dtype : {DType::bf16, DType::f16, DType::f32}) {
      const std::string in = model(version, dtype);
      const auto there = convert(from_to(in, path("model.gguf")));
      ASSERT_TRUE(there.ok()) << there.error().message;
      EXPECT_EQ(there->difference->max_abs, 0) << version;
      const auto back = convert(from_to(path("model.gguf"), path("back.safetensors")));
      ASSERT_TRUE(back.ok()) << back.error().message;
      expect_same_tensors(in, path("back.safetensors"));
      ASSERT_TRUE(convert(from_to(in, path("straight.safetensors"))).ok());
      EXPECT_EQ(bytes_of(path("back.safetensors")), bytes_of(path("straight.safetensors")));
    }
  }
}

TEST_F(Convert, QuantisedGgufComputesNearlyTheSame) {
  const std::string in = model("7", DType::f32);
  for (const auto& [dtype, limit] : {std::pair{"q8_0", 4e-2}, {"q4_0", 0.4}, {"q4_k", 0.4}}) {
    const auto report = convert(from_to(in, path("model.gguf"), dtype));
    ASSERT_TRUE(report.ok()) << report.error().message;
    EXPECT_LT(report->difference->relative_l2, limit) << dtype;
    EXPECT_GT(report->difference->relative_l2, 1e-6) << dtype;
  }
}

TEST_F(Convert, FrAndBackComputesTheSame) {
  for (const char* version : {"4", "5.0", "5.1", "5.2"}) {
    const std::string in = model(version, DType::f32);
    const auto there = convert(from_to(in, path("model.fr"), "fp32"));
    ASSERT_TRUE(there.ok()) << there.error().message;
    EXPECT_LT(there->difference->relative_l2, 1e-5) << version;
    const auto back = convert(from_to(path("model.fr"), path("back.safetensors")));
    ASSERT_TRUE(back.ok()) << back.error().message;
    EXPECT_LT(back->difference->relative_l2, 1e-6) << version;  // the processed form is kept, and marked
    const auto half = convert(from_to(in, path("half.fr"), "fp16"));
    ASSERT_TRUE(half.ok()) << half.error().message;
    EXPECT_LT(half->difference->relative_l2, 2e-2) << version;
    const auto marked = convert(from_to(path("half.fr"), path("half.safetensors")));
    ASSERT_TRUE(marked.ok()) << marked.error().message;
    EXPECT_LT(marked->difference->relative_l2, 1e-6) << version;  // halved in the same places
  }
}

TEST_F(Convert, RefusesWhatCannotBe) {
  const std::string v4 = model("4"), v7 = model("7");
  const auto code = [&](const ConvertOptions& options) {
    const auto report = convert(options);
    EXPECT_FALSE(report.ok());
    EXPECT_FALSE(fs::exists(options.out) && options.out != options.in);
    return report.ok() ? std::optional<ErrorCode>{} : report.error().code;
  };
  EXPECT_EQ(code(from_to(v7, path("model.fr"))), ErrorCode::usage);
  EXPECT_EQ(code(from_to(v4, path("model.gguf"))), ErrorCode::usage);
  EXPECT_EQ(code(from_to(v7, path("model.bin"))), ErrorCode::usage);
  EXPECT_EQ(code(from_to(v7, path("model.safetensors"), "q8_0")), ErrorCode::usage);
  EXPECT_EQ(code(from_to(v7, path("other.safetensors"), "fp17")), ErrorCode::usage);
  EXPECT_EQ(code(from_to(v7, v7)), ErrorCode::usage);
  EXPECT_EQ(code(from_to(v4, path("model.fr"), "bf16")), ErrorCode::usage);
  EXPECT_EQ(code(from_to(path("none.pth"), path("other.safetensors"))), ErrorCode::invalid_file);
}

TEST_F(Convert, DryRunWritesNothing) {
  const std::string in = model("7");
  for (const char* name : {"model.gguf", "other.safetensors"}) {
    ConvertOptions options = from_to(in, path(name));
    options.dry_run = true;
    const auto dry = convert(options);
    ASSERT_TRUE(dry.ok()) << dry.error().message;
    EXPECT_FALSE(fs::exists(options.out));
    EXPECT_FALSE(dry->difference);
    options.dry_run = false;
    const auto wet = convert(options);
    ASSERT_TRUE(wet.ok()) << wet.error().message;
    EXPECT_EQ(dry->dtypes, wet->dtypes);
    EXPECT_NEAR(static_cast<double>(dry->out_bytes), static_cast<double>(wet->out_bytes),
                0.05 * static_cast<double>(wet->out_bytes));
  }
}

// Stops at every step it is told of, at one after the other: the old file stays, nothing else is left behind.
TEST_F(Convert, AnInterruptedOneLeavesTheOldFile) {
  const std::string in = model("7");
  for (const char* name : {"old.gguf", "old.safetensors"}) {
    { std::ofstream(path(name)) << "what was there"; }
    std::size_t points = 0;
    for (bool done = false; !done && points < 60; ++points) {
      ConvertOptions options = from_to(in, path(name));
      options.check = false;
      std::size_t left = points;
      options.progress = [&left](auto, auto, auto) { return left-- > 0; };
      const auto report = convert(options);
      done = report.ok();
      if (done) break;
      EXPECT_EQ(report.error().code, ErrorCode::interrupted);
      EXPECT_EQ(bytes_of(path(name)), "what was there");
    }
    EXPECT_GT(points, 20u);
    fs::remove(path(name));
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(fs::path(in).parent_path()), {}), 1);
}

std::vector<float> random_numbers(std::size_t n, float scale, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<float> numbers(n);
  for (float& x : numbers) x = scale * (static_cast<float>(random() % 2001) / 1000.0f - 1.0f);
  return numbers;
}
TensorView view(const std::string& name, std::vector<std::int64_t> shape, const std::vector<float>& numbers) {
  return {name, DType::f32, shape, dense_strides(shape), reinterpret_cast<const std::byte*>(numbers.data())};
}

TEST_F(Convert, MergesAnAdapter) {
  const std::string in = model("7", DType::f32);
  constexpr std::size_t rank = 4;
  const auto a = random_numbers(rank * 64, 0.1f, 1), b = random_numbers(224 * rank, 0.1f, 2),
             norm = random_numbers(64, 1.0f, 3);
  const std::vector<TensorView> adapter{view("blocks.1.ffn.key.lora_A", {4, 64}, a),
                                        view("base_model.model.blocks.1.ffn.key.lora_B.weight", {224, 4}, b),
                                        view("blocks.2.ln1.weight", {64}, norm)};
  ASSERT_TRUE(write_safetensors(path("adapter.safetensors"), adapter).ok());
  ConvertOptions options = from_to(in, path("merged.safetensors"));
  options.lora = path("adapter.safetensors") + ":8";
  const auto report = convert(options);
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_LT(report->difference->relative_l2, 1e-6);  // reading merged and merging while reading are the same

  const auto before = open_checkpoint(in), after = open_checkpoint(path("merged.safetensors"));
  ASSERT_TRUE(before.ok() && after.ok());
  std::vector<float> old_key(224 * 64), new_key(old_key.size()), new_norm(64);
  before->find("blocks.1.ffn.key.weight")->read(0, old_key);
  after->find("blocks.1.ffn.key.weight")->read(0, new_key);
  after->find("blocks.2.ln1.weight")->read(0, new_norm);
  EXPECT_EQ(new_norm, norm);
  for (std::size_t i = 0; i < 224; ++i) {
    for (std::size_t j = 0; j < 64; ++j) {
      double expected = old_key[i * 64 + j];
      for (std::size_t r = 0; r < rank; ++r)
        expected += 8.0 / 4.0 * double{b[i * rank + r]} * double{a[r * 64 + j]};
      ASSERT_NEAR(new_key[i * 64 + j], expected, 1e-6);
    }
  }

  options.lora = path("adapter.safetensors");  // alpha is nowhere
  EXPECT_EQ(convert(options).error().code, ErrorCode::usage);
  { std::ofstream(path("adapter_config.json")) << R"({"lora_alpha": 8, "r": 4})"; }
  const std::string merged = bytes_of(path("merged.safetensors"));
  ASSERT_TRUE(convert(options).ok());
  EXPECT_EQ(bytes_of(path("merged.safetensors")), merged);

  {
    std::ofstream(path("adapter_config.json")) << R"({"lora_alpha": 4, "r": 4, "use_rslora": true})";
  }  // 4 / sqrt(4)
  ASSERT_TRUE(convert(options).ok());
  EXPECT_EQ(bytes_of(path("merged.safetensors")), merged);
  { std::ofstream(path("adapter_config.json")) << R"({"lora_alpha": 8, "alpha_pattern": {"key": 2}})"; }
  EXPECT_EQ(convert(options).error().code, ErrorCode::invalid_file);
  fs::remove(path("adapter_config.json"));
  for (const char* alpha : {":nan", ":inf", ":1e999"}) {
    options.lora = path("adapter.safetensors") + alpha;
    EXPECT_EQ(convert(options).error().code, ErrorCode::usage) << alpha;
  }
  options.lora = path("adapter.safetensors") + ":8";
  options.out = path("adapter.safetensors");  // an input
  EXPECT_EQ(convert(options).error().code, ErrorCode::usage);
  EXPECT_TRUE(open_checkpoint(path("adapter.safetensors")).ok());
  options.out = path("merged.safetensors");

  ASSERT_TRUE(write_safetensors(path("adapter.safetensors"), std::span(adapter).first(1)).ok());
  const auto half = convert(options);
  ASSERT_FALSE(half.ok());
  EXPECT_NE(half.error().message.find("lora_B"), std::string::npos) << half.error().message;
}

// A matrix that is stored whole and changed besides: both count. Shapes must be the model's.
TEST_F(Convert, AnAdapterMayReplaceAndChangeOneMatrix) {
  const auto whole = random_numbers(224 * 64, 1.0f, 1), a = random_numbers(64, 0.1f, 2),
             b = random_numbers(224, 0.1f, 3);
  std::vector<TensorView> adapter{view("blocks.1.ffn.key.weight", {224, 64}, whole),
                                  view("blocks.1.ffn.key.lora_A", {1, 64}, a),
                                  view("blocks.1.ffn.key.lora_B", {224, 1}, b)};
  ASSERT_TRUE(write_safetensors(path("adapter.safetensors"), adapter).ok());
  ConvertOptions options = from_to(model("7", DType::f32), path("merged.safetensors"));
  options.lora = path("adapter.safetensors") + ":1";
  ASSERT_TRUE(convert(options).ok());
  const auto merged = open_checkpoint(path("merged.safetensors"));
  ASSERT_TRUE(merged.ok());
  std::vector<float> key(224 * 64);
  merged->find("blocks.1.ffn.key.weight")->read(0, key);
  for (std::size_t i = 0; i < key.size(); ++i) ASSERT_NEAR(key[i], whole[i] + b[i / 64] * a[i % 64], 1e-6);

  adapter[0] = view("blocks.1.ffn.key.weight", {64, 224}, whole);
  ASSERT_TRUE(write_safetensors(path("adapter.safetensors"), adapter).ok());
  EXPECT_EQ(convert(options).error().code, ErrorCode::invalid_file);
}

// exp(-exp(w)) near 1 would become 1 in 16 bits: a state that never forgets.
TEST_F(Convert, ProcessedDecaysKeepTheirDigits) {
  ASSERT_TRUE(convert(from_to(model("5.2", DType::f32), path("model.fr"), "fp32")).ok());
  ASSERT_TRUE(convert(from_to(path("model.fr"), path("half.safetensors"), "bf16")).ok());
  const auto before = open_checkpoint(path("model.fr")), after = open_checkpoint(path("half.safetensors"));
  ASSERT_TRUE(before.ok() && after.ok());
  const TensorView* decay = after->find("blocks.3.att.time_decay");
  EXPECT_EQ(decay->dtype, DType::f32);
  EXPECT_EQ(after->find("blocks.3.att.key.weight")->dtype, DType::bf16);
  std::vector<float> was(static_cast<std::size_t>(decay->size())), is(was.size());
  before->find("blocks.3.att.time_decay")->read(0, was);
  decay->read(0, is);
  EXPECT_EQ(was, is);
}

TEST_F(Convert, TheVocabularyComesAlong) {
  const std::string in = model("7");
  { std::ofstream(path("model7.vocab.txt")) << "1 'a' 1\n"; }
  ConvertOptions options = from_to(in, path("other.safetensors"));
  options.check = false;
  ASSERT_TRUE(convert(options).ok());
  EXPECT_EQ(bytes_of(path("other.vocab.txt")), "1 'a' 1\n");
}

TEST_F(Convert, EmbedsATunedState) {
  const std::string in = model("7");
  std::vector<std::vector<float>> numbers;
  std::vector<TensorView> state;
  for (unsigned layer = 0; layer < 7; ++layer) numbers.push_back(random_numbers(64 * 64, 0.1f, layer));
  for (std::size_t layer = 0; layer < 7; ++layer) {
    state.push_back(view("blocks." + std::to_string(layer) + ".att.time_state", {1, 64, 64}, numbers[layer]));
  }
  ASSERT_TRUE(write_safetensors(path("state.safetensors"), state).ok());
  ConvertOptions options = from_to(in, path("with.safetensors"));
  options.state = path("state.safetensors");
  const auto report = convert(options);
  ASSERT_TRUE(report.ok()) << report.error().message;
  const auto engine = Engine::load(path("with.safetensors"), {});
  ASSERT_TRUE(engine.ok()) << engine.error().message;
  const auto fresh = State::make(*engine);
  ASSERT_TRUE(fresh.ok());
  const std::vector<float> values = fresh->values();
  const StateBlock& kv = (*engine)->state_spec().blocks[1];
  ASSERT_EQ(kv.name, "blocks.0.att.kv");
  EXPECT_EQ(std::vector(values.begin() + kv.offset, values.begin() + kv.offset + kv.size), numbers[0]);

  // The check runs from that state, and GGUF has no place for it.
  const auto lost = convert(from_to(path("with.safetensors"), path("lost.gguf")));
  ASSERT_TRUE(lost.ok()) << lost.error().message;
  EXPECT_GT(lost->difference->max_abs, 1e-3);

  options.out = path("with.gguf");
  EXPECT_EQ(convert(options).error().code, ErrorCode::usage);
  options.out = path("other.safetensors");
  options.state = in;
  EXPECT_EQ(convert(options).error().code, ErrorCode::invalid_file);
}

TEST(CompareLogits, NaNIsNoAgreement) {
  const std::vector<float> a{1, 2, std::nanf(""), 4}, b{1, 2, 3, 4};
  const LogitDifference d = compare_logits(a, b, 2);
  EXPECT_EQ(d.argmax_agreement, 0.5);
  EXPECT_TRUE(std::isnan(d.max_abs) && std::isnan(d.relative_l2));
}

TEST(Layerwise, EqualsTheEngine) {
  for (const char* version : {"4", "5.2", "6", "7"}) {
    RandomShape shape;
    shape.version = version;
    shape.n_layer = 3;
    const auto file = random_checkpoint(shape);
    ASSERT_TRUE(file.ok());
    const std::vector<std::int32_t> tokens{1, 5, 200, 7, 0, 33};
    const auto logits = layerwise_logits(*file, tokens);
    ASSERT_TRUE(logits.ok()) << logits.error().message;
    LoadOptions options;
    options.strategy = "cpu fp32";
    const auto engine = Engine::make(*file, options);
    ASSERT_TRUE(engine.ok());
    auto state = State::make(*engine);
    ASSERT_TRUE(state.ok());
    std::vector<float> expected(logits->size());
    const SequenceInput input{&*state, tokens, Want::all};
    ASSERT_TRUE((*engine)->step({&input, 1}, expected).ok());
    EXPECT_EQ(*logits, expected) << version;
  }
}

}  // namespace
}  // namespace fr
