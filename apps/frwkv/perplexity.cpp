// frwkv perplexity: how well a model predicts a text, alone or beside another model.
#include "tools_core/perplexity.h"

#include <nlohmann/json.hpp>

#include "commands.h"
#include "common/files.h"
#include "common/interrupt.h"
#include "hub_model.h"
#include "options.h"

namespace fr::app {
namespace {

using Json = nlohmann::ordered_json;

struct Arguments {
  ModelOptions model;
  std::string file, other, other_strategy;
  std::size_t tokens = 0;
  int chunk = 0;
  bool json = false;
};

Json describe(const PerplexityReport& r, const Arguments& a) {
  Json out{{"model", r.model},
           {"strategy", r.strategy},
           {"file", a.file},
           {"tokens", r.tokens},
           {"bytes", r.bytes},
           {"documents", r.documents},
           {"nll_per_token", r.nll},
           {"nll_error", r.error},
           {"perplexity", r.perplexity()},
           {"byte_perplexity", r.byte_perplexity()},
           {"bits_per_byte", r.bits_per_byte()},
           {"seconds", r.seconds}};
  if (r.distance) {
    out["other"] = {{"perplexity", r.distance->perplexity},
                    {"perplexity_ratio", r.perplexity() / r.distance->perplexity},
                    {"kl", r.distance->kl},
                    {"top1_agreement", r.distance->top1_agreement}};
  }
  return out;
}

void print_text(const PerplexityReport& r) {
  const double p = r.perplexity();
  std::printf("perplexity %.4f +- %.4f per token, %.4f per byte (%.4f bits)\n", p, p * r.error,
              r.byte_perplexity(), r.bits_per_byte());
  std::printf("%zu tokens, %zu bytes, %zu documents in %.1f s (%.0f tokens/s)\n", r.tokens, r.bytes,
              r.documents, r.seconds, static_cast<double>(r.tokens) / r.seconds);
  if (r.distance) {
    std::printf(
        "beside the other model (perplexity %.4f): %+.3f %%, KL %.3g nats, same best token in %.2f %%\n",
        r.distance->perplexity, (p / r.distance->perplexity - 1) * 100, r.distance->kl,
        r.distance->top1_agreement * 100);
  }
}

bool parse_arguments(Arguments& a, int argc, char** argv) {
  CLI::App app(
      "How well a model predicts a text: perplexity per token and per byte. A zero byte in the text ends a\n"
      "document (token 0); the state is carried from the first token to the last.",
      "perplexity");
  add_model_options(app, a.model);
  app.add_option("-f,--file", a.file, "the text; - or nothing: standard input")->type_name("FILE");
  app.add_option("--tokens", a.tokens, "only the first N tokens; 0: all")->type_name("N");
  app.add_option("--chunk", a.chunk, "run N tokens at a time; 0: chosen")->type_name("N");
  app.add_option("--against", a.other, "also run this model and print how far apart they are")
      ->type_name("MODEL");
  app.add_option(
         "--against-strategy", a.other_strategy,
         "strategy of the other model; without --against the same file with other weights, as \"cpu fp32\"")
      ->type_name("STRATEGY");
  app.add_flag("--json", a.json, "one JSON object");
  if (!parse(app, argc, argv)) return false;
  if (a.chunk < 0) usage("chunks of " + std::to_string(a.chunk) + " tokens (--chunk): give 1 or more");
  return true;
}

}  // namespace

int run_perplexity(int argc, char** argv) {
  Arguments a;
  if (!parse_arguments(a, argc, argv)) return FR_OK;
  if (a.file.empty() && is_terminal(stdin)) usage("no text (frwkv perplexity): give --file FILE");
  const std::string text = a.file.empty() || a.file == "-" ? read_stdin() : read_file(a.file, "the text");
  PerplexityOptions options;
  options.path = model_path(a.model.model, a.model.offline);
  options.other_path = model_path(a.other, a.model.offline);
  options.other_strategy = a.other_strategy;
  copy_options(a.model, options.load);
  options.load.threads = a.model.threads;
  ProgressBar bar;
  options.load.progress = [&bar](std::string_view step, std::uint64_t done, std::uint64_t total) {
    bar.show(step, done, total, true);
    return !interrupted();
  };
  options.max_tokens = a.tokens;
  options.chunk = static_cast<std::size_t>(a.chunk);
  options.progress = [&bar](std::string_view step, std::uint64_t done, std::uint64_t total) {
    bar.show(step, done, total, false);
    return !interrupted();
  };
  const PerplexityReport report = checked(fr::run_perplexity(options, text));
  bar.clear();
  if (a.json)
    std::puts(describe(report, a).dump(2, ' ', false, Json::error_handler_t::replace).c_str());
  else
    print_text(report);
  return FR_OK;
}

}  // namespace fr::app
