// Exports of every version, run by onnxruntime behind the Device interface, against the reference backend.
#include "onnx_fixture.h"

namespace fr::test {
namespace {

namespace fs = std::filesystem;

// Rows of tokens for slots 0 to 2, pieces of one row and of more.
const std::vector<Batch> batches{
    {{5}, {{0, 0, 1}}, {0}},
    {{1, 2, 3, 4, 18, 0, 7}, {{1, 0, 7}}, {0, 3, 6}},
    {{5, 0, 18, 2, 9, 9, 4}, {{2, 0, 2}, {0, 2, 4}, {1, 6, 1}}, {0, 5, 6}},
    {{3, 3}, {{0, 0, 1}, {2, 1, 1}}, {}},
    {{6, 1, 8}, {{2, 0, 1}, {1, 1, 1}, {0, 2, 1}}, {0, 1, 2}},
};

class OnnxRunner : public testing::TestWithParam<const char*> {
 protected:
  Exported exported(const Checkpoint& file, DType dtype) {
    need(export_onnx(file, folder / "m.onnx", options_of(dtype)));
    return need(find_runner("onnx")->open(folder / "m.onnx", {DType::f32, 1}));
  }
  Folder folder;
};

std::vector<float> logits_of(Exported& e, const Batch& batch) {
  std::vector<float> logits(batch.wanted.size() * static_cast<std::size_t>(e.info.n_vocab));
  const PortOut ports[] = {{port_logits, logits}};
  need(e.device->step({}, batch, {}, ports));
  return logits;
}

std::vector<float> state_of(const Exported& e, int slot) {
  std::vector<float> values(static_cast<std::size_t>(e.state.size));
  e.device->export_slot(slot, values);
  return values;
}

TEST_P(OnnxRunner, EqualsTheReference) {
  for (const auto& [dtype, limit] : {std::pair{DType::f32, 5e-5}, std::pair{DType::f16, 5e-3}}) {
    Exported e = exported(random_file(GetParam()), dtype);
    EXPECT_EQ(e.dtype, dtype);
    EXPECT_EQ(e.fingerprint, "abc");
    EXPECT_TRUE(e.initial_state.empty());
    DeviceRunner reference(random_file(GetParam()),
                           {.target = {}, .dtype = dtype, .cuts = {}, .tuned = nullptr});
    EXPECT_EQ(e.info.version, reference.info().version);
    EXPECT_EQ(e.info.n_ffn, reference.info().n_ffn);
    reference.reserve(3);
    need(e.device->reserve_slots(3));
    for (const Batch& batch : batches) {
      EXPECT_LE(rel_l2(logits_of(e, batch), reference.step(batch)), limit);
    }
    for (int slot = 0; slot < 3; ++slot)
      EXPECT_LE(rel_l2(state_of(e, slot), reference.export_state(slot)), limit);
  }
}

TEST_P(OnnxRunner, ChunksAndTokensAgreeOverAnExportedState) {
  Exported e = exported(random_file(GetParam()), DType::f32);
  need(e.device->reserve_slots(2));
  std::vector<std::int32_t> tokens;
  for (int i = 0; i < 300; ++i) tokens.push_back((i * i + 3) % 19);  // more rows than a run takes
  const std::vector<float> at_once = logits_of(e, {tokens, {{0, 0, 300}}, {41, 299}});
  std::vector<float> serial;
  for (int i = 0; i < 300; ++i) {
    const std::vector<float> row = logits_of(e, {{tokens[static_cast<std::size_t>(i)]}, {{1, 0, 1}}, {0}});
    if (i == 41 || i == 299) serial.insert(serial.end(), row.begin(), row.end());
    if (i % 50 != 0) continue;
    const std::vector<float> state = state_of(e, 1);
    e.device->reset_slot(1);
    e.device->import_slot(1, state);
  }
  EXPECT_LE(rel_l2(serial, at_once), 5e-5);
  EXPECT_LE(rel_l2(state_of(e, 1), state_of(e, 0)), 5e-5);
  e.device->copy_slot(0, 1);
  EXPECT_EQ(logits_of(e, {{1}, {{0, 0, 1}}, {0}}), logits_of(e, {{1}, {{1, 0, 1}}, {0}}));
}

TEST_P(OnnxRunner, HiddenTimesHeadIsLogits) {
  const Checkpoint file = random_file(GetParam());
  Exported e = exported(file, DType::f32);
  need(e.device->reserve_slots(1));
  std::vector<float> hidden(32), logits(19), head(19 * 32), expected(19);
  const PortOut ports[] = {{port_hidden, hidden}, {port_logits, logits}};
  need(e.device->step({}, {{4, 4, 2}, {{0, 0, 3}}, {1}}, {}, ports));
  file.find("head.weight")->read(0, head);
  if (const TensorView* bias = file.find("head.bias")) bias->read(0, expected);
  for (std::size_t i = 0; i < head.size(); ++i) expected[i / 32] += head[i] * hidden[i % 32];
  EXPECT_LE(rel_l2(logits, expected), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Versions, OnnxRunner, testing::ValuesIn(variants));

class OnnxFiles : public OnnxRunner {
 protected:
  // The error of opening, or of a first step of several rows.
  std::string error() {
    Result<Exported> e = find_runner("onnx")->open(folder / "m.onnx", {DType::f32, 1});
    if (!e) return e.error().message;
    std::vector<float> logits(19);
    const PortOut ports[] = {{port_logits, logits}};
    const Batch batch{{1, 2}, {{0, 0, 2}}, {1}};
    need(e->device->reserve_slots(1));
    const Status status = e->device->step({}, batch, {}, ports);
    return status.ok() ? "" : status.error().message;
  }
  void expect_error(const std::string& what) {
    const std::string message = error();
    EXPECT_NE(message.find(what), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos);
  }
};
INSTANTIATE_TEST_SUITE_P(Seven, OnnxFiles, testing::Values("7"));

TEST_P(OnnxFiles, DamagedOnesAreErrors) {
  for (const std::string name : {"m.onnx", "m.decode.onnx", "m.initial.onnx", "m.onnx.data"}) {
    exported(random_file(GetParam()), DType::f32);
    ASSERT_EQ(error(), "");
    const auto size = fs::file_size(folder / name);
    for (const auto cut : {size / 2, size / 3, std::uintmax_t{5}}) {
      fs::resize_file(folder / name, cut);
      EXPECT_NE(error(), "") << name << " cut to " << cut;
      EXPECT_EQ(error().find('\n'), std::string::npos);
    }
    fs::remove(folder / name);
    expect_error(name);
  }
}

TEST_P(OnnxFiles, GraphsOfOtherModelsAreErrors) {
  OnnxExportOptions other = options_of(DType::f32);
  other.fingerprint = "xyz";
  need(export_onnx(random_file("7"), folder / "m.onnx", other));
  fs::rename(folder / "m.onnx", folder / "other.onnx");
  exported(random_file("7"), DType::f32);
  fs::rename(folder / "other.onnx", folder / "m.onnx");
  expect_error("different exports");
  exported(random_file("7"), DType::f32);
  fs::rename(folder / "m.onnx.data", folder / "data");
  exported(random_file("7"), DType::f16);
  fs::rename(folder / "data", folder / "m.onnx.data");
  expect_error("the weights are of another export");
  exported(random_file("7"), DType::f32);
  fs::copy_file(folder / "m.onnx", folder / "m.decode.onnx", fs::copy_options::overwrite_existing);
  expect_error("this is no RWKV export");
  exported(random_file("4"), DType::f32);
  fs::rename(folder / "m.initial.onnx", folder / "initial");
  exported(random_file("7"), DType::f32);
  fs::rename(folder / "initial", folder / "m.initial.onnx");
  EXPECT_NE(error(), "");
}

}  // namespace
}  // namespace fr::test
