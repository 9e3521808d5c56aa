#include "engine/state_file.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <charconv>
#include <cmath>
#include <cstdio>

#include "engine/engine.h"
#include "formats/formats.h"
#include "formats/safetensors.h"

namespace fr {
namespace {

// Layouts are named so that a later change of one version's layout is seen, not misread.
constexpr const char* layout_name = "canonical-1";

std::string checksum_of(std::span<const float> values) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx",
                static_cast<unsigned long long>(XXH3_64bits(values.data(), values.size_bytes())));
  return text;
}

std::string metadata_value(const Checkpoint& file, const std::string& key) {
  const auto it = file.metadata.find(key);
  return it == file.metadata.end() ? std::string{} : it->second;
}

Error refuse(const std::string& path, const std::string& what, const std::string& advice) {
  return file_error(what + " (" + path + "): " + advice);
}

Status check_identity(const Checkpoint& file, const Engine& engine) {
  const std::string version = metadata_value(file, "rwkv.version"),
                    layout = metadata_value(file, "rwkv.layout");
  if (version != engine.info().version) {
    return refuse(file.path,
                  "the state is of an RWKV " + version + " model, this one is RWKV " + engine.info().version,
                  "load it with the model that made it");
  }
  if (layout != layout_name)
    return refuse(file.path, "unknown state layout \"" + layout + "\"",
                  "it needs a newer version of this program");
  if (metadata_value(file, "rwkv.fingerprint") != engine.fingerprint()) {
    return refuse(file.path, "the state belongs to another model", "load it with the model that made it");
  }
  return {};
}

Status check_finite(const Checkpoint& file, std::span<const float> values) {
  for (const float v : values) {
    if (!std::isfinite(v)) return refuse(file.path, "the state holds NaN or infinity", "save it again");
  }
  return {};
}

Status check_values(const Checkpoint& file, std::span<const float> values) {
  if (metadata_value(file, "rwkv.checksum") != checksum_of(values)) {
    return refuse(file.path, "the state is damaged: its checksum does not fit", "save it again");
  }
  return check_finite(file, values);
}

// A state that faster-rwkv saved. It does not say of which model, but has its blocks in this order and these
// layouts.
Result<StateFile> faster_rwkv_state(const Checkpoint& file, const Engine& engine) {
  const StateSpec& spec = engine.state_spec();
  StateFile out;
  out.values.resize(static_cast<std::size_t>(spec.size));
  for (const StateBlock& block : spec.blocks) {
    const TensorView* t = file.find(block.name);
    const bool fits = t != nullptr && is_float_dtype(t->dtype) && file.tensors.size() == spec.blocks.size() &&
                      std::equal(t->shape.begin(), t->shape.end(), block.shape.begin(), block.shape.end());
    if (!fits) {
      return refuse(file.path, "the state of faster-rwkv is not of a model like this one",
                    "load it with the model that made it");
    }
    t->read(0, std::span(out.values)
                   .subspan(static_cast<std::size_t>(block.offset), static_cast<std::size_t>(block.size)));
  }
  FR_OK(check_finite(file, out.values));
  return out;
}

}  // namespace

Status write_state_file(const std::string& path, const Engine& engine, std::span<const float> values,
                        std::uint64_t tokens_seen, const std::map<std::string, std::string>& extra) {
  std::vector<TensorView> tensors;
  for (const StateBlock& block : engine.state_spec().blocks) {
    TensorView t{
        block.name, DType::f32, {}, {}, reinterpret_cast<const std::byte*>(values.data() + block.offset)};
    t.shape.assign(block.shape.begin(), block.shape.end());
    t.stride.resize(t.shape.size());
    std::int64_t stride = 1;
    for (std::size_t d = t.shape.size(); d-- > 0; stride *= t.shape[d]) t.stride[d] = stride;
    tensors.push_back(std::move(t));
  }
  std::map<std::string, std::string> metadata = extra;
  metadata["rwkv.version"] = engine.info().version;
  metadata["rwkv.layout"] = layout_name;
  metadata["rwkv.fingerprint"] = engine.fingerprint();
  metadata["rwkv.tokens_seen"] = std::to_string(tokens_seen);
  metadata["rwkv.checksum"] = checksum_of(values);
  return write_safetensors(path, tensors, metadata);
}

Result<StateFile> read_state_file(const std::string& path, const Engine& engine) {
  FR_TRY(const Checkpoint file, open_checkpoint(path));
  return to_state(file, engine);
}

Result<StateFile> to_state(const Checkpoint& file, const Engine& engine) {
  const std::string& path = file.path;
  StateFile out;
  if (file.format == "fr" && file.find("emb.weight") == nullptr) return faster_rwkv_state(file, engine);
  if (!file.metadata.contains("rwkv.version")) {
    FR_TRY(out.values, tuned_state(file, engine.info(), engine.state_spec()));
    if (out.values.empty()) {
      return refuse(path, "neither a saved state nor a tuned one",
                    "it has no rwkv.version and no blocks.N.att.time_state");
    }
    return out;
  }
  FR_OK(check_identity(file, engine));
  const StateSpec& spec = engine.state_spec();
  out.values.resize(static_cast<std::size_t>(spec.size));
  for (const StateBlock& block : spec.blocks) {
    const TensorView* t = file.find(block.name);
    if (t == nullptr) return refuse(path, "tensor " + block.name + " is missing", "save the state again");
    if (t->dtype != DType::f32 ||
        !std::equal(t->shape.begin(), t->shape.end(), block.shape.begin(), block.shape.end())) {
      return refuse(path,
                    "tensor " + block.name + " has shape " + t->shape_string() + " " +
                        std::string(dtype_name(t->dtype)),
                    "save the state again");
    }
    t->read(0, std::span(out.values)
                   .subspan(static_cast<std::size_t>(block.offset), static_cast<std::size_t>(block.size)));
  }
  if (file.tensors.size() != spec.blocks.size()) {
    return refuse(path,
                  "it has " + std::to_string(file.tensors.size()) + " tensors, a state of this model has " +
                      std::to_string(spec.blocks.size()),
                  "save the state again");
  }
  FR_OK(check_values(file, out.values));
  const std::string seen = metadata_value(file, "rwkv.tokens_seen");
  if (std::from_chars(seen.data(), seen.data() + seen.size(), out.tokens_seen).ec != std::errc{}) {
    return refuse(path, "rwkv.tokens_seen is \"" + seen + "\"", "save the state again");
  }
  for (const auto& [key, value] : file.metadata) {
    if (!key.starts_with("rwkv.")) out.metadata[key] = value;
  }
  return out;
}

Status save_state(const State& state, const std::string& path) {
  return write_state_file(path, *state.engine(), state.values(), state.tokens_seen());
}

Status load_state(State& state, const std::string& path) {
  FR_TRY(const StateFile file, read_state_file(path, *state.engine()));
  state.set_values(file.values, file.tokens_seen);
  return {};
}

}  // namespace fr
