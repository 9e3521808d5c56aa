// frwkv convert: model files from one format to another.
#include "tools_core/convert.h"

#include <cinttypes>
#include <nlohmann/json.hpp>

#include "commands.h"
#include "common/interrupt.h"
#include "common/words.h"
#include "hub_model.h"
#include "options.h"

namespace fr::app {
namespace {

using Json = nlohmann::ordered_json;

Json describe(const ConvertReport& r, const ConvertOptions& o) {
  Json out{{"input", o.in},
           {"input_format", r.in_format},
           {"input_layout", r.in_layout},
           {"input_bytes", r.in_bytes},
           {"output", o.out},
           {"output_format", r.out_format},
           {"output_bytes", r.out_bytes},
           {"version", r.version},
           {"dtypes", r.dtypes},
           {"notes", r.notes},
           {"written", !o.dry_run}};
  if (r.difference) {
    out["check"] = {{"tokens", r.difference->positions},
                    {"max_abs", r.difference->max_abs},
                    {"relative_l2", r.difference->relative_l2},
                    {"argmax_agreement", r.difference->argmax_agreement}};
  }
  return out;
}

void print_text(const ConvertReport& r, const ConvertOptions& o) {
  std::printf("%s: RWKV-%s, %s in the %s layout, %s\n", printable(o.in).c_str(), r.version.c_str(),
              r.in_format.c_str(), r.in_layout.c_str(), bytes(r.in_bytes).c_str());
  std::string dtypes;
  for (const auto& [name, count] : r.dtypes)
    dtypes += (dtypes.empty() ? "" : ", ") + name + " " + std::to_string(count);
  std::printf("%s%s: %s, %s; tensors: %s\n", o.dry_run ? "would write about this: " : "",
              printable(o.out).c_str(), r.out_format.c_str(), bytes(r.out_bytes).c_str(), dtypes.c_str());
  for (const std::string& note : r.notes) std::printf("note: %s\n", printable(note).c_str());
  if (r.difference) {
    std::printf(
        "check: logits after %zu tokens differ by at most %.2g, relative L2 %.2g; best token equal in %.0f "
        "%%\n",
        r.difference->positions, r.difference->max_abs, r.difference->relative_l2,
        r.difference->argmax_agreement * 100);
  }
}

}  // namespace

int run_convert(int argc, char** argv) {
  CLI::App app(
      "Convert a model file of any readable format to .safetensors (official names), .gguf (RWKV-6 and 7,\n"
      "for llama.cpp) or .fr (RWKV-4 and 5). Afterwards both files run on the same tokens.",
      "convert");
  ConvertOptions options;
  bool json = false, no_check = false, offline = false;
  app.add_option("IN", options.in, "the model: .pth .safetensors .st .gguf .fr .bin or a Hugging Face folder")
      ->required();
  app.add_option("OUT", options.out, "the new file; its ending says the format")->required();
  app.add_option("--dtype", options.dtype,
                 "of the matrices: fp32 fp16 bf16, for GGUF also q8_0 q4_0 q4_k; as in IN when left out")
      ->type_name("D");
  app.add_option("--lora", options.lora, "merge this adapter; ALPHA as in its training")
      ->type_name("FILE[:ALPHA]");
  app.add_option("--vocab", options.vocab, "vocabulary to put into a GGUF file, if it is not found by itself")
      ->type_name("FILE");
  app.add_option("--state", options.state, "embed this tuned initial state")->type_name("FILE");
  app.add_option("-t,--threads", options.threads, "for the check; 0: one per core")->type_name("N");
  app.add_flag("--dry-run", options.dry_run, "only say what would be written");
  app.add_flag("--no-check", no_check, "do not run the two files");
  app.add_flag("--offline", offline, "hf: models from the cache only");
  app.add_flag("--json", json, "the report as one JSON object");
  if (!parse(app, argc, argv)) return FR_OK;
  if (options.threads < 0 || options.threads > 1024)
    usage(std::to_string(options.threads) + " threads (--threads): use 1 to 1024, or 0 for one per core");
  options.in = model_path(options.in, offline);
  options.check = !no_check;
  ProgressBar bar;
  options.progress = [&bar](std::string_view step, std::uint64_t done, std::uint64_t total) {
    bar.show(step, done, total, step != "checking");
    return !interrupted();
  };
  const ConvertReport report = checked(fr::convert(options));
  bar.clear();
  if (json)
    std::puts(describe(report, options).dump(2, ' ', false, Json::error_handler_t::replace).c_str());
  else
    print_text(report, options);
  return FR_OK;
}

}  // namespace fr::app
