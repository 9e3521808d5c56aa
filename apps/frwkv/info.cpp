// frwkv info: what a model or state file is, for people or as JSON.
#include <nlohmann/json.hpp>

#include "commands.h"
#include "common/words.h"
#include "hub_model.h"
#include "options.h"

namespace fr::app {
namespace {

using Json = nlohmann::ordered_json;

void line(const char* label, const std::string& text) {
  if (!text.empty()) std::printf("%-12s%s\n", label, printable(text).c_str());
}

std::string text_of(const Json& value) { return value.is_string() ? value.get<std::string>() : value.dump(); }

// "name 12, other 34" of an object.
std::string pairs(const Json& object) {
  std::string out;
  for (const auto& [key, value] : object.items())
    out += (out.empty() ? "" : ", ") + key + " " + text_of(value);
  return out;
}

std::string joined(const Json& list) {
  std::string out;
  for (const Json& value : list) out += (out.empty() ? "" : ", ") + text_of(value);
  return out;
}

// "safetensors in the layout of fla, 3 files"
std::string source(const Json& j) {
  const std::string format = j.value("format", ""), layout = j.value("layout", "official");
  std::string out = format;
  if (layout != "official" && layout != format) out += " in the layout of " + layout;
  if (j.contains("files")) out += ", " + std::to_string(j["files"].size()) + " files";
  return out;
}

// ": fp16 30 (1.2 MB), fp32 48 (12 KB)"
std::string number_formats(const Json& j) {
  std::string out;
  if (!j.contains("dtype_table")) return out;
  for (const Json& share : j["dtype_table"]) {
    out += (out.empty() ? ": " : ", ") + text_of(share["dtype"]) + " " + text_of(share["tensors"]) + " (" +
           bytes(share["bytes"].get<std::uint64_t>()) + ")";
  }
  return out;
}

void print_model(const Json& j) {
  const auto number = [&](const char* key) { return j.value(key, std::int64_t{0}); };
  line("version", "RWKV-" + j.value("version", ""));
  line("parameters", count(static_cast<double>(number("n_parameters"))) + " (" +
                         std::to_string(number("n_parameters")) + ")");
  std::string sizes = std::to_string(number("n_layer")) + " layers, embedding " +
                      std::to_string(number("n_embd")) + ", channel mix " + std::to_string(number("n_ffn")) +
                      ", vocabulary " + std::to_string(number("n_vocab"));
  if (number("n_head") > 0)
    sizes += ", " + std::to_string(number("n_head")) + (number("n_head") == 1 ? " head of " : " heads of ") +
             std::to_string(number("head_size"));
  line("sizes", sizes);
  if (j.contains("lora_ranks")) line("LoRA ranks", pairs(j["lora_ranks"]));
  line("state", bytes(static_cast<std::uint64_t>(number("state_bytes"))) + " (" +
                    std::to_string(number("state_size")) + " floats)");
  line("tokenizer", j.contains("tokenizer") && j["tokenizer"].is_string() ? text_of(j["tokenizer"])
                                                                          : "unknown: give --vocab");
  const std::string reason = j.value("template_reason", "");
  line("template", j.value("template", "") + (reason.empty() ? "" : " (" + reason + ")"));
}

void print_text(const Json& j) {
  line("file", j.value("path", ""));
  line("format", source(j) + ", " + bytes(j.value("file_size", std::uint64_t{0})));
  if (j.value("kind", "") == "model")
    print_model(j);
  else
    line("kind", j.value("kind", ""));
  if (j.contains("tensors")) {
    line("tensors", std::to_string(j["tensors"].size()) + number_formats(j));
  }
  if (j.contains("dtype")) line("weights", text_of(j["dtype"]));
  if (j.contains("processed")) line("processed", joined(j["processed"]) + ": the values are the converter's");
  if (j.contains("rescale_every")) {
    line("rescaled", "the residual stream is halved after every " + text_of(j["rescale_every"]) + " layers");
  }
  line("fingerprint", j.value("fingerprint", ""));
  if (j.contains("config")) line("config", pairs(j["config"]));
  if (j.contains("metadata")) line("metadata", pairs(j["metadata"]));
  if (j.contains("verified")) line("checksums", j["verified"] ? "right" : "none in this format");
  if (j.contains("notes")) {
    for (const Json& note : j["notes"]) line("note", text_of(note));
  }
}

}  // namespace

int run_info(int argc, char** argv) {
  CLI::App app("What a model or state file is. Reads names and shapes, not the weights.", "info");
  ModelOptions model;
  bool json = false, verify = false;
  add_model_options(app, model);
  app.add_flag("--json", json, "everything, with the list of tensors");
  app.add_flag("--verify", verify, "also read the whole file and check the checksums it stores");
  if (!parse(app, argc, argv)) return FR_OK;
  const std::string text = faster_rwkv::file_info_json(model_path(model.model, model.offline), verify);
  if (json)
    std::puts(text.c_str());
  else
    print_text(Json::parse(text));
  return FR_OK;
}

}  // namespace fr::app
