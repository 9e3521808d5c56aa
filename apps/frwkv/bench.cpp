// frwkv bench: speed and memory, as a table or as JSON.
#include "tools_core/bench.h"

#include <algorithm>
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

std::string test_name(const BenchSpeed& s) {
  return (s.prefill ? "prefill " : "decode x") + std::to_string(s.rows);
}

template <class T>
Json or_null(bool known, T value) {
  return known ? Json(value) : Json();
}

double really_read(const BenchSpeed& s) { return (s.work.weights - s.work.skipped) / s.seconds; }

// One row of the table. Null: not known, or no limit of this machine's processor applies.
Json describe(const BenchRun& r, const BenchSpeed& s) {
  return {{"dtype", r.dtype},
          {"threads", r.threads},
          {"test", test_name(s)},
          {"tokens_per_second", s.tokens_per_second},
          {"ms", s.seconds * 1e3},
          {"deviation", s.half_spread * 1e3},
          {"repeats", s.repeats},
          {"bytes_per_second", or_null(!r.exported, s.work.weights / s.seconds)},
          {"bytes_read_per_second", or_null(s.counts_skipped, really_read(s))},
          {"operations_per_second", or_null(!r.exported, s.work.operations / s.seconds)},
          {"share", s.shares ? Json(s.shares->share) : Json()},
          {"limit", s.shares ? Json(s.shares->limit) : Json()},
          {"share_of_read", s.shares ? Json(s.shares->weights) : Json()},
          {"share_of_peak", s.shares ? Json(s.shares->peak) : Json()},
          {"zeros", s.zeros},
          {"ops", {{"native", s.ops.native}, {"expanded", s.ops.expanded}}}};
}

Json describe_memory(const BenchRun& r) {
  return {{"weights", r.memory.weights}, {"mapped", r.memory.mapped}, {"states", r.memory.states},
          {"scratch", r.memory.scratch}, {"rss_anon", r.rss_anon},    {"rss_anon_peak", r.rss_anon_peak},
          {"peak", r.rss_peak}};
}

Json describe(const MachineLimits& limits) {
  Json peaks = Json::array();
  for (const Peak& p : limits.peaks)
    peaks.push_back(
        {{"numbers", p.numbers}, {"instructions", p.instructions}, {"operations_per_second", p.per_second}});
  return {{"threads", limits.threads},
          {"read_bandwidth", limits.read},
          {"read_how", limits.read_how},
          {"peaks", peaks}};
}

// A row as it stands under "decode" and "prefill" of a single run.
Json describe_alone(const BenchSpeed& s) {
  return {{s.prefill ? "tokens" : "batch", s.rows},
          {"tokens_per_second", s.tokens_per_second},
          {"step_seconds_median", s.seconds},
          {"step_seconds_deviation", s.deviation},
          {"repeats", s.repeats},
          {"weight_bytes_per_second", s.work.weights / s.seconds},
          {"bandwidth_share", s.shares ? Json(s.shares->weights) : Json()},
          {"zeros", s.zeros},
          {"ops", {{"native", s.ops.native}, {"expanded", s.ops.expanded}}}};
}

// Of a single run, beside what all runs share.
void describe_alone(const BenchReport& report, Json& out) {
  const BenchRun& r = report.runs[0];
  out["strategy"] = r.strategy;
  out["device"] = r.devices;
  out["load_seconds"] = r.load_seconds;
  out["read_bandwidth"] = report.limits.back().read;
  out["step_weight_bytes"] = r.step_bytes;
  out["memory"] = describe_memory(r);
  out["decode"] = Json::array();
  for (const BenchSpeed& s : r.decode) out["decode"].push_back(describe_alone(s));
  if (r.prefill) out["prefill"] = describe_alone(*r.prefill);
}

Json describe(const BenchReport& report) {
  Json limits = Json::array(), runs = Json::array(), rows = Json::array();
  for (const MachineLimits& l : report.limits) limits.push_back(describe(l));
  for (const BenchRun& r : report.runs) {
    runs.push_back({{"strategy", r.strategy},
                    {"dtype", r.dtype},
                    {"threads", r.threads},
                    {"device", r.devices},
                    {"load_seconds", r.load_seconds},
                    {"step_weight_bytes", r.step_bytes},
                    {"cached", r.cached},
                    {"memory", describe_memory(r)}});
    for (const BenchSpeed& s : r.decode) rows.push_back(describe(r, s));
    if (r.prefill) rows.push_back(describe(r, *r.prefill));
  }
  Json out{{"model", report.model},
           {"version", report.version},
           {"n_parameters", report.n_parameters},
           {"random_weights", report.random_bytes},
           {"zeros_source", report.zeros_source},
           {"machine",
            {{"name", report.machine.name},
             {"processors", report.machine.processors},
             {"cores", report.machine.cores},
             {"cache", report.machine.cache},
             {"instruction_sets", report.machine.instruction_sets},
             {"limits", limits}}},
           {"runs", runs},
           {"rows", rows}};
  if (report.runs.size() == 1) describe_alone(report, out);
  return out;
}

std::string thread_count(int n) { return std::to_string(n) + (n == 1 ? " thread" : " threads"); }

void print_machine(const BenchReport& report) {
  std::string sets;
  for (const std::string& name : report.machine.instruction_sets) sets += " " + name;
  std::printf("%s, %d cores:%s\n", report.machine.name.c_str(), report.machine.cores, sets.c_str());
  for (const MachineLimits& l : report.limits) {
    std::printf("  %s: read %.1f GB/s (%s)", thread_count(l.threads).c_str(), l.read / 1e9,
                l.read_how.c_str());
    for (const Peak& p : l.peaks)
      std::printf(", %s %s %.0f Gop/s", p.numbers.c_str(), p.instructions.c_str(), p.per_second / 1e9);
    std::printf("\n");
  }
}

