#include "engine/file_info.h"

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "backends/backend.h"
#include "core/storage.h"
#include "engine/fingerprint.h"
#include "engine/locate.h"
#include "formats/formats.h"
#include "models/model.h"
#include "text/chat_template.h"

namespace fr {
namespace {

using Json = nlohmann::ordered_json;

void add_sizes(Json& out, const ModelInfo& info, const StateSpec& state) {
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
  out["state_size"] = state.size;
  out["state_bytes"] = state.size * std::int64_t{4};
}

// How text becomes tokens, as far as the file and what lies beside it tell.
void add_text(Json& out, const Checkpoint& file, const ModelInfo& info) {
  const auto tokenizer = find_tokenizer("", file, info.n_vocab);
  if (tokenizer.ok() && *tokenizer) {
    out["tokenizer"] = (*tokenizer)->name();
  } else {
    out["tokenizer"] = nullptr;
  }
  const TemplateGuess guess = guess_chat_template(file.path, info.n_vocab, info.version[0] - '0');
  out["template"] = guess.chat->name;
  out["template_reason"] = guess.reason;
}

void add_model(Json& out, const Checkpoint& file, const Model& model) {
  add_sizes(out, model.info(), model.state());
  out["fingerprint"] = model_fingerprint(file);
  add_text(out, file, model.info());
}

// A graph of another runtime: its runner tells what it is.
Result<std::string> exported_info_json(std::string_view kind, const std::string& path, bool verify) {
  const GraphRunner* runner = find_runner(kind);
  if (runner == nullptr) return missing_runner(kind, path);
  FR_TRY(const Exported model, runner->open(path, {}));
  Json out;
  out["path"] = path;
  out["format"] = model.format;
  std::uint64_t bytes = 0;
  for (const auto& file : model.files) {
    out["files"].push_back(file->path());
    bytes += file->bytes().size();
  }
  out["file_size"] = bytes;
  add_sizes(out, model.info, model.state);
  out["fingerprint"] = model.fingerprint;
  Checkpoint no_tensors;
  no_tensors.path = model.path;
  add_text(out, no_tensors, model.info);
  out["notes"] = model.info.notes;
  if (verify) out["verified"] = false;  // these files have no checksums
  out["n_parameters"] = model.n_parameters;
  out["dtype"] = storage_name(model.dtype);
  return out.dump(2, ' ', false, Json::error_handler_t::replace);
}

std::string kind_without_model(const Checkpoint& file) {
  if (file.metadata.contains("rwkv.fingerprint")) return "state";
  for (const TensorView& t : file.tensors) {
    if (!t.name.ends_with(".att.time_state")) return "";
  }
  return file.tensors.empty() ? "" : "tuned state";
}

// What the tensors of one number format add up to.
struct Share {
  std::int64_t tensors = 0, parameters = 0;
  std::uint64_t bytes = 0;
};

void add_tensors(Json& out, const Checkpoint& file) {
  std::map<std::string, Share> shares;
  std::set<const std::byte*> seen;  // a head that is the embedding counts once
  std::int64_t parameters = 0;
  Json tensors = Json::array();
  for (const TensorView& t : file.tensors) {
    tensors.push_back({{"name", t.name}, {"dtype", dtype_name(t.dtype)}, {"shape", t.shape}});
    if (t.size() > 0 && !seen.insert(t.data).second) continue;
    Share& share = shares[std::string(dtype_name(t.dtype))];
    ++share.tensors;
    share.parameters += t.size();
    share.bytes += static_cast<std::uint64_t>(t.size() / block_size(t.dtype)) * dtype_size(t.dtype);
    parameters += t.size();
  }
  out["n_parameters"] = parameters;
  for (const auto& [dtype, share] : shares) {
    out["dtypes"][dtype] = share.tensors;
    out["dtype_table"].push_back({{"dtype", dtype},
                                  {"tensors", share.tensors},
                                  {"parameters", share.parameters},
                                  {"bytes", share.bytes}});
  }
  out["tensors"] = std::move(tensors);
}

// Where the tensors come from and what another program has made of them.
void add_source(Json& out, const Checkpoint& file) {
  out["format"] = file.format;
  out["layout"] = file.layout;
  out["file_size"] = file.file_size();
  if (file.files.size() > 1) {
    for (const auto& part : file.files) out["files"].push_back(part->path());
  }
  if (file.rescale_every > 0) out["rescale_every"] = file.rescale_every;
  std::set<std::string> processed;
  for (const TensorView& t : file.tensors) {
    if (t.processed)
      processed.insert(t.name.starts_with("blocks.") ? t.name.substr(t.name.find('.', 7) + 1) : t.name);
  }
  if (!processed.empty()) out["processed"] = processed;
}

// What config.json said stands apart from what the weight files say of themselves.
void add_metadata(Json& out, const Checkpoint& file) {
  constexpr std::string_view config = "config.";
  for (const auto& [key, value] : file.metadata) {
    const bool from_config = key.starts_with(config);
    out[from_config ? "config" : "metadata"][from_config ? key.substr(config.size()) : key] = value;
  }
}

}  // namespace

Result<std::string> file_info_json(const std::string& path, bool verify) {
  if (const std::string_view kind = exported_kind(path); !kind.empty())
    return exported_info_json(kind, path, verify);
  FR_TRY(const Checkpoint file, open_checkpoint(path));
  Json out;
  out["path"] = path;
  add_source(out, file);
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
  add_metadata(out, file);
  add_tensors(out, file);
  return out.dump(2, ' ', false, Json::error_handler_t::replace);
}

}  // namespace fr
