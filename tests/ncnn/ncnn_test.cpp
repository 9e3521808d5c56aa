// The ncnn runner on files that the exporter wrote: equal to the reference, decode = sequence graph = batched
// = restored, goldens, quantised weights, damaged files.
#include <gtest/gtest.h>

#include <fstream>

#include "exported.h"
#include "formats/formats.h"
#include "golden.h"

namespace fr::test {
namespace {

constexpr double fp32_l2 = 5e-5;

RandomShape small_shape(const std::string& variant) {
  RandomShape s = variant_shape(variant);
  s.n_layer = 2;
  s.n_embd = 64;
  s.head_size = 16;
  s.n_ffn = 96;
  s.n_vocab = 50;
  s.rank_mix = 3;
  s.rank_w = 5;
  s.rank_a = 4;
  s.rank_v = 3;
  s.rank_g = 7;
  return s;
}

Checkpoint random_model(const std::string& variant, DType dtype) {
  return need(random_checkpoint(small_shape(variant), {.dtype = dtype, .seed = 4}));
}

std::vector<std::int32_t> some_tokens(int n) {
  std::vector<std::int32_t> tokens;
  for (int i = 0; i < n; ++i) tokens.push_back((7 * i * i + 3 * i + 1) % 50);
  return tokens;
}

void expect_rows_equal(std::span<const float> found, std::span<const float> expected, std::size_t width,
                       double l2) {
  ASSERT_EQ(found.size(), expected.size());
  double worst = 0;
  for (std::size_t i = 0; i < found.size(); i += width)
    worst = std::max(worst, relative_l2(found.subspan(i, width), expected.subspan(i, width)));
  EXPECT_LE(worst, l2);
}

class NcnnRunner : public testing::TestWithParam<const char*> {};

// 200 tokens with the state carried from step to step, one by one and in chunks, weights in fp32 and fp16.
TEST_P(NcnnRunner, EqualsTheReference) {
  const std::vector<std::int32_t> tokens = some_tokens(200);
  DeviceRunner reference(random_model(GetParam(), DType::f16), {});
  reference.reserve(1);
  const std::vector<float> expected = reference.step(whole(tokens)), state = reference.export_state(0);
  for (const DType dtype : {DType::f32, DType::f16}) {
    Folder folder;
    need(export_ncnn(random_model(GetParam(), DType::f16), folder.prefix(), export_options(dtype)));
    ExportedRunner runner(folder.prefix(), 2);
    EXPECT_EQ(runner.exported().dtype, dtype);
    EXPECT_EQ(runner.exported().fingerprint, "0123456789abcdef");
    runner.reserve(2);
    for (int i = 0; i < 2; ++i) runner.reset(i);
    std::vector<float> one_by_one;
    for (const std::int32_t t : tokens) {
      const std::vector<float> row = runner.step({{t}, {{1, 0, 1}}, {0}});
      one_by_one.insert(one_by_one.end(), row.begin(), row.end());
    }
    expect_rows_equal(one_by_one, expected, 50, fp32_l2);
    expect_rows_equal(runner.step(whole(tokens)), expected, 50, fp32_l2);
    EXPECT_LE(relative_l2(runner.export_state(0), state), fp32_l2);
    EXPECT_LE(relative_l2(runner.export_state(1), state), fp32_l2);
  }
}

TEST_P(NcnnRunner, KnowsTheModel) {
  Folder folder;
  const Checkpoint file = random_model(GetParam(), DType::f32);
  need(export_ncnn(file, folder.prefix(), export_options(DType::f16)));
  const auto model = need(make_model(file));
  for (const char* ending : {"", ".param", ".bin"}) {
    const ExportedRunner runner(folder.prefix() + ending);
    const ModelInfo &found = runner.info(), &expected = model->info();
    EXPECT_EQ(found.version, expected.version);
    EXPECT_EQ(found.n_layer, expected.n_layer);
    EXPECT_EQ(found.n_embd, expected.n_embd);
    EXPECT_EQ(found.n_vocab, expected.n_vocab);
    EXPECT_EQ(found.n_ffn, expected.n_ffn);
    EXPECT_EQ(found.n_head, expected.n_head);
    EXPECT_EQ(found.head_size, expected.head_size);
    ASSERT_EQ(runner.state_spec().blocks.size(), model->state().blocks.size());
    for (std::size_t i = 0; i < model->state().blocks.size(); ++i) {
      EXPECT_EQ(runner.state_spec().blocks[i].name, model->state().blocks[i].name);
      EXPECT_EQ(runner.state_spec().blocks[i].shape, model->state().blocks[i].shape);
      EXPECT_EQ(runner.state_spec().blocks[i].initial, model->state().blocks[i].initial);
    }
  }
}

TEST_P(NcnnRunner, BatchesSplitsAndRestoredStatesChangeNothing) {
  Folder folder;
  need(export_ncnn(random_model(GetParam(), DType::f32), folder.prefix(), export_options(DType::f32)));
  ExportedRunner runner(folder.prefix());
  runner.reserve(4);
  for (int i = 0; i < 4; ++i) runner.reset(i);
  const std::vector<std::int32_t> tokens = some_tokens(21);
  const std::vector<float> all = runner.step(whole(tokens));

  // Rows 0..12 among strangers, then the rest from a state that went out and in again.
  Batch mixed{{3, 4}, {{1, 0, 2}, {2, 2, 13}, {3, 15, 1}}, {1, 2, 14, 15}};
  mixed.tokens.insert(mixed.tokens.end(), tokens.begin(), tokens.begin() + 13);
  mixed.tokens.push_back(9);
  const std::vector<float> some = runner.step(mixed);
  expect_rows_equal(std::span(some).subspan(50, 50), std::span(all).first(50), 50, fp32_l2);
  expect_rows_equal(std::span(some).subspan(100, 50), std::span(all).subspan(12 * 50, 50), 50, fp32_l2);
  const std::vector<float> state = runner.export_state(2);
  runner.reset(2);
  runner.import_state(0, state);
  const std::vector<float> rest = runner.step(whole(std::span(tokens).subspan(13)));
  expect_rows_equal(rest, std::span(all).subspan(13 * 50), 50, fp32_l2);

  DeviceRunner reference(random_model(GetParam(), DType::f32), {});
  reference.reserve(1);
  EXPECT_EQ(runner.export_state(2), reference.export_state(0));  // as after reset
}

TEST_P(NcnnRunner, QuantisedWeightsStayWithinTheirBounds) {
  const std::vector<std::int32_t> tokens = some_tokens(100);
  DeviceRunner reference(random_model(GetParam(), DType::f32), {});
  reference.reserve(1);
  const std::vector<float> expected = reference.step(whole(tokens));
  for (const auto& [dtype, bound] : {std::pair{int8_weights, 4e-2}, std::pair{int4_weights, 0.35}}) {
    Folder folder;
    need(export_ncnn(random_model(GetParam(), DType::f32), folder.prefix(), export_options(dtype)));
    ExportedRunner runner(folder.prefix());
    EXPECT_EQ(runner.exported().dtype, dtype);
    runner.reserve(1);
    const std::vector<float> found = runner.step(whole(tokens));
    const double error = relative_l2(found, expected);
    EXPECT_LE(error, bound);
    EXPECT_GT(error, 1e-4);  // they are quantised
  }
}

INSTANTIATE_TEST_SUITE_P(Versions, NcnnRunner, testing::ValuesIn(variants));

// A gate that was dropped would make its weights irrelevant.
TEST(Ncnn, TheGateOfVersions51And52Counts) {
  for (const char* version : {"5.1", "5.2"}) {
    std::vector<std::vector<float>> logits;
    for (const float factor : {1.0f, 1.5f}) {
      const Checkpoint file = random_model(version, DType::f32);
      const TensorView* gate = file.find("blocks.1.att.gate.weight");
      auto* w = reinterpret_cast<float*>(const_cast<std::byte*>(gate->data));
      for (std::int64_t i = 0; i < gate->size(); ++i) w[i] *= factor;
      Folder folder;
      need(export_ncnn(file, folder.prefix(), export_options(DType::f32)));
      ExportedRunner runner(folder.prefix());
      runner.reserve(1);
      logits.push_back(runner.step(whole(some_tokens(12))));
    }
    EXPECT_GT(relative_l2(logits[1], logits[0]), 1e-2) << version;
  }
}

TEST(Ncnn, HiddenRowsGiveTheLogits) {
  Folder folder;
  const Checkpoint file = random_model("7", DType::f32);
  need(export_ncnn(file, folder.prefix(), export_options(DType::f32)));
  ExportedRunner runner(folder.prefix());
  runner.reserve(1);
  const std::vector<std::int32_t> tokens = some_tokens(11);
  const std::vector<float> logits = runner.step(whole(tokens));
  runner.reset(0);
  const std::vector<float> hidden = runner.hidden(whole(tokens));
  const TensorView* head = file.find("head.weight");
  std::vector<float> w(static_cast<std::size_t>(head->size())), made;
  head->read(0, w);
  for (std::size_t row = 0; row < tokens.size(); ++row) {
    for (std::size_t v = 0; v < 50; ++v) {
      float sum = 0;
      for (std::size_t i = 0; i < 64; ++i) sum += hidden[row * 64 + i] * w[v * 64 + i];
      made.push_back(sum);
    }
  }
  expect_rows_equal(made, logits, 50, fp32_l2);
}

TEST(Ncnn, ATunedInitialStateIsKept) {
  Checkpoint file = random_model("6", DType::f32);
  std::vector<float> tuned(4 * 16 * 16);
  for (std::size_t i = 0; i < tuned.size(); ++i) tuned[i] = std::sin(static_cast<float>(i));
  for (const char* name : {"blocks.0.att.time_state", "blocks.1.att.time_state"}) {
    const std::vector<std::int64_t> shape{4, 16, 16};
    file.tensors.push_back(
        {name, DType::f32, shape, dense_strides(shape), reinterpret_cast<const std::byte*>(tuned.data())});
  }
  file.index();
  Folder folder;
  need(export_ncnn(file, folder.prefix(), export_options(DType::f32)));
  ExportedRunner runner(folder.prefix());
  runner.reserve(1);
  DeviceRunner reference(std::move(file), {});
  reference.reserve(1);
  EXPECT_EQ(runner.export_state(0), reference.export_state(0));
  EXPECT_EQ(runner.exported().initial_state, reference.export_state(0));
  const std::vector<std::int32_t> tokens = some_tokens(20);
  expect_rows_equal(runner.step(whole(tokens)), reference.step(whole(tokens)), 50, fp32_l2);
}

TEST(Ncnn, ConfigAndSequenceGraphAreOptional) {
  Folder folder;
  need(export_ncnn(random_model("7", DType::f32), folder.prefix(), export_options(DType::f16)));
  const std::vector<std::int32_t> tokens = some_tokens(20);
  std::vector<std::vector<float>> logits;
  for (const char* remove : {"", ".config", ".seq.param"}) {
    if (*remove != 0) std::filesystem::remove(folder.prefix() + remove);
    ExportedRunner runner(folder.prefix());
    runner.reserve(1);
    logits.push_back(runner.step(whole(tokens)));
  }
  EXPECT_EQ(logits[1], logits[0]);
  expect_rows_equal(logits[2], logits[0], 50, fp32_l2);
}

TEST(Ncnn, Goldens) {
  const std::vector<GoldenFile> goldens = golden_files();
  if (goldens.empty()) GTEST_SKIP() << "NO GOLDENS: " << goldens_folder() << " is not there";
  int n = 0;
  for (const GoldenFile& golden : goldens) {
    if (!golden.state_path.empty() || !golden.path.ends_with(".pth")) continue;
    Folder folder;
    need(export_ncnn(need(open_checkpoint(golden.path)), folder.prefix(), export_options(DType::f32, 16)));
    ExportedRunner runner(folder.prefix());
    SCOPED_TRACE(golden.name);
    check_golden(runner, golden, {});
    ++n;
  }
  EXPECT_GE(n, 8);
}

std::string message_of(const std::string& path) {
  const Result<Exported> result = find_runner("ncnn")->open(path, {.threads = 1});
  return result.ok() ? "" : result.error().message;
}

class NcnnFiles : public testing::Test {
 protected:
  NcnnFiles() {
    need(export_ncnn(random_model("7", DType::f32), folder_.prefix(), export_options(DType::f16)));
  }
  std::string read(const std::string& ending) const {
    std::ifstream file(folder_.prefix() + ending, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void write(const std::string& ending, const std::string& text) const {
    std::ofstream(folder_.prefix() + ending, std::ios::binary) << text;
  }
  void expect_error(const std::string& part) const {
    const std::string message = message_of(folder_.prefix());
    EXPECT_NE(message.find(part), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  }
  Folder folder_;
};

TEST_F(NcnnFiles, MissingOrForeignOnesAreNamed) {
  EXPECT_NE(message_of(folder_.prefix() + "x").find("no ncnn graph"), std::string::npos);
  const std::string weights = read(".bin"), graph = read(".param");
  write(".bin", weights.substr(0, weights.size() / 2));
  expect_error("the weights end too early");
  write(".bin", weights + "1234");
  expect_error("the graph reads");
  std::filesystem::remove(folder_.prefix() + ".bin");
  expect_error("the weights are missing");
  write(".bin", weights);
  write(".param", "7767518" + graph.substr(7));
  expect_error("does not start with 7767517");
  write(".param", graph.substr(0, graph.find('\n', graph.size() / 2) + 1));
  expect_error("but says");
  write(".param", graph);
  need(export_ncnn(random_model("6", DType::f32), folder_.prefix() + "6", export_options(DType::f16)));
  std::filesystem::copy_file(folder_.prefix() + "6.seq.param", folder_.prefix() + ".seq.param",
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_NE(message_of(folder_.prefix()), "");
}

// Every change of one byte: an error of one line, or a graph that runs.
TEST_F(NcnnFiles, DamagedGraphsNeverCrash) {
  const std::string graph = read(".param");
  std::filesystem::remove(folder_.prefix() + ".seq.param");
  std::uint32_t random = 1;
  const auto next = [&] { return random = random * 1664525u + 1013904223u, random >> 8; };
  int refused = 0;
  for (int i = 0; i < 1000; ++i) {
    std::string damaged = graph;
    const std::size_t at = next() % damaged.size();
    switch (next() % 4) {
      case 0:
        damaged[at] = static_cast<char>("0123456789-=., \n"[next() % 16]);
        break;
      case 1:
        damaged.erase(at, 1 + next() % 20);
        break;
      case 2:
        damaged.insert(at, damaged.substr(next() % damaged.size(), next() % 40));
        break;
      default:
        damaged[at] = static_cast<char>(next());
    }
    write(".param", damaged);
    Result<Exported> result = find_runner("ncnn")->open(folder_.prefix(), {.threads = 1});
    if (!result) {
      EXPECT_EQ(result.error().message.find('\n'), std::string::npos);
      ++refused;
      continue;
    }
    Exported& e = *result;
    need(e.device->reserve_slots(1));
    std::vector<float> logits(static_cast<std::size_t>(e.info.n_vocab));
    const PortOut out[] = {{port_logits, logits}};
    (void)e.device->step({}, {{1}, {{0, 0, 1}}, {0}}, {}, out);
  }
  EXPECT_GT(refused, 500);
}

// The layer and blob counts of the second line are right; the layer added is what is wrong.
TEST_F(NcnnFiles, LayersMadeToDeceiveAreRefused) {
  const std::string graph = read(".param");
  const std::size_t counts = graph.find('\n') + 1, body = graph.find('\n', counts) + 1;
  int layers = 0, blobs = 0;
  ASSERT_EQ(std::sscanf(graph.c_str() + counts, "%d %d", &layers, &blobs), 2);
  std::filesystem::remove(folder_.prefix() + ".seq.param");
  const auto with = [&](const std::string& layer) {
    return "7767517\n" + std::to_string(layers + 1) + " " + std::to_string(blobs + 1) + "\n" +
           graph.substr(body) + layer + "\n";
  };
  // 485696 * 1061881 * 35766739 is 448 modulo 2^64.
  write(".param", with("MemoryData md 0 1 mdout 0=485696 1=1061881 2=35766739"));
  expect_error("md");
  for (const char blank : {'\v', '\f', '\x01'}) {
    write(".param", with(std::string("MemoryData m") + blank + "d 0 1 mdout 0=1"));
    expect_error(".param");
  }
  std::string other = graph;
  other.replace(other.find("format=1"), 8, "format=2");
  write(".param", other);
  expect_error("a newer program wrote it");
}

TEST_F(NcnnFiles, WeightsThatAreNotFiniteAreAnError) {
  std::string weights = read(".bin");
  for (std::size_t i = 0; i + 1 < weights.size(); i += 2)
    weights[i] = weights[i + 1] = static_cast<char>(0x7e);
  write(".bin", weights);
  EXPECT_NE(message_of(folder_.prefix()), "");
}

}  // namespace
}  // namespace fr::test