void print_run(const BenchReport& report, const BenchRun& r) {
  const auto size = [](std::int64_t n) { return bytes(static_cast<std::uint64_t>(n)); };
  std::printf(
      "%s: load %.2f s; weights %s + %s used in place, states %s, scratch %s; RssAnon %s, at most %s, "
      "VmHWM %s",
      r.devices.c_str(), r.load_seconds, size(r.memory.weights).c_str(), size(r.memory.mapped).c_str(),
      size(r.memory.states).c_str(), size(r.memory.scratch).c_str(), size(r.rss_anon).c_str(),
      size(r.rss_anon_peak).c_str(), size(r.rss_peak).c_str());
  if (report.random_bytes > 0)
    std::printf(" (%s of them the random weights before packing)", size(report.random_bytes).c_str());
  std::printf("\n");
}

std::string number(const char* format, double value) {
  char text[32];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

// What is not known is a dash.
void print_row(const BenchRun& r, const BenchSpeed& s) {
  const std::string all = r.exported ? "-" : number("%.2f", s.work.weights / s.seconds / 1e9);
  const std::string all_share = s.shares ? number("%.0f %%", s.shares->weights * 100) : "-";
  const std::string read = s.counts_skipped ? number("%.2f", really_read(s) / 1e9) : "-";
  std::string limit = "-";
  if (s.shares) {
    limit = number("%.0f %% ", s.shares->share * 100) + s.shares->limit;
    if (r.cached && s.shares->limit == "read") limit += " *";
  }
  const std::string zeros = r.exported ? "-" : number("%.0f %%", s.zeros * 100);
  std::printf("%-6s %7d  %-13s %10.1f %10.2f ±%7.2f %8s %7s %8s  %-21s %6s %7" PRId64 " %8" PRId64 "\n",
              r.dtype.c_str(), r.threads, test_name(s).c_str(), s.tokens_per_second, s.seconds * 1e3,
              s.half_spread * 1e3, all.c_str(), all_share.c_str(), read.c_str(), limit.c_str(), zeros.c_str(),
              s.ops.native, s.ops.expanded);
}

void print_table(const BenchReport& report) {
  std::printf("%s: RWKV-%s, %s parameters; zeros: %s\n", report.model.c_str(), report.version.c_str(),
              count(static_cast<double>(report.n_parameters)).c_str(), report.zeros_source.c_str());
  print_machine(report);
  for (const BenchRun& r : report.runs) print_run(report, r);
  std::printf("\n%-6s %7s  %-13s %10s %19s %8s %7s %8s  %-21s %6s %7s %8s\n", "dtype", "threads", "test",
              "tokens/s", "ms a step", "GB/s", "of read", "read", "of its limit", "zeros", "native",
              "expanded");
  for (const BenchRun& r : report.runs) {
    for (const BenchSpeed& s : r.decode) print_row(r, s);
    if (r.prefill) print_row(r, *r.prefill);
  }
  if (std::any_of(report.runs.begin(), report.runs.end(), [](const BenchRun& r) { return r.cached; }))
    std::printf("* less than four times the cache (%s), which spares reads\n",
                bytes(static_cast<std::uint64_t>(report.machine.cache)).c_str());
}

}  // namespace

int run_bench(int argc, char** argv) {
  CLI::App app(
      "Measure load time, decode, batched decode and prefill. Medians; the limits of the machine, its read\n"
      "bandwidth and its arithmetic peaks, are measured in the same run.",
      "bench");
  ModelOptions model;
  BenchOptions options;
  bool json = false;
  add_model_options(app, model);
  app.remove_option(app.get_option("--threads"));
  app.add_option("-t,--threads", options.threads, "threads, several to compare; 0: one per core")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("1,2");
  app.add_option("--dtypes", options.dtypes,
                 "number formats to compare: fp32, fp16, bf16, int8, int4; --strategy then names a device")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("fp16,int8");
  app.add_option("--shape", options.shape,
                 "random weights of a released size instead of a file: 0.1b 0.4b 1.5b 2.9b 7.2b 13.3b")
      ->type_name("SIZE");
  app.add_option("--version", options.version, "RWKV version of --shape: 4, 5.0, 5.1, 5.2, 6, 7")
      ->type_name("V")
      ->capture_default_str();
  app.add_option("--zeros", options.zeros,
                 "share of zeros in the squared ReLU of --shape (about half when left out), more than 0 and "
                 "less than 1")
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
  copy_options(model, options.load);
  // A hasty run measures the machine hastily too.
  const double effort = std::clamp(options.seconds, 0.05, 1.0);
  options.limits.bytes = static_cast<std::size_t>(static_cast<double>(options.limits.bytes) * effort);
  options.limits.seconds *= effort;
  ProgressBar bar;
  options.load.progress = [&bar](std::string_view step, std::uint64_t done, std::uint64_t total) {
    bar.show(step, done, total, true);
    return !interrupted();
  };
  options.go_on = [&bar] {
    bar.clear();
    return !interrupted();
  };
  const BenchReport report = checked(fr::run_bench(options));
  if (json)
    std::puts(describe(report).dump(2, ' ', false, Json::error_handler_t::replace).c_str());
  else
    print_table(report);
  return FR_OK;
}

}  // namespace fr::app
