// The written ncnn files by themselves: well-formed graphs in which every weight counts, sizes, refusals.
#include "export/ncnn.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <map>
#include <set>
#include <sstream>

#include "core/storage.h"
#include "export/ncnn_weights.h"
#include "models/random_checkpoint.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

class NcnnExport : public testing::Test {
 protected:
  NcnnExport() {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    folder_ = fs::temp_directory_path() / ("fr_ncnn_export_" + std::string(test->name()));
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  ~NcnnExport() override { fs::remove_all(folder_); }
  std::string prefix() const { return (folder_ / "model").string(); }
  bool folder_is_empty() const { return fs::is_empty(folder_); }
  fs::path folder_;
};

Checkpoint random_model(const std::string& version, DType dtype = DType::f32) {
  RandomShape s;
  s.version = version;
  s.n_embd = 64;
  s.head_size = 32;
  s.n_ffn = 96;
  s.n_vocab = 40;
  s.rank_mix = s.rank_w = s.rank_a = s.rank_v = s.rank_g = 5;
  Result<Checkpoint> file = random_checkpoint(s, {.dtype = dtype, .seed = 5});
  EXPECT_TRUE(file.ok());
  return std::move(file).value();
}

// The numbers of one tensor, to change them.
std::span<float> numbers(const Checkpoint& file, const std::string& name) {
  const TensorView* t = file.find(name);
  EXPECT_NE(t, nullptr) << name;
  return {reinterpret_cast<float*>(const_cast<std::byte*>(t->data)), static_cast<std::size_t>(t->size())};
}

struct Layer {
  std::string type, name;
  std::vector<std::string> inputs, outputs;
  std::map<int, std::string> params;
  int param(int id, int otherwise = 0) const {
    const auto found = params.find(id);
    return found == params.end() ? otherwise : std::stoi(found->second);
  }
};

struct Graph {
  int n_layers = 0, n_blobs = 0;
  std::vector<Layer> layers;
};

Graph read_graph(const std::string& path) {
  std::ifstream file(path);
  Graph g;
  std::string line;
  std::getline(file, line);
  EXPECT_EQ(line, "7767517");
  std::getline(file, line);
  std::istringstream(line) >> g.n_layers >> g.n_blobs;
  while (std::getline(file, line)) {
    std::istringstream words(line);
    Layer l;
    std::size_t in = 0, out = 0;
    words >> l.type >> l.name >> in >> out;
    l.inputs.resize(in);
    l.outputs.resize(out);
    for (std::string& blob : l.inputs) words >> blob;
    for (std::string& blob : l.outputs) words >> blob;
    for (std::string word; words >> word;) l.params[std::stoi(word)] = word.substr(word.find('=') + 1);
    g.layers.push_back(std::move(l));
  }
  return g;
}

// Bytes of the .bin that the layers read.
std::uint64_t bytes_read(const Graph& g, std::size_t float_size) {
  std::uint64_t bytes = 0;
  const auto tagged = [&](std::uint64_t n) { bytes += 4 + (n * float_size + 3) / 4 * 4; };
  for (const Layer& l : g.layers) {
    const auto number = [&](int id) { return static_cast<std::uint64_t>(l.param(id)); };
    if (l.type == "Embed") tagged(number(3));
    if (l.type == "InnerProduct") tagged(number(2)), bytes += number(1) * number(0) * 4;
    if (l.type == "MemoryData")
      bytes += 4 * number(0) * std::max(1, l.param(1)) * static_cast<std::uint64_t>(std::max(1, l.param(2)));
    if (l.type != "Gemm") continue;
    const std::uint64_t size = number(8) * number(9);
    bytes += l.param(18) == 800 ? size : size / 2;
    if (l.param(10) == 4) bytes += 4 + 4 * number(8);
    bytes += size / ncnn_block * 4;
  }
  return bytes;
}

// Blobs come before their uses and are used once; the counts are right.
void expect_well_formed(const Graph& g) {
  std::set<std::string> ready, used;
  int blobs = 0;
  for (const Layer& l : g.layers) {
    EXPECT_LE(l.name.size(), 255u);
    for (const std::string& b : l.inputs) {
      EXPECT_TRUE(ready.contains(b)) << l.name << " uses " << b;
      EXPECT_TRUE(used.insert(b).second) << b << " is used twice";
    }
    for (const std::string& b : l.outputs) EXPECT_TRUE(ready.insert(b).second) << b << " is made twice";
    blobs += static_cast<int>(l.outputs.size());
  }
  EXPECT_EQ(g.n_layers, static_cast<int>(g.layers.size()));
  EXPECT_EQ(g.n_blobs, blobs);
}

// Names of the layers that the blobs called `wanted` depend on.
std::set<std::string> needed(const Graph& g, const std::function<bool(const std::string&)>& wanted) {
  std::set<std::string> blobs, names;
  for (auto l = g.layers.rbegin(); l != g.layers.rend(); ++l) {
    bool counts = false;
    for (const std::string& b : l->outputs) counts = counts || wanted(b) || blobs.contains(b);
    if (!counts) continue;
    names.insert(l->name);
    blobs.insert(l->inputs.begin(), l->inputs.end());
  }
  return names;
}

class NcnnVersions : public NcnnExport, public testing::WithParamInterface<const char*> {
 protected:
  NcnnVersions() {  // slashes of parameterised names
    folder_ = fs::temp_directory_path() / ("fr_ncnn_export_v" + std::string(GetParam()));
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
};

TEST_P(NcnnVersions, GraphsAreWellFormedAndReadAllWeights) {
  const Checkpoint file = random_model(GetParam());
  for (const DType dtype : {DType::f32, DType::f16, int8_weights, int4_weights}) {
    NcnnExportOptions options;
    options.dtype = dtype;
    options.chunk = 3;
    const Result<ExportReport> report = export_ncnn(file, prefix(), options);
    ASSERT_TRUE(report.ok()) << report.error().message;
    EXPECT_EQ(report->chunk, 3);
    for (const char* ending : {".param", ".seq.param"}) {
      const Graph g = read_graph(prefix() + ending);
      expect_well_formed(g);
      EXPECT_EQ(bytes_read(g, dtype == DType::f32 ? 4 : 2), fs::file_size(prefix() + ".bin")) << ending;
    }
  }
}

TEST_P(NcnnVersions, EveryMatrixReachesTheLogitsAndEveryStateIsReadAndWritten) {
  const Checkpoint file = random_model(GetParam());
  ASSERT_TRUE(export_ncnn(file, prefix(), {}).ok());
  for (const char* ending : {".param", ".seq.param"}) {
    const Graph g = read_graph(prefix() + ending);
    const std::set<std::string> counts = needed(g, [](const std::string& b) { return b == "output"; });
    int gates = 0;
    for (const TensorView& t : file.tensors) {
      if (t.shape.size() != 2 || !t.name.ends_with(".weight")) continue;
      EXPECT_TRUE(counts.contains(t.name)) << t.name;
      gates += t.name.ends_with("att.gate.weight") ? 1 : 0;
    }
    const std::string v = GetParam();
    EXPECT_EQ(gates, v == "5.1" || v == "5.2" || v == "6" ? 2 : 0);
    std::set<std::string> in, out;
    for (const Layer& l : g.layers) {
      for (const std::string& b : l.outputs) {
        if (l.type == "Input" && b.starts_with("state_")) {
          in.insert("output_" + b);
          EXPECT_TRUE(counts.contains(l.name)) << b;
        }
        if (b.starts_with("output_state_")) out.insert(b);
      }
    }
    EXPECT_EQ(in, out);
    EXPECT_EQ(in.size(), v == "4" ? 10u : 6u);
  }
}

INSTANTIATE_TEST_SUITE_P(All, NcnnVersions, testing::Values("4", "5.0", "5.1", "5.2", "6", "7"));

TEST_F(NcnnExport, TheHeaderSaysWhatTheConfigSays) {
  NcnnExportOptions options;
  options.fingerprint = "abc123";
  ASSERT_TRUE(export_ncnn(random_model("5.0"), prefix(), options).ok());
  EXPECT_EQ(read_graph(prefix() + ".param").layers[0].name,
            "faster_rwkv;format=1;version=5.0;weights=fp16;tokens=1;layers=2;embd=64;att=64;ffn=96;vocab=40;"
            "head=32;"
            "parameters=72328;fingerprint=abc123");
  std::ifstream config(prefix() + ".config");
  const std::string text{std::istreambuf_iterator<char>(config), {}};
  EXPECT_EQ(
      text,
      "version: 5\nact_dtype: fp32\nweight_dtype: fp16\nhead_size: 32\nn_layer: 2\nn_embd: 64\nn_att: 64\n"
      "n_ffn: 96\nncnn_impl_version: 2\n");
}

TEST_F(NcnnExport, StatesThatStartAtZeroAreNotStored) {
  const auto stored = [&] {
    std::set<std::string> blobs;
    for (const Layer& l : read_graph(prefix() + ".param").layers) {
      for (const std::string& b : l.outputs) {
        if (b.starts_with("initial_")) blobs.insert(b);
      }
    }
    return blobs;
  };
  ASSERT_TRUE(export_ncnn(random_model("7"), prefix(), {}).ok());
  EXPECT_EQ(stored(), std::set<std::string>{});
  ASSERT_TRUE(export_ncnn(random_model("4"), prefix(), {}).ok());
  EXPECT_EQ(stored(), (std::set<std::string>{"initial_state_0_3", "initial_state_1_3"}));  // pp
}

TEST_F(NcnnExport, RefusalsSayWhyAndLeaveNothing) {
  const auto refuse = [&](const Checkpoint& file, const NcnnExportOptions& options, const std::string& why) {
    const Result<ExportReport> report = export_ncnn(file, prefix(), options);
    ASSERT_FALSE(report.ok()) << why;
    EXPECT_NE(report.error().message.find(why), std::string::npos) << report.error().message;
    EXPECT_TRUE(folder_is_empty()) << why;
  };
  NcnnExportOptions bf16, one, stopped, full;
  bf16.dtype = DType::bf16;
  one.chunk = 1;
  stopped.progress = [](std::string_view, std::uint64_t done, std::uint64_t total) {
    return done < total / 2;
  };
  full.dtype = DType::f32;
  const Checkpoint good = random_model("7");
  refuse(good, bf16, "ncnn has no weights in bf16");
  refuse(good, one, "sequence graph of 1 tokens");
  refuse(good, stopped, "the export was stopped");
  const Checkpoint large = random_model("7");
  numbers(large, "blocks.1.ffn.key.weight")[5] = 70000;
  refuse(large, {}, "blocks.1.ffn.key.weight");
  EXPECT_TRUE(export_ncnn(large, prefix(), full).ok());
  for (const auto& entry : fs::directory_iterator(folder_)) fs::remove(entry);
  const Checkpoint damaged = random_model("7");
  numbers(damaged, "head.weight")[0] = std::numeric_limits<float>::quiet_NaN();
  for (const DType dtype : {DType::f32, DType::f16, int8_weights, int4_weights}) {
    NcnnExportOptions options;
    options.dtype = dtype;
    refuse(damaged, options, "head.weight");
  }
  const Checkpoint bad_vector = random_model("7");
  numbers(bad_vector, "ln_out.weight")[0] = std::numeric_limits<float>::infinity();
  refuse(bad_vector, {}, "not finite");
}

TEST_F(NcnnExport, ThePrefixMustNameTheExportAlone) {
  const Checkpoint good = random_model("7");
  const auto refused = [&](const std::string& name) {
    const Result<ExportReport> report = export_ncnn(good, name, {});
    return report.ok() ? "" : report.error().message;
  };
  EXPECT_NE(refused("").find("is no name"), std::string::npos);
  EXPECT_NE(refused(folder_.string() + "/").find("is no name"), std::string::npos);
  EXPECT_NE(refused(folder_.string()).find("of this name"), std::string::npos);
  EXPECT_NE(refused((folder_ / "m.param").string()).find("leave out \".param\""), std::string::npos);
  EXPECT_NE(refused((folder_ / std::string(250, 'a')).string()).find("is no name"), std::string::npos);
  EXPECT_TRUE(folder_is_empty());
  EXPECT_EQ(refused((folder_ / "story-0.1b").string()), "");
}

TEST_F(NcnnExport, NeverOverwritesTheModel) {
  Checkpoint file = random_model("7");
  file.path = prefix() + ".bin";
  std::ofstream(file.path) << "the model";
  const Result<ExportReport> report = export_ncnn(file, prefix(), {});
  ASSERT_FALSE(report.ok());
  EXPECT_NE(report.error().message.find("overwrite"), std::string::npos);
  EXPECT_EQ(fs::file_size(file.path), 9u);
}

double block_error(float (*quantise)(std::span<const float>, std::int8_t*), std::span<const float> x,
                   int least, int most) {
  std::array<std::int8_t, ncnn_block> q;
  const float scale = quantise(x, q.data());
  double error = 0, square = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    EXPECT_TRUE(q[i] >= least && q[i] <= most);
    const double d = x[i] - q[i] / static_cast<double>(scale);
    error += d * d;
    square += static_cast<double>(x[i]) * x[i];
  }
  return square > 0 ? std::sqrt(error / square) : error;
}

TEST(NcnnBlocks, KeepTheNumbersCloseAndSurviveExtremes) {
  std::array<float, ncnn_block> x{};
  EXPECT_EQ(block_error(quantise_ncnn_block8, x, -127, 127), 0);
  EXPECT_EQ(block_error(quantise_ncnn_block4, x, -8, 7), 0);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<float>(i * i + 1));
  EXPECT_LT(block_error(quantise_ncnn_block8, x, -127, 127), 4e-3);
  EXPECT_LT(block_error(quantise_ncnn_block4, x, -8, 7), 0.08);
  x.fill(1e-42f);  // 127 / x overflows: zeros, not infinities
  EXPECT_LE(block_error(quantise_ncnn_block8, x, -127, 127), 1);
  EXPECT_LE(block_error(quantise_ncnn_block4, x, -8, 7), 1);
}

}  // namespace
}  // namespace fr
