// frwkv bench: speed and memory, as a table or as JSON.
#include "tools_core/bench.h"

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

Json describe(const BenchSpeed& s, const char* rows_name) {
  return {{rows_name, s.rows},
          {"tokens_per_second", s.tokens_per_second},
          {"step_seconds_median", s.seconds},
          {"step_seconds_deviation", s.deviation},
          {"repeats", s.repeats},
          {"weight_bytes_per_second", s.read_per_second},
          {"bandwidth_share", s.bandwidth_share},
          {"zeros", s.zeros},
          {"ops", {{"native", s.ops.native}, {"expanded", s.ops.expanded}}}};
}

Json describe(const BenchReport& r) {
  Json out{{"model", r.model},
           {"version", r.version},
           {"n_parameters", r.n_parameters},
           {"strategy", r.strategy},
           {"device", r.devices},
           {"load_seconds", r.load_seconds},
           {"read_bandwidth", r.bandwidth},
           {"step_weight_bytes", r.step_bytes},
           {"memory",
            {{"weights", r.memory.weights},
             {"mapped", r.memory.mapped},
             {"states", r.memory.states},
             {"scratch", r.memory.scratch},
             {"rss_anon", r.rss_anon},
             {"peak", r.rss_peak}}}};
  out["decode"] = Json::array();
  for (const BenchSpeed& s : r.decode) out["decode"].push_back(describe(s, "batch"));
  if (r.prefill) out["prefill"] = describe(*r.prefill, "tokens");
  return out;
}

// An exported model does not tell what a step reads and how it runs.
void print_row(const std::string& test, const BenchSpeed& s, bool exported) {
  if (exported) {
    std::printf("%-14s %10.1f %10.2f ±%6.2f\n", test.c_str(), s.tokens_per_second, s.seconds * 1e3,
                s.deviation * 1e3);
    return;
  }
  std::printf("%-14s %10.1f %10.2f ±%6.2f %9.2f %7.0f %% %6.0f %% %8" PRId64 " %9" PRId64 "\n", test.c_str(),
              s.tokens_per_second, s.seconds * 1e3, s.deviation * 1e3, s.read_per_second / 1e9,
              s.bandwidth_share * 100, s.zeros * 100, s.ops.native, s.ops.expanded);
}

void print_table(const BenchReport& r) {
  const auto size = [](std::int64_t n) { return bytes(static_cast<std::uint64_t>(n)); };
  std::printf("%s: RWKV-%s, %s parameters, %s\n", r.model.c_str(), r.version.c_str(),
              count(static_cast<double>(r.n_parameters)).c_str(), r.strategy.c_str());
  std::printf("%s; this machine reads %.1f GB/s\n", r.devices.c_str(), r.bandwidth / 1e9);
  std::printf("load %.2f s; weights %s + %s used in place, states %s, scratch %s; process %s, peak %s\n\n",
              r.load_seconds, size(r.memory.weights).c_str(), size(r.memory.mapped).c_str(),
              size(r.memory.states).c_str(), size(r.memory.scratch).c_str(), size(r.rss_anon).c_str(),
              size(r.rss_peak).c_str());
  const bool exported = r.step_bytes == 0;
  std::printf("%-14s %10s %18s", "test", "tokens/s", "ms a step");
  if (!exported) std::printf(" %9s %9s %8s %8s %9s", "GB/s", "of limit", "zeros", "native", "expanded");
  std::printf("\n");
  for (const BenchSpeed& s : r.decode) print_row("decode x" + std::to_string(s.rows), s, exported);
  if (r.prefill) print_row("prefill " + std::to_string(r.prefill->rows), *r.prefill, exported);
}

}  // namespace

int run_bench(int argc, char** argv) {
  CLI::App app(
      "Measure load time, decode, batched decode and prefill. Medians; a decode step reads all weights once, "
      "so\n"
      "the machine's read bandwidth, measured in the same run, is its limit.",
      "bench");
  ModelOptions model;
  BenchOptions options;
  bool json = false;
  add_model_options(app, model);
  app.add_option("--shape", options.shape,
                 "random weights of a released size instead of a file: 0.1b 0.4b 1.5b 2.9b 7.2b 13.3b")
      ->type_name("SIZE");
  app.add_option("--version", options.version, "RWKV version of --shape: 4, 5.0, 5.1, 5.2, 6, 7")
      ->type_name("V")
      ->capture_default_str();
  app.add_option("--zeros", options.zeros,
                 "share of zeros in the squared ReLU of --shape (about half when left out)")
      ->type_name("X");
  app.add_option("--batch", options.batches, "decode this many sequences at once")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("1,8,32");
  app.add_option("--prompt", options.prompt, "tokens of the prefill; 0: none")
      ->type_name("N")
      ->capture_default_str();
  app.add_option("--seconds", options.seconds, "measuring time for each row")
      ->type_name("X")
      ->capture_default_str();
  app.add_flag("--json", json, "one JSON object");
  if (!parse(app, argc, argv)) return FR_OK;
  if (!model.model.empty() && !options.shape.empty())
    usage("both a model and --shape were given (frwkv bench): give one");

  options.path = model_path(model.model, model.offline);
  options.load.strategy = model.strategy;
  options.load.vocab = model.vocab;
  options.load.state = model.state;
  options.load.threads = model.threads;
  ProgressBar bar;
  options.load.progress = [&bar](std::string_view step, std::uint64_t done, std::uint64_t total) {
    bar.show(step, done, total, true);
    return !interrupted();
  };
  options.go_on = [&bar] {
    bar.clear();
    return !interrupted();
  };
  const auto report = fr::run_bench(options);
  if (!report.ok())
    throw faster_rwkv::Error(static_cast<fr_code>(report.error().code), report.error().message);
  if (json)
    std::puts(describe(*report).dump(2).c_str());
  else
    print_table(*report);
  return FR_OK;
}

}  // namespace fr::app
