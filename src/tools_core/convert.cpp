#include "tools_core/convert.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <memory>

#include "engine/locate.h"
#include "formats/formats.h"
#include "formats/fr_writer.h"
#include "formats/gguf.h"
#include "formats/layout.h"
#include "formats/lora.h"
#include "formats/safetensors.h"
#include "models/model.h"
#include "text/gguf_vocabulary.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

struct Container {
  std::string_view ending, name;
};
constexpr std::array containers{Container{".safetensors", "safetensors"}, Container{".st", "safetensors"},
                                Container{".gguf", "gguf"}, Container{".fr", "fr"}};

struct Word {
  std::string_view word;
  DType dtype;
};
// The words of strategies and of llama.cpp too.
constexpr std::array words{Word{"int8", DType::q8_0}, Word{"int4", DType::q4_k}, Word{"q4_k_m", DType::q4_k},
                           Word{"fp32", DType::f32},  Word{"f32", DType::f32},   Word{"fp16", DType::f16},
                           Word{"f16", DType::f16},   Word{"bf16", DType::bf16}, Word{"q8_0", DType::q8_0},
                           Word{"q4_0", DType::q4_0}, Word{"q4_k", DType::q4_k}};

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c); });
  return text;
}

Result<std::string> container_of(const std::string& out) {
  const std::string name = lower(fs::path(out).extension().string());
  const auto found = std::find_if(containers.begin(), containers.end(),
                                  [&](const Container& c) { return c.ending == name; });
  if (found == containers.end()) {
    return usage_error("unknown ending of the output (" + out + "): name it .safetensors, .gguf or .fr");
  }
  return std::string(found->name);
}

Result<std::optional<DType>> dtype_of(const ConvertOptions& options, const std::string& container) {
  if (options.dtype.empty()) return std::optional<DType>{};
  const std::string word = lower(options.dtype);
  const auto found = std::find_if(words.begin(), words.end(), [&](const Word& w) { return w.word == word; });
  if (found == words.end()) {
    return usage_error("unknown number format '" + options.dtype +
                       "' (--dtype): use fp32, fp16, bf16, and for GGUF q8_0, q4_0, q4_k");
  }
  if (is_block_dtype(found->dtype) && container != "gguf") {
    return usage_error(std::string(found->word) + " is stored in GGUF only (" + options.out +
                       "): name the output .gguf, or choose fp32, fp16 or bf16");
  }
  return std::optional<DType>(found->dtype);
}

// FILE[:ALPHA]
Status add_adapter(Checkpoint& model, const std::string& text, std::vector<std::string>& notes) {
  std::string path = text;
  std::optional<double> alpha;
  if (const std::size_t colon = text.rfind(':'); colon != text.npos && colon + 1 < text.size()) {
    const std::string number = text.substr(colon + 1);
    char* end = nullptr;
    const double value = std::strtod(number.c_str(), &end);
    if (*end == '\0') {
      alpha = value;
      path = text.substr(0, colon);
    }
  }
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) path = (fs::path(path) / "adapter_model.safetensors").string();
  FR_TRY(const LoraReport report, add_lora(model, path, alpha));
  std::string note = "adapter merged into " + std::to_string(report.merged) + " matrices (rank " +
                     std::to_string(report.rank) + ", alpha " + std::to_string(report.alpha);
  note.erase(note.find_last_not_of('0') + 1);
  if (note.back() == '.') note.pop_back();
  note += ")";
  if (report.replaced > 0) note += ", " + std::to_string(report.replaced) + " tensors replaced";
  notes.push_back(std::move(note));
  return {};
}

// The tensors of a tuned initial state become tensors of the model.
Status embed_state(Checkpoint& model, const std::string& path, const std::string& container) {
  if (container != "safetensors") {
    return usage_error("a ." + container + " file cannot hold an initial state (" + path +
                       "): convert to .safetensors, or give the state when the model runs");
  }
  FR_TRY(const Checkpoint state, open_checkpoint(path));
  FR_TRY(const auto version, make_model(model));
  FR_TRY(const auto values, tuned_state(state, version->info(), version->state()));
  if (values.empty()) {
    return file_error("the file holds no tuned initial state (" + path +
                      "): give one with blocks.N.att.time_state, not a saved state");
  }
  std::erase_if(model.tensors, [](const TensorView& t) { return t.name.ends_with(".att.time_state"); });
  for (const TensorView& t : state.tensors) {
    if (t.name.ends_with(".att.time_state")) model.tensors.push_back(t);
  }
  model.files.insert(model.files.end(), state.files.begin(), state.files.end());
  model.index();
  return {};
}

// The number format of one tensor in a file of plain numbers.
DType plain_dtype(const Checkpoint& model, const TensorView& t, std::optional<DType> asked) {
  const bool decay = t.processed && t.name != "emb.weight";  // exp(-exp(x)) close to 1 needs its digits
  if (!t.readable() || (decay && is_float_dtype(t.dtype))) return t.dtype;
  if (asked) return *asked;
  const DType restored = restored_dtype(model, t);
  return is_float_dtype(restored) && !t.scales ? restored : DType::f16;
}

