// Exported files, read back and run by a plain interpreter of the ONNX operators, against the reference
// backend.
#include <cstring>
#include <limits>
#include <set>

#include "export/onnx.h"
#include "onnx_fixture.h"
#include "onnx_run.h"

namespace fr::test {
namespace {

using onnx::Interpreter;
using onnx::Values;

struct Export {
  std::string data;
  onnx::Model sequence, decode, initial;
};

class OnnxExport : public testing::TestWithParam<const char*> {
 protected:
  Export exported(const Checkpoint& file, DType dtype = DType::f32) {
    need(export_onnx(file, folder / "m.onnx", options_of(dtype)));
    Export e;
    e.data = onnx::slurp(folder / "m.onnx.data");
    e.sequence = onnx::read_model(folder / "m.onnx", e.data);
    e.decode = onnx::read_model(folder / "m.decode.onnx", e.data);
    e.initial = onnx::read_model(folder / "m.initial.onnx", e.data);
    return e;
  }
  Folder folder;
};

onnx::Tensor integers(const std::vector<int>& values) {
  return {{static_cast<std::int64_t>(values.size())}, {values.begin(), values.end()}};
}

// Runs a graph and moves the new state to where the next run takes it.
Values step(const onnx::Graph& graph, Values& state, const std::vector<int>& tokens,
            const std::vector<int>& wanted = {}) {
  Values in = state;
  in["tokens"] = integers(tokens);
  if (!wanted.empty()) in["wanted"] = integers(wanted);
  Values out = Interpreter::run(graph, in);
  for (auto& [name, tensor] : state) tensor = out.at("new_" + name);
  return out;
}

std::vector<float> flat(const Values& state, const StateSpec& spec) {
  std::vector<float> values;
  for (const StateBlock& b : spec.blocks) {
    const onnx::Tensor& t = state.at("state." + b.name);
    EXPECT_EQ(t.dims, std::vector<std::int64_t>(b.shape.begin(), b.shape.end()));
    values.insert(values.end(), t.values.begin(), t.values.end());
  }
  return values;
}

void expect_equal_runs(const Export& e, DeviceRunner& reference, double limit) {
  reference.reserve(1);
  reference.reset(0);
  Values state = Interpreter::run(e.initial.graph, {});
  for (const int token : {3, 18, 0}) {
    const Values out = step(e.decode.graph, state, {token});
    EXPECT_LE(rel_l2(out.at("logits").values, reference.step({{token}, {{0, 0, 1}}, {0}})), limit);
  }
  const Values out = step(e.sequence.graph, state, {5, 5, 9, 1, 17}, {-1, 1, 0});
  const std::vector<float> expected = reference.step({{5, 5, 9, 1, 17}, {{0, 0, 5}}, {0, 1, 4}});
  const std::vector<float>& found = out.at("logits").values;
  const std::size_t n = 19;
  ASSERT_EQ(found.size(), 3 * n);
  for (std::size_t i = 0; i < 3; ++i)
    EXPECT_LE(rel_l2(std::span(found).subspan((2 - i) * n, n), std::span(expected).subspan(i * n, n)), limit);
  step(e.sequence.graph, state, {7}, {0});  // T = 1
  reference.step({{7}, {{0, 0, 1}}, {0}});
  EXPECT_LE(rel_l2(flat(state, reference.state_spec()), reference.export_state(0)), limit);
}

TEST_P(OnnxExport, EqualsTheReference) {
  for (const int head_size : {16, 32}) {  // two heads, one
    DeviceRunner reference(random_file(GetParam(), head_size), {});
    expect_equal_runs(exported(random_file(GetParam(), head_size)), reference, 5e-5);
  }
  DeviceRunner half(random_file(GetParam()),
                    {.target = {}, .dtype = DType::f16, .cuts = {}, .tuned = nullptr});
  expect_equal_runs(exported(random_file(GetParam()), DType::f16), half, 5e-3);
}

TEST_P(OnnxExport, HalvesAsTheFileSays) {
  Checkpoint file = random_file(GetParam()), same = random_file(GetParam());
  file.rescale_every = same.rescale_every = 1;
  DeviceRunner reference(std::move(same), {});
  expect_equal_runs(exported(file), reference, 5e-5);
}

std::set<std::string> names_of(const std::vector<onnx::Port>& ports) {
  std::set<std::string> names;
  for (const onnx::Port& p : ports) names.insert(p.name);
  EXPECT_EQ(names.size(), ports.size());
  return names;
}

// Names that nodes take, bodies of scans included.
void add_used(const onnx::Graph& graph, std::set<std::string>& used) {
  for (const onnx::Node& n : graph.nodes) {
    used.insert(n.inputs.begin(), n.inputs.end());
    if (n.op == "Scan") add_used(onnx::read_graph(onnx::text(n.attributes.at("body"), 6), {}), used);
  }
}

TEST_P(OnnxExport, HasTheDocumentedPortsAndNothingUnused) {
  const Checkpoint file = random_file(GetParam());
  const Export e = exported(file);
  const auto model = need(make_model(file));
  for (const onnx::Model* m : {&e.sequence, &e.decode}) {
    const bool decode = m == &e.decode;
    EXPECT_EQ(m->opset, 17);
    EXPECT_EQ(m->ir_version, 8);
    EXPECT_EQ(m->metadata.at("rwkv.kind"), decode ? "decode" : "sequence");
    EXPECT_EQ(m->metadata.at("rwkv.version"), model->info().version);
    EXPECT_EQ(m->metadata.at("rwkv.fingerprint"), "abc");
    EXPECT_EQ(m->metadata.at("rwkv.data_bytes"), std::to_string(e.data.size()));
    std::set<std::string> inputs{"tokens"}, outputs{"logits", "hidden"}, used;
    if (!decode) inputs.insert("wanted");
    for (const StateBlock& b : model->state().blocks) {
      inputs.insert("state." + b.name);
      outputs.insert("new_state." + b.name);
    }
    EXPECT_EQ(names_of(m->graph.inputs), inputs);
    EXPECT_EQ(names_of(m->graph.outputs), outputs);
    EXPECT_EQ(m->graph.outputs[0].dims, (std::vector<std::string>{decode ? "1" : "W", "19"}));
    add_used(m->graph, used);
    for (const std::string& name : inputs) EXPECT_TRUE(used.contains(name)) << name;
    for (const auto& [name, tensor] : m->graph.constants) EXPECT_TRUE(used.contains(name)) << name;
  }
}

TEST_P(OnnxExport, GraphsShareAlignedTensorsInTheData) {
  for (const DType dtype : {DType::f32, DType::f16}) {
    const Export e = exported(random_file(GetParam()), dtype);
    std::map<std::uint64_t, std::uint64_t> places;
    for (const onnx::External& t : e.sequence.graph.external) {
      EXPECT_EQ(t.offset % 64, 0u);
      EXPECT_LE(t.offset + t.bytes, e.data.size());
      EXPECT_TRUE(places.emplace(t.offset, t.offset + t.bytes).second);
    }
    std::uint64_t end = 0;
    for (const auto& [begin, after] : places) {
      EXPECT_LE(end, begin);
      end = after;
    }
    EXPECT_EQ(end, e.data.size());
    for (const onnx::External& t : e.decode.graph.external)
      EXPECT_EQ(places.at(t.offset), t.offset + t.bytes) << t.name;
  }
}

// Above all the gate of v5.1 and v5.2.
TEST_P(OnnxExport, EveryWeightMatters) {
  Export e = exported(random_file(GetParam()));
  const Values fresh = Interpreter::run(e.initial.graph, {});
  const auto run = [&] {
    Values state = fresh;
    return step(e.sequence.graph, state, {4, 11, 2}, {2}).at("logits").values;
  };
  const std::vector<float> right = run();
  std::set<std::string> names;
  for (const onnx::External& t : e.sequence.graph.external) {
    onnx::Tensor& weight = e.sequence.graph.constants.at(t.name);
    const onnx::Tensor original = weight;
    for (std::size_t i = 0; i < weight.values.size(); ++i)
      weight.values[i] += 0.2f * (static_cast<float>(i * 7 % 5) - 2.0f);
    EXPECT_GT(rel_l2(run(), right), 1e-6) << t.name;
    weight = original;
    names.insert(t.name);
  }
  const bool gated = std::string_view(GetParam()) > "5.0";
  for (const std::string layer : {"0", "1"})
    EXPECT_EQ(names.contains("blocks." + layer + (GetParam()[0] == '7' ? ".att.g1" : ".att.gate.weight")),
              gated);
}

INSTANTIATE_TEST_SUITE_P(Versions, OnnxExport, testing::ValuesIn(variants));

// A tensor of a random checkpoint, to be changed.
std::span<float> numbers(Checkpoint& file, const std::string& name) {
  const TensorView* t = file.find(name);
  return {reinterpret_cast<float*>(const_cast<std::byte*>(t->data)), static_cast<std::size_t>(t->size())};
}

using OnnxStates = OnnxExport;
INSTANTIATE_TEST_SUITE_P(Versions, OnnxStates, testing::Values("5.2", "7"));

TEST_P(OnnxStates, ATunedOneIsTheFirst) {
  std::vector<float> tuned(2 * 16 * 16);
  for (std::size_t i = 0; i < tuned.size(); ++i) tuned[i] = static_cast<float>(i) / 100;
  Checkpoint file = random_file(GetParam());
  for (const std::string layer : {"0", "1"}) {
    file.tensors.push_back({.name = "blocks." + layer + ".att.time_state",
                            .shape = {2, 16, 16},
                            .stride = {256, 16, 1},
                            .data = reinterpret_cast<const std::byte*>(tuned.data())});
  }
  file.index();
  const auto model = need(make_model(file));
  const Export e = exported(file);
  EXPECT_EQ(flat(Interpreter::run(e.initial.graph, {}), model->state()),
            need(tuned_state(file, model->info(), model->state())));
}

class OnnxRefusal : public testing::Test {
 protected:
  // The error; there must be one, and no file.
  std::string refused(const Checkpoint& file, const std::string& path, const OnnxExportOptions& options) {
    const auto result = export_onnx(file, path, options);
    EXPECT_FALSE(result.ok());
    EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
    return result.ok() ? "" : result.error().message;
  }
  void expect_refused(const Checkpoint& file, const std::string& path, const OnnxExportOptions& options,
                      const std::string& what) {
    const std::string message = refused(file, path, options);
    EXPECT_NE(message.find(what), std::string::npos) << message;
  }
  Folder folder;
  Checkpoint file = random_file("7");
  const std::string out = folder / "m.onnx";
};

TEST_F(OnnxRefusal, LeavesNothing) {
  expect_refused(file, folder / "m.gguf", options_of(DType::f32), "name it NAME.onnx");
  expect_refused(file, folder / ".onnx", options_of(DType::f32), "name it NAME.onnx");
  expect_refused(file, folder / "m.decode.onnx", options_of(DType::f32), "another export's part");
  expect_refused(file, folder / "none/m.onnx", options_of(DType::f32), "cannot create the file");
  expect_refused(file, out, options_of(DType::bf16), "fp32 or fp16 weights, not bf16");
  OnnxExportOptions stopped = options_of(DType::f32);
  stopped.progress = [](std::string_view what, auto, auto) { return what != "writing"; };
  expect_refused(file, out, stopped, "interrupted");
  numbers(file, "blocks.1.ffn.key.weight")[5] = 70000;
  expect_refused(file, out, options_of(DType::f16), "blocks.1.ffn.key.weight holds 70000");
  EXPECT_TRUE(export_onnx(file, folder / "../frwkv-onnx-kept.onnx", options_of(DType::f32)).ok());
  for (const char* end : {".onnx", ".decode.onnx", ".initial.onnx", ".onnx.data"})
    EXPECT_TRUE(std::filesystem::remove(folder / (std::string("../frwkv-onnx-kept") + end)));
  numbers(file, "head.weight")[5] = std::numeric_limits<float>::quiet_NaN();
  expect_refused(file, out, options_of(DType::f32), "head.weight holds NaN");
  file = random_file("7");
  numbers(file, "ln_out.bias")[2] = std::numeric_limits<float>::infinity();
  expect_refused(file, out, options_of(DType::f32), "holds NaN or infinity");
}

TEST_F(OnnxRefusal, KeepsWhatIsThere) {
  need(export_onnx(file, out, options_of(DType::f32)));
  const std::string before = onnx::slurp(out), data = onnx::slurp(out + ".data");
  numbers(file, "head.weight")[5] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_FALSE(export_onnx(file, out, options_of(DType::f32)).ok());
  EXPECT_EQ(onnx::slurp(out), before);
  EXPECT_EQ(onnx::slurp(out + ".data"), data);
  file.files.push_back(need(MappedFile::open(out + ".data")));
  const auto over_input = export_onnx(file, out, options_of(DType::f32));
  ASSERT_FALSE(over_input.ok());
  EXPECT_NE(over_input.error().message.find("one of the inputs"), std::string::npos);
}

}  // namespace
}  // namespace fr::test
