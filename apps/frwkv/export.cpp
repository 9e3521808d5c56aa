// frwkv export ncnn IN PREFIX, frwkv export onnx IN OUT: models as graphs of other runtimes.
#include <nlohmann/json.hpp>

#include "commands.h"
#include "common/terminal.h"
#include "common/words.h"
#include "hub_model.h"
#include "options.h"

namespace fr::app {
namespace {

struct Arguments {
  std::string in, out, dtype;
  fr_export_options options = fr_export_options_default();
  bool json = false, offline = false;
};

// What both targets take.
CLI::App* add_target(CLI::App& app, Arguments& a, const char* name, const char* summary, const char* out_name,
                     const char* out_help, const char* dtypes) {
  CLI::App* target = app.add_subcommand(name, summary);
  target->add_option("IN", a.in, "the model: a file, a Hugging Face folder, hf:REPO:FILE")->required();
  target->add_option(out_name, a.out, out_help)->required();
  target->add_option("--dtype", a.dtype, dtypes)->type_name("D");
  target->add_flag("--offline", a.offline, "hf: models from the cache only");
  target->add_flag("--json", a.json, "the report as one JSON object");
  return target;
}

void print_text(const nlohmann::json& report) {
  for (const auto& file : report["files"]) std::printf("%s\n", printable(file.get<std::string>()).c_str());
  std::printf("%s\n", bytes(report["bytes"].get<std::uint64_t>()).c_str());
  for (const auto& note : report["notes"])
    std::printf("note: %s\n", printable(note.get<std::string>()).c_str());
}

}  // namespace

int run_export(int argc, char** argv) {
  CLI::App app("Write a model as a graph that another runtime executes.", "export");
  Arguments a;
  app.require_subcommand(1);
  CLI::App* ncnn = add_target(app, a, "ncnn", "for ncnn: phones and small machines", "PREFIX",
                              "PREFIX.param, PREFIX.seq.param, PREFIX.bin and PREFIX.config are written",
                              "of the matrices: fp16 (the default) fp32 int8 int4");
  ncnn->add_option("--chunk", a.options.chunk, "tokens of the sequence graph; -1: none (default 16)")
      ->type_name("N");
  add_target(app, a, "onnx", "for onnxruntime and other ONNX runtimes", "OUT", "the new file, NAME.onnx",
             "of the matrices: fp32 (the default) fp16");
  if (!parse(app, argc, argv)) return FR_OK;
  const std::string in = model_path(a.in, a.offline);
  ProgressBar bar;
  if (!a.dtype.empty()) a.options.dtype = a.dtype.c_str();
  a.options.progress = &ProgressBar::callback;
  a.options.user = &bar;
  const std::string report =
      faster_rwkv::export_model(app.get_subcommands().front()->get_name().c_str(), in, a.out, a.options);
  bar.clear();
  if (a.json)
    std::puts(report.c_str());
  else
    print_text(nlohmann::json::parse(report));
  return FR_OK;
}

}  // namespace fr::app