Result<WriteReport> write_plain(const Checkpoint& model, std::optional<DType> dtype,
                                const ConvertOptions& options) {
  std::vector<StoredTensor> tensors;
  WriteReport report;
  bool expanded = false;
  for (const TensorView& t : model.tensors) {
    const DType stored = plain_dtype(model, t, dtype);
    tensors.push_back({t, stored});
    report.add(stored, stored_bytes(t, stored));
    expanded = expanded || is_block_dtype(t.dtype) || t.scales;
  }
  // The same weights give the same file, whatever they came from.
  std::sort(tensors.begin(), tensors.end(),
            [](const StoredTensor& a, const StoredTensor& b) { return a.view.name < b.view.name; });
  if (expanded && !dtype)
    report.notes.push_back("quantised matrices were expanded to fp16 (--dtype fp32 keeps every digit)");
  std::map<std::string, std::string> metadata = converted_metadata(model);
  if (!metadata.empty())
    report.notes.push_back(
        "some numbers stay as a converter has processed them, marked in the metadata: only faster-rwkv "
        "reads this file rightly");
  if (options.dry_run) return report;
  metadata["format"] = "pt";  // readers in Python want to know whose tensors these are
  FR_OK(write_safetensors(options.out, tensors, metadata, model, options.progress));
  return report;
}

Result<WriteReport> write_gguf_file(const Checkpoint& model, const ModelInfo& info,
                                    std::optional<DType> dtype, const ConvertOptions& options) {
  GgufOptions gguf;
  gguf.dtype = dtype;
  const auto named = model.metadata.find("general.name");
  gguf.model_name = named != model.metadata.end() ? named->second : fs::path(options.in).stem().string();
  gguf.dry_run = options.dry_run;
  gguf.progress = options.progress;
  FR_TRY(const auto tokenizer, find_tokenizer(options.vocab, model, info.n_vocab));
  if (tokenizer) gguf.tokens = gguf_tokens(*tokenizer, static_cast<std::size_t>(info.n_vocab)).tokens;
  return write_gguf(options.out, model, gguf);
}

Result<WriteReport> write_output(const Checkpoint& model, const ModelInfo& info, const std::string& container,
                                 std::optional<DType> dtype, const ConvertOptions& options) {
  if (container == "gguf") return write_gguf_file(model, info, dtype, options);
  if (container == "fr") return write_fr(options.out, model, {dtype, options.dry_run, options.progress});
  return write_plain(model, dtype, options);
}

// A few ids from all over the vocabulary, always the same.
std::vector<std::int32_t> sample_tokens(int n_vocab) {
  constexpr int count = 24;
  std::vector<std::int32_t> tokens;
  std::uint64_t x = 0x9e3779b97f4a7c15u;
  for (int i = 0; i < count; ++i) {
    x = x * 6364136223846793005u + 1442695040888963407u;
    tokens.push_back(static_cast<std::int32_t>((x >> 33) % static_cast<std::uint64_t>(n_vocab)));
  }
  return tokens;
}

Result<LogitDifference> compare_files(const Checkpoint& in, const Checkpoint& out, int n_vocab,
                                      const ConvertOptions& options) {
  const std::vector<std::int32_t> tokens = sample_tokens(n_vocab);
  FR_TRY(const auto expected, layerwise_logits(in, tokens, options.threads, options.progress));
  FR_TRY(const auto found, layerwise_logits(out, tokens, options.threads, options.progress));
  return compare_logits(found, expected, static_cast<std::size_t>(n_vocab));
}

// Nothing that is read may be written over: it is mapped, or the user's only copy.
Status check_output(const ConvertOptions& options, const Checkpoint& model) {
  std::error_code ignored;
  if (fs::is_directory(options.out, ignored)) {
    return usage_error("the output is a directory (" + options.out + "): name a file");
  }
  std::vector<std::string> inputs{options.in, options.vocab};
  for (const auto& file : model.files) inputs.push_back(file->path());
  for (const std::string& in : inputs) {
    if (!in.empty() && fs::equivalent(in, options.out, ignored)) {
      return usage_error("the output is one of the inputs (" + options.out + "): name another output");
    }
  }
  return {};
}

}  // namespace

Result<ConvertReport> convert(const ConvertOptions& options) {
  FR_TRY(const std::string container, container_of(options.out));
  FR_TRY(const auto dtype, dtype_of(options, container));
  FR_OK(refuse_exported(options.in));
  FR_TRY(Checkpoint model, open_checkpoint(options.in, options.progress));
  ConvertReport report;
  report.in_format = model.format;
  report.in_layout = model.layout;
  report.out_format = container;
  report.in_bytes = model.file_size();
  report.notes = model.notes;
  if (!options.lora.empty()) FR_OK(add_adapter(model, options.lora, report.notes));
  if (!options.state.empty()) FR_OK(embed_state(model, options.state, container));
  FR_OK(check_output(options, model));
  FR_TRY(const auto version, make_model(model));
  const ModelInfo info = version->info();
  report.version = info.version;

  FR_TRY(WriteReport output, write_output(model, info, container, dtype, options));
  report.dtypes = std::move(output.dtypes);
  report.out_bytes = output.bytes;
  report.notes.insert(report.notes.end(), output.notes.begin(), output.notes.end());
  if (container != "gguf") {
    if (std::string note = copy_vocabulary(options.in, options.out, options.dry_run); !note.empty())
      report.notes.push_back(std::move(note));
  }
  if (options.dry_run) return report;
  FR_TRY(const Checkpoint written, open_checkpoint(options.out));
  report.out_bytes = written.file_size();
  if (options.check) {
    FR_TRY(report.difference, compare_files(model, written, info.n_vocab, options));
  }
  return report;
}

}  // namespace fr
