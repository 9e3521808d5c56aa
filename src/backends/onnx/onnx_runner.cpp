// Opens ONNX exports (export/onnx.h says what they hold).
#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>

#include "backends/onnx/onnx_device.h"

namespace fr {

const GraphRunner& onnx_runner();

namespace onnx_backend {
namespace {

constexpr auto f32 = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
constexpr std::string_view ending = ".onnx", state_prefix = "state.";

Error no_export(const std::string& what, const std::string& path) {
  return file_error(what + " (" + path + "): give what `frwkv export onnx` writes, NAME.onnx");
}

// A count that the metadata states; -1: none, or out of [0, 2^31).
int count_of(const Session& session, const char* key) {
  const std::string text = session.metadata(key);
  int value = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size() && value >= 0 ? value : -1;
}

Result<ModelInfo> info_of(const Session& session, const std::string& path) {
  if (session.metadata("rwkv.kind") != "decode") return no_export("this is no RWKV export", path);
  ModelInfo info;
  info.version = session.metadata("rwkv.version");
  struct Count {
    const char* key;
    int ModelInfo::*member;
    int least;
  };
  constexpr Count counts[] = {
      {"rwkv.layers", &ModelInfo::n_layer, 1}, {"rwkv.embedding", &ModelInfo::n_embd, 1},
      {"rwkv.ffn", &ModelInfo::n_ffn, 1},      {"rwkv.vocabulary", &ModelInfo::n_vocab, 1},
      {"rwkv.heads", &ModelInfo::n_head, 0},   {"rwkv.head_size", &ModelInfo::head_size, 0}};
  for (const Count& c : counts) {
    info.*c.member = count_of(session, c.key);
    if (info.*c.member < c.least)
      return no_export(std::string("its metadata ") + c.key + " is missing or no number", path);
  }
  return info;
}

// The blocks that the inputs "state.<block>" name, in their order.
Result<StateSpec> state_of(const Session& session, const ModelInfo& info, const std::string& path) {
  StateSpec spec;
  for (const Port& port : session.inputs()) {
    if (!port.name.starts_with(state_prefix)) continue;
    const std::string name = port.name.substr(state_prefix.size());
    constexpr std::string_view block = "blocks.";
    int layer = -1;
    if (name.starts_with(block))
      std::from_chars(name.data() + block.size(), name.data() + name.size(), layer);
    std::int64_t size = 1;
    std::vector<int> shape;
    for (const std::int64_t d : port.dims) {
      if (d < 1 || d > (1 << 24) / size) return no_export("its state " + name + " has unusable sizes", path);
      size *= d;
      shape.push_back(static_cast<int>(d));
    }
    const bool known = port.type == f32 && (shape.size() == 1 || shape.size() == 3);
    if (!known || layer < 0 || layer >= info.n_layer)
      return no_export("its state " + name + " is none of RWKV", path);
    spec.add(name, layer, std::move(shape));
  }
  return spec;
}

// What NAME.initial.onnx gives: as numbers of the blocks where it can be said so, else canonical values.
Result<std::vector<float>> initial_state(const std::string& path, StateSpec& spec) {
  FR_TRY(const auto session, Session::open(path, 1));
  std::vector<float> values(static_cast<std::size_t>(spec.size));
  std::vector<std::string> names;
  for (const StateBlock& b : spec.blocks) names.push_back(std::string(state_prefix) + b.name);
  std::vector<Binding> outputs;
  for (std::size_t i = 0; i < names.size(); ++i) {
    const StateBlock& b = spec.blocks[i];
    outputs.push_back({names[i].c_str(), f32, values.data() + b.offset, {b.shape.begin(), b.shape.end()}});
  }
  FR_OK(session->run({}, outputs));
  bool uniform = true;
  for (StateBlock& b : spec.blocks) {
    const std::span block(values.data() + b.offset, static_cast<std::size_t>(b.size));
    if (!std::all_of(block.begin(), block.end(), [](float x) { return std::isfinite(x); }))
      return no_export("its first state " + b.name + " is not finite", path);
    const bool same = std::all_of(block.begin(), block.end(), [&](float x) { return x == block[0]; });
    if (same) b.initial = block[0];
    uniform = uniform && same;
  }
  if (uniform) values.clear();
  return values;
}

Result<Exported> open(const std::string& path, const DeviceOptions& options) {
  if (!path.ends_with(ending)) return no_export("this is no .onnx file", path);
  const std::string name = path.substr(0, path.size() - ending.size());
  for (const std::string_view other : {".decode", ".initial"}) {
    if (name.ends_with(other)) return no_export("this is one graph of an export", path);
  }
  Exported e;
  const std::string decode_path = name + ".decode.onnx", initial_path = name + ".initial.onnx";
  for (const std::string& file : {path, decode_path, initial_path, path + ".data"}) {
    FR_TRY(auto mapped, MappedFile::open(file));
    e.files.push_back(std::move(mapped));
  }
  OnnxModel model;
  FR_TRY(model.decode, Session::open(decode_path, options.threads));
  FR_TRY(e.info, info_of(*model.decode, decode_path));
  FR_TRY(e.state, state_of(*model.decode, e.info, decode_path));
  if (!has_ports(*model.decode, e.info, e.state, true))
    return no_export("its inputs and outputs are not those of an export", decode_path);
  FR_TRY(e.initial_state, initial_state(initial_path, e.state));

  const std::size_t data_bytes = e.files.back()->bytes().size();
  if (model.decode->metadata("rwkv.data_bytes") != std::to_string(data_bytes))
    return no_export("the weights are of another export, or cut", path + ".data");
  const std::string dtype = model.decode->metadata("rwkv.dtype");
  if (dtype != "fp32" && dtype != "fp16") return no_export("unknown number format " + dtype, decode_path);
  e.dtype = dtype == "fp16" ? DType::f16 : DType::f32;
  const std::string parameters = model.decode->metadata("rwkv.parameters");
  std::from_chars(parameters.data(), parameters.data() + parameters.size(), e.n_parameters);
  e.fingerprint = model.decode->metadata("rwkv.fingerprint");
  e.format = "onnx";
  e.path = path;
  // onnxruntime folds the widening of fp16 matrices: each graph then has its own copy of the weights.
  (e.dtype == DType::f16 ? model.memory.weights : model.memory.mapped) =
      static_cast<std::int64_t>(e.dtype == DType::f16 ? 2 * data_bytes : data_bytes);
  model.path = path;
  model.info = e.info;
  model.state = e.state;
  model.dtype = e.dtype;
  model.threads = options.threads;
  e.device = make_device(std::move(model));
  return e;
}

}  // namespace
}  // namespace onnx_backend

const GraphRunner& onnx_runner() {
  static const GraphRunner runner{"onnx", &onnx_backend::open};
  return runner;
}

}  // namespace fr
