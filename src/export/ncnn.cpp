#include "export/ncnn.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <memory>
#include <system_error>

#include "core/batch.h"
#include "core/storage.h"
#include "export/ncnn_weights.h"
#include "models/model.h"

namespace fr {
namespace {

constexpr std::int64_t most_numbers = 0x7fffffff;  // ncnn counts the numbers of a weight in an int

struct Traced {
  std::unique_ptr<TraceWeights> weights;
  std::unique_ptr<Model> model;
};

Result<Traced> bind(const Checkpoint& file) {
  Traced t;
  t.weights = std::make_unique<TraceWeights>(file);
  FR_TRY(t.model, make_model(file));
  Binder binder(file, [&](int) -> WeightStore& { return *t.weights; });
  t.model->bind(binder);
  FR_OK(binder.finish());
  return t;
}

TracedGraph trace(const Traced& t, int rows) {
  TraceOps op(*t.weights, rows, rows);
  Stream stream = t.model->embed(op);
  t.model->layers(op, stream, 0, t.model->info().n_layer);
  const Tensor hidden = t.model->hidden(op, stream);
  op.output(port_hidden, hidden);
  op.output(port_logits, t.model->logits(op, hidden));
  return op.graph();
}

Status check_options(const std::string& prefix, const NcnnExportOptions& o) {
  if (o.dtype != DType::f32 && o.dtype != DType::f16 && o.dtype != int8_weights && o.dtype != int4_weights) {
    return usage_error("ncnn has no weights in " + std::string(storage_name(o.dtype)) + " (" + prefix +
                       "): use fp32, fp16, int8 or int4");
  }
  if (o.chunk != 0 && (o.chunk < 2 || o.chunk > 256)) {
    return usage_error("a sequence graph of " + std::to_string(o.chunk) + " tokens (" + prefix +
                       "): use 2 to 256, or -1 for none");
  }
  return {};
}

// A name to which endings can be added, and which then means the export alone.
Status check_prefix(const std::string& prefix) {
  namespace fs = std::filesystem;
  constexpr std::size_t longest = 255 - std::string_view(".seq.param").size();
  const std::string name = fs::path(prefix).filename().string();
  std::error_code ignored;
  if (name.empty() || name.size() > longest)
    return usage_error("\"" + prefix + "\" is no name for an export (export): give a PREFIX of at most " +
                       std::to_string(longest) + " bytes, to which .param and .bin are added");
  if (fs::exists(prefix, ignored))
    return usage_error("there is a file or folder of this name (" + prefix +
                       "): give a PREFIX that names nothing yet, .param and .bin are added");
  for (const std::string_view ending : {".param", ".bin", ".config"}) {
    if (name.ends_with(ending))
      return usage_error("the PREFIX has an ending of the export's files (" + prefix + "): leave out \"" +
                         std::string(ending) + "\"");
  }
  return {};
}

// Whether one of the files to write is of the model itself (rwkv.cpp's end in .bin too).
Status check_paths(const Checkpoint& file, const std::string& prefix) {
  std::vector<std::string> inputs{file.path};
  for (const auto& part : file.files) inputs.push_back(part->path());
  for (const char* ending : {".param", ".seq.param", ".bin", ".config"}) {
    for (const std::string& input : inputs) {
      std::error_code ignored;
      if (std::filesystem::equivalent(prefix + ending, input, ignored))
        return usage_error("the export would overwrite the model (" + prefix + ending +
                           "): use another name");
    }
  }
  return {};
}

Status check_sizes(const Checkpoint& file, const TraceWeights& weights) {
  for (const TraceWeights::Matrix& m : weights.matrices()) {
    if (m.view.size() <= most_numbers) continue;
    return usage_error("tensor " + m.view.name + " has " + std::to_string(m.view.size()) + " numbers (" +
                       file.path + "): ncnn cannot hold more than " + std::to_string(most_numbers) +
                       " in one layer");
  }
  return {};
}

std::vector<NcnnStorage> storages(const TraceWeights& weights, DType dtype) {
  std::vector<NcnnStorage> all;
  for (const TraceWeights::Matrix& m : weights.matrices()) {
    const bool blocks = !is_float_dtype(dtype) && m.role != MatRole::low_rank &&
                        m.role != MatRole::embedding && m.view.shape[1] % ncnn_block == 0;
    if (!blocks) {
      all.push_back(dtype == DType::f32 ? NcnnStorage::f32 : NcnnStorage::f16);
    } else {
      all.push_back(dtype == int8_weights || m.role == MatRole::head ? NcnnStorage::int8 : NcnnStorage::int4);
    }
  }
  return all;
}

struct Facts {
  ModelInfo info;
  int n_att = 0;  // width of the time mix
  std::int64_t parameters = 0;
};

Facts facts(const Checkpoint& file, const Traced& t) {
  Facts f{t.model->info(), 0, 0};
  f.n_att = f.info.n_head * f.info.head_size;
  if (f.n_att == 0) f.n_att = t.model->state().blocks.at(1).shape.at(0);  // v4: att.aa
  for (const TensorView& tensor : file.tensors) {
    if (!tensor.name.ends_with(".att.time_state")) f.parameters += tensor.size();
  }
  return f;
}

// The name of the first layer: what the .config says and a runner needs.
std::string header(const Facts& f, const NcnnExportOptions& o, int rows) {
  std::string text = "faster_rwkv;format=1";
  const auto add = [&](const std::string& key, const std::string& value) { text += ";" + key + "=" + value; };
  add("version", f.info.version);
  add("weights", std::string(storage_name(o.dtype)));
  const std::pair<const char*, std::int64_t> sizes[] = {
      {"tokens", rows},           {"layers", f.info.n_layer},  {"embd", f.info.n_embd},
      {"att", f.n_att},           {"ffn", f.info.n_ffn},       {"vocab", f.info.n_vocab},
      {"head", f.info.head_size}, {"parameters", f.parameters}};
  for (const auto& [key, value] : sizes) add(key, std::to_string(value));
  for (const auto& [name, rank] : f.info.lora_ranks) add("rank_" + name, std::to_string(rank));
  if (!o.fingerprint.empty()) add("fingerprint", o.fingerprint);
  return text;
}

std::string config(const Facts& f, DType dtype) {
  std::string text;
  const auto add = [&](const std::string& key, const std::string& value) {
    text += key + ": " + value + "\n";
  };
  add("version", f.info.version == "5.0" ? "5" : f.info.version);
  add("act_dtype", "fp32");
  add("weight_dtype", std::string(storage_name(dtype)));
  add("head_size", std::to_string(f.info.head_size));
  add("n_layer", std::to_string(f.info.n_layer));
  add("n_embd", std::to_string(f.info.n_embd));
  add("n_att", std::to_string(f.n_att));
  add("n_ffn", std::to_string(f.info.n_ffn));
  add("ncnn_impl_version", "2");  // input_id in, output out
  return text;
}

std::vector<float> initial_state(const StateSpec& spec, std::vector<float> tuned) {
  if (!tuned.empty()) return tuned;
  std::vector<float> values(static_cast<std::size_t>(spec.size));
  for (const StateBlock& b : spec.blocks) std::fill_n(values.begin() + b.offset, b.size, b.initial);
  return values;
}

Status write_text(AtomicFile& out, const std::string& text) {
  return out.write(std::as_bytes(std::span(text)));
}

}  // namespace

Result<ExportReport> export_ncnn(const Checkpoint& file, const std::string& prefix,
                                 const NcnnExportOptions& options) {
  FR_OK(check_options(prefix, options));
  FR_OK(check_prefix(prefix));
  FR_OK(check_paths(file, prefix));
  FR_TRY(const Traced traced, bind(file));
  FR_OK(check_sizes(file, *traced.weights));
  const StateSpec& state = traced.model->state();
  FR_TRY(std::vector<float> tuned, tuned_state(file, traced.model->info(), state));
  const Facts f = facts(file, traced);

  NcnnLowering lowering;
  lowering.quantised = !is_float_dtype(options.dtype);
  lowering.storage = storages(*traced.weights, options.dtype);
  lowering.state = &state;
  lowering.initial_state = initial_state(state, std::move(tuned));
  const auto lower = [&](int rows) {
    lowering.rows = rows;
    lowering.header = header(f, options, rows);
    return lower_to_ncnn(trace(traced, rows), *traced.weights, lowering);
  };
  const NcnnGraph decode = lower(1);
  if (lowering.header.size() > 255)  // ncnn reads names of up to 255 bytes
    return usage_error("the fingerprint is too long (" + prefix + "): use at most 64 characters");
  std::vector<std::pair<std::string, std::string>> texts;  // files but the weights
  FR_TRY(std::string decode_text, decode.text());
  texts.emplace_back(prefix + ".param", std::move(decode_text));
  if (options.chunk > 0) {
    FR_TRY(std::string sequence_text, lower(options.chunk).text());
    texts.emplace_back(prefix + ".seq.param", std::move(sequence_text));
  }
  texts.emplace_back(prefix + ".config", config(f, options.dtype));

  std::vector<AtomicFile> files;
  for (const auto& [path, text] : texts) {
    FR_TRY(AtomicFile out, AtomicFile::create(path));
    FR_OK(write_text(out, text));
    files.push_back(std::move(out));
  }
  FR_TRY(AtomicFile weights, AtomicFile::create(prefix + ".bin"));
  FR_OK(write_ncnn_weights(weights, decode, *traced.weights, file, options.progress));
  FR_OK(weights.commit());
  for (AtomicFile& out : files) FR_OK(out.commit());

  std::error_code ignored;
  if (options.chunk == 0) std::filesystem::remove(prefix + ".seq.param", ignored);  // of other weights

  ExportReport report;
  for (const auto& [path, text] : texts) report.files.push_back(path);
  report.files.insert(report.files.begin() + 1, prefix + ".bin");
  for (const std::string& path : report.files) report.bytes += std::filesystem::file_size(path, ignored);
  report.chunk = options.chunk;
  report.notes = f.info.notes;
  return report;
}

}  // namespace fr
