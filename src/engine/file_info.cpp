#include "engine/file_info.h"

#include <map>
#include <nlohmann/json.hpp>

#include "engine/fingerprint.h"
#include "engine/locate.h"
#include "formats/formats.h"
#include "models/model.h"
#include "text/chat_template.h"

namespace fr {
namespace {

using Json = nlohmann::ordered_json;

void add_model(Json& out, const Checkpoint& file, const Model& model) {
  const ModelInfo& info = model.info();
  out["kind"] = "model";
  out["version"] = info.version;
  out["n_layer"] = info.n_layer;
  out["n_embd"] = info.n_embd;
  out["n_vocab"] = info.n_vocab;
  out["n_ffn"] = info.n_ffn;
  if (info.n_head > 0) {
    out["n_head"] = info.n_head;
    out["head_size"] = info.head_size;
  }
  for (const auto& [name, rank] : info.lora_ranks) out["lora_ranks"][name] = rank;
  out["state_size"] = model.state().size;
  out["state_bytes"] = model.state().size * std::int64_t{4};
  out["fingerprint"] = model_fingerprint(file);
  const auto tokenizer = find_tokenizer("", file.path, info.n_vocab);
  if (tokenizer.ok() && *tokenizer) {
    out["tokenizer"] = (*tokenizer)->name();
  } else {
    out["tokenizer"] = nullptr;
  }
  const TemplateGuess guess = guess_chat_template(file.path, info.n_vocab, info.version[0] - '0');
  out["template"] = guess.chat->name;
  out["template_reason"] = guess.reason;
}

std::string kind_without_model(const Checkpoint& file) {
  if (file.metadata.contains("rwkv.fingerprint")) return "state";
  for (const TensorView& t : file.tensors) {
    if (!t.name.ends_with(".att.time_state")) return "";
  }
  return file.tensors.empty() ? "" : "tuned state";
}

void add_tensors(Json& out, const Checkpoint& file) {
  std::map<std::string, std::int64_t> dtypes;
  std::int64_t parameters = 0;
  Json tensors = Json::array();
  for (const TensorView& t : file.tensors) {
    ++dtypes[std::string(dtype_name(t.dtype))];
    parameters += t.size();
    tensors.push_back({{"name", t.name}, {"dtype", dtype_name(t.dtype)}, {"shape", t.shape}});
  }
  out["n_parameters"] = parameters;
  out["dtypes"] = dtypes;
  if (!file.metadata.empty()) out["metadata"] = file.metadata;
  out["tensors"] = std::move(tensors);
}

}  // namespace

Result<std::string> file_info_json(const std::string& path, bool verify) {
  FR_TRY(const Checkpoint file, open_checkpoint(path));
  Json out;
  out["path"] = path;
  out["format"] = file.format;
  out["file_size"] = file.file->bytes().size();
  Json notes = file.notes;
  const std::string other = kind_without_model(file);
  if (other.empty()) {
    FR_TRY(const auto model, make_model(file));
    add_model(out, file, *model);
    for (const std::string& note : model->info().notes) notes.push_back(note);
  } else {
    out["kind"] = other;
  }
  out["notes"] = std::move(notes);
  if (verify) {
    FR_TRY(const bool compared, verify_checkpoint(file));
    out["verified"] = compared;
  }
  add_tensors(out, file);
  return out.dump(2, ' ', false, Json::error_handler_t::replace);
}

}  // namespace fr
