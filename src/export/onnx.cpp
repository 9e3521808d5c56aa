#include "export/onnx.h"

#include <filesystem>
#include <memory>
#include <utility>

#include "base/atomic_file.h"
#include "core/batch.h"
#include "export/onnx_lower.h"
#include "models/model.h"

namespace fr {
namespace {

namespace fs = std::filesystem;
using onnx::Kind;

constexpr std::string_view ending = ".onnx";

struct Paths {
  std::string sequence, decode, initial, data;
};

Result<Paths> paths_of(const std::string& path, const Checkpoint& file) {
  if (!path.ends_with(ending) || fs::path(path).filename() == ending)
    return usage_error("unknown ending of the output (" + path + "): name it NAME.onnx");
  const std::string name = path.substr(0, path.size() - ending.size());
  if (name.ends_with(".decode") || name.ends_with(".initial")) {
    return usage_error("the output has the name of another export's part (" + path +
                       "): name it NAME.onnx without .decode or .initial");
  }
  Paths p{path, name + ".decode.onnx", name + ".initial.onnx", path + ".data"};
  for (const std::string& out : {p.sequence, p.decode, p.initial, p.data}) {
    std::error_code ignored;
    if (fs::is_directory(out, ignored))
      return usage_error("the output is a directory (" + out + "): name a file");
    for (const auto& in : file.files) {
      if (fs::equivalent(in->path(), out, ignored))
        return usage_error("the output is one of the inputs (" + out + "): name another output");
    }
  }
  return p;
}

// One token of one sequence, whose logits are wanted: rows are symbolic all the same (Extent).
TracedGraph trace(const Model& model, const TraceWeights& weights) {
  TraceOps op(weights, 1, 1);
  Stream stream = model.embed(op);
  model.layers(op, stream, 0, model.info().n_layer);
  const Tensor hidden = model.hidden(op, stream);
  op.output(port_logits, model.logits(op, hidden));
  op.output(port_hidden, hidden);
  return op.graph();
}

onnx::ModelText text_of(const Model& model, const onnx::Weights& weights, const OnnxExportOptions& options) {
  const ModelInfo& info = model.info();
  std::string states;
  for (const StateBlock& block : model.state().blocks) states += (states.empty() ? "" : ",") + block.name;
  return {options.producer_version,
          "RWKV-" + info.version +
              " language model. Feed token ids and the state, take logits and the new state; the first state "
              "comes from the model NAME.initial.onnx.",
          {{"rwkv.version", info.version},
           {"rwkv.layers", std::to_string(info.n_layer)},
           {"rwkv.embedding", std::to_string(info.n_embd)},
           {"rwkv.ffn", std::to_string(info.n_ffn)},
           {"rwkv.vocabulary", std::to_string(info.n_vocab)},
           {"rwkv.heads", std::to_string(info.n_head)},
           {"rwkv.head_size", std::to_string(info.head_size)},
           {"rwkv.dtype", std::string(dtype_name(options.dtype))},
           {"rwkv.parameters", std::to_string(weights.parameters())},
           {"rwkv.data_bytes", std::to_string(weights.bytes())},
           {"rwkv.fingerprint", options.fingerprint},
           {"rwkv.states", std::move(states)}}};
}

Status write_text(AtomicFile& file, const std::string& bytes, ExportReport& report) {
  report.bytes += bytes.size();
  return file.write(std::as_bytes(std::span(bytes)));
}

}  // namespace

Result<ExportReport> export_onnx(const Checkpoint& file, const std::string& path,
                                 const OnnxExportOptions& options) {
  if (options.dtype != DType::f32 && options.dtype != DType::f16) {
    return usage_error("ONNX exports hold fp32 or fp16 weights, not " +
                       std::string(dtype_name(options.dtype)) + " (--dtype): choose one of these");
  }
  FR_TRY(const Paths paths, paths_of(path, file));
  FR_TRY(const std::unique_ptr<Model> model, make_model(file));
  TraceWeights traced(file);
  Binder binder(file, [&](int) -> WeightStore& { return traced; });
  model->bind(binder);
  FR_OK(binder.finish());
  FR_TRY(std::vector<float> initial, tuned_state(file, model->info(), model->state()));
  const bool tuned = !initial.empty();
  const TracedGraph step = trace(*model, traced);
  const onnx::Weights weights(traced, model->state(), std::move(initial), options.dtype);

  ExportReport report;
  report.files = {paths.sequence, paths.decode, paths.initial, paths.data};
  report.bytes = weights.bytes();
  report.notes = model->info().notes;
  if (tuned) report.notes.push_back("the tuned initial state is what " + paths.initial + " gives");
  FR_TRY(AtomicFile data, AtomicFile::create(paths.data));
  FR_TRY(AtomicFile initial_file, AtomicFile::create(paths.initial));
  FR_TRY(AtomicFile decode_file, AtomicFile::create(paths.decode));
  FR_TRY(AtomicFile sequence_file, AtomicFile::create(paths.sequence));

  const std::string location = fs::path(paths.data).filename().string();
  onnx::ModelText text = text_of(*model, weights, options);
  const auto graph = [&](Kind kind, const char* name) {
    onnx::ModelText own = text;
    own.metadata.emplace_back("rwkv.kind", name);
    return encode_model(onnx::lower(step, weights, model->state(), kind, location), name, own);
  };
  FR_OK(write_text(sequence_file, graph(Kind::sequence, "sequence"), report));
  FR_OK(write_text(decode_file, graph(Kind::decode, "decode"), report));
  text.metadata.clear();
  FR_OK(write_text(initial_file,
                   encode_model(onnx::initial_graph(weights, model->state(), location), "initial", text),
                   report));
  FR_OK(weights.write(data, file, options.progress));
  for (AtomicFile* f : {&data, &initial_file, &decode_file, &sequence_file}) FR_OK(f->commit());
  return report;
}

}  // namespace fr
