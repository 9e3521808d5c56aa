// frwkv doctor: what this machine offers and what stands in the way, for people or as JSON.
#include "tools_core/doctor.h"

#include <nlohmann/json.hpp>

#include "commands.h"
#include "common/words.h"
#include "hub_model.h"
#include "options.h"

namespace fr::app {
namespace {

using Json = nlohmann::ordered_json;

void line(const char* label, const std::string& text) {
  std::printf("%-13s%s\n", label, printable(text).c_str());
}

std::string size_of(const Json& n) { return n.is_null() ? "unknown" : bytes(n.get<std::uint64_t>()); }
std::string text_of(const Json& text, const char* missing) {
  return text.is_null() ? missing : text.get<std::string>();
}

std::string joined(const Json& words) {
  std::string out;
  for (const Json& word : words) out += (out.empty() ? "" : " ") + word.get<std::string>();
  return out;
}

void print_gpu(const Json& gpu) {
  if (gpu["driver"].is_null() && gpu["cuda"].is_null()) return line("GPU", "no NVIDIA driver");
  line("GPU driver", text_of(gpu["driver"], "unknown") + ", CUDA " + text_of(gpu["cuda"], "missing"));
  for (const Json& device : gpu["devices"])
    line("GPU", device["name"].get<std::string>() + ", " + size_of(device["memory"]));
}

void print_model(const Json& model) {
  line("model",
       model["path"].get<std::string>() + ", " + count(model["n_parameters"].get<double>()) + " parameters");
  for (const Json& w : model["weights"])
    line("", w["dtype"].get<std::string>() + ": " + size_of(w["bytes"]) + " of weights, " +
                 w["verdict"].get<std::string>());
}

void print_text(const Json& j) {
  line("frwkv", std::string(fr_version()) + ", " + j["build"].get<std::string>());
  const Json& cpu = j["cpu"];
  line("processor", cpu["model"].get<std::string>() + ", " + std::to_string(cpu["cores"].get<int>()) +
                        " cores for this process");
  line("instructions", joined(cpu["found"]));
  line("AMX", cpu["amx"].get<std::string>());
  for (const Json& backend : j["backends"]) line("backend", backend.get<std::string>());
  print_gpu(j["gpu"]);
  const Json& memory = j["memory"];
  line("memory",
       size_of(memory["available"]) + " free of " + size_of(memory["total"]) +
           (memory["limit"].is_null() ? "" : ", this process may have " + size_of(memory["limit"])));
  line("huge pages", j["huge_pages"].get<std::string>());
  line("downloads", j["cache"]["path"].get<std::string>() + ", " + size_of(j["cache"]["free"]) + " free");
  line("ships", text_of(j["shipped_model"], "missing"));
  if (j.contains("model")) print_model(j["model"]);
  for (const Json& advice : j["advice"]) line("advice", advice.get<std::string>());
  if (j["advice"].empty()) line("advice", "none: all is well");
}

}  // namespace

int run_doctor(int argc, char** argv) {
  CLI::App app(
      "What this machine offers, what this build uses of it, and whether a model fits into its memory.",
      "doctor");
  ModelOptions model;
  bool json = false;
  add_model_options(app, model);
  app.add_flag("--json", json, "one JSON object");
  if (!parse(app, argc, argv)) return FR_OK;
  const std::string text =
      checked(doctor_json({model_path(model.model, model.offline), hub_settings(true).cache}));
  Json report = Json::parse(text);
  if (json) {
    report["version"] = fr_version();
    std::puts(report.dump(2, ' ', false, Json::error_handler_t::replace).c_str());
  } else {
    print_text(report);
  }
  return FR_OK;
}

}  // namespace fr::app
