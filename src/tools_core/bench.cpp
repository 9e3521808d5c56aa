#include "tools_core/bench.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <set>
#include <utility>

#include "base/cpu_info.h"
#include "core/storage.h"
#include "engine/locate.h"
#include "models/random_checkpoint.h"

namespace fr {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// A line of /proc/self/status, in bytes; 0 where there is none.
std::int64_t process_memory(const std::string& name) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(name + ":")) return std::stoll(line.substr(name.size() + 1)) * 1024;
  }
  return 0;
}

// From here on VmHWM is of what follows, where the system lets a process say so.
void forget_peak_memory() { std::ofstream("/proc/self/clear_refs") << "5"; }

// "fp16", or "fp16+int8" of a split model.
std::string dtype_of(const std::vector<Segment>& segments) {
  std::string all;
  std::set<DType> seen;
  for (const Segment& s : segments) {
    if (seen.insert(s.dtype).second) all.append(all.empty() ? "" : "+").append(storage_name(s.dtype));
  }
  return all;
}

bool on_cpu(const std::vector<Segment>& segments) {
  return std::all_of(segments.begin(), segments.end(), [](const Segment& s) { return s.device == "cpu"; });
}

// Bytes of ffn.value in all layers: what zeros in the squared ReLU may save.
double sparse_bytes(const Engine& engine) {
  TensorView value{"", engine.file_dtype(), {engine.info().n_embd, engine.info().n_ffn}, {}};
  value.stride = dense_strides(value.shape);
  double bytes = 0;
  for (const Segment& s : engine.segments()) {
    const DType stored = stored_dtype(s.dtype, MatRole::sparse_input, value);
    bytes += static_cast<double>(s.end - s.begin) * static_cast<double>(value.size()) *
             static_cast<double>(dtype_size(stored)) / static_cast<double>(block_size(stored));
  }
  return bytes;
}

// Two for each weight and row; the head runs for the wanted rows only, the embedding is no product.
double operations(const Engine& engine, double rows, double wanted) {
  const double table = static_cast<double>(engine.info().n_vocab) * engine.info().n_embd;
  const double layers = static_cast<double>(engine.n_parameters()) - 2 * table;
  return 2 * (rows * layers + wanted * table);
}

class Bench {
 public:
  explicit Bench(const BenchOptions& options) : options_(options) {}

  Result<BenchReport> run() {
    FR_OK(check());
    FR_OK(choose_runs());
    FR_OK(make_random_weights());
    for (const auto& [strategy, threads] : plan_) {
      FR_OK(load(strategy, threads));
      FR_OK(measure_model());
      engine_.reset();  // the probes need memory too
      if (report_.limits.empty()) FR_OK(measure_machine());
    }
    if (plan_.size() > 1) {
      for (MachineLimits& limits : report_.limits) {
        if (!go_on()) return interruption();
        FR_OK(measure_again(limits, options_.limits));
      }
    }
    if (!go_on()) return interruption();
    report_.machine = {cpu_name(), available_cpus(), available_cores(), cache_size(), instruction_sets()};
    for (BenchRun& run : report_.runs) compare(run);
    return std::move(report_);
  }

 private:
  Status check() const {
    if (options_.prompt < 0)
      return usage_error("a prompt of " + std::to_string(options_.prompt) +
                         " tokens (--prompt): give 0 or more");
    for (const int batch : options_.batches) {
      if (batch < 1 || batch > 4096)
        return usage_error("a batch of " + std::to_string(batch) + " (--batch): give 1 to 4096");
    }
    for (const int threads : options_.threads) {
      if (threads < 0 || threads > 1024)
        return usage_error(std::to_string(threads) +
                           " threads (--threads): give 1 to 1024, or 0 for one per core");
    }
    if (!(options_.seconds >= 0 && options_.seconds <= 3600))
      return usage_error(std::to_string(options_.seconds) + " seconds (--seconds): give 0 to 3600");
    if (options_.zeros && !(*options_.zeros > 0 && *options_.zeros < 1)) {
      return usage_error("a share of " + std::to_string(*options_.zeros) +
                         " zeros (--zeros): give more than 0 and less than 1");
    }
    if (options_.shape.empty() && options_.zeros) {
      return usage_error("--zeros is for random weights (bench): give --shape too");
    }
    return {};
  }

  // Wrong words are found before anything is loaded.
  Status choose_runs() {
    std::vector<std::string> strategies{options_.load.strategy};
    if (!options_.dtypes.empty()) {
      FR_TRY(const std::vector<Segment> device, parse_strategy(options_.load.strategy, DType::f32, 1));
      if (device.size() != 1 || !device[0].automatic) {
        return usage_error("the strategy \"" + options_.load.strategy +
                           "\" has a number format already (--dtypes): name only a device, or leave it out");
      }
      const std::string& words = options_.load.strategy;
      strategies.clear();
      for (const std::string& dtype : options_.dtypes) {
        strategies.push_back((words.empty() ? device[0].device : words) + " " + dtype);
        FR_TRY(const std::vector<Segment> parsed, parse_strategy(strategies.back(), DType::f32, 1));
        if (parsed[0].automatic)
          return usage_error("\"" + dtype + "\" is no number format (--dtypes): use fp16, int8, int4, ...");
      }
    }
    for (const std::string& strategy : strategies) {
      for (const int threads : options_.threads)
        plan_.emplace_back(strategy, threads > 0 ? threads : available_cores());
    }
    return {};
  }

  Status make_random_weights() {
    if (options_.shape.empty()) {
      report_.zeros_source = "measured in this model";
      return {};
    }
    FR_TRY(const RandomShape shape, released_shape(options_.shape, options_.version));
    RandomOptions how;
    how.zeros = options_.zeros.value_or(0);
    FR_TRY(random_, random_checkpoint(shape, how));
    random_->read_once = plan_.size() == 1;
    for (const TensorView& t : random_->tensors)
      report_.random_bytes += static_cast<std::int64_t>(t.bytes().size());
    report_.zeros_source = "random weights, ";
    report_.zeros_source +=
        options_.zeros ? std::to_string(std::lround(*options_.zeros * 100)) + " % asked for" : "as they fall";
    return {};
  }

  Status measure_machine() {
    std::set<int> numbers{1};
    for (const auto& [strategy, threads] : plan_) numbers.insert(threads);
    for (const int threads : numbers) {
      if (!go_on()) return interruption();
      FR_TRY(MachineLimits limits, measure_limits(threads, options_.limits));
      report_.limits.push_back(std::move(limits));
    }
    return {};
  }

  Status load(const std::string& strategy, int threads) {
    BenchRun run;
    run.threads = threads;
    forget_peak_memory();
    const auto start = Clock::now();
    auto sampled = start;
    LoadOptions how = options_.load;
    how.strategy = strategy;
    how.threads = threads;
    how.progress = [&](std::string_view step, std::uint64_t done, std::uint64_t total) {
      if (!random_ && seconds_since(sampled) > 0.02) {
        sample_memory(run);
        sampled = Clock::now();
      }
      return !options_.load.progress || options_.load.progress(step, done, total);
    };
    if (random_) {
      FR_TRY(engine_, Engine::make(*random_, how));
      report_.model = options_.shape + " of random weights";
    } else {
      std::string path = options_.path;
      if (path.empty()) {
        FR_TRY(path, shipped_model());
      }
      FR_TRY(engine_, Engine::load(path, how));
      report_.model = path;
    }
    run.load_seconds = seconds_since(start);
    report_.version = engine_->info().version;
    report_.n_parameters = engine_->n_parameters();
    run.strategy = strategy_string(engine_->segments());
    run.dtype = dtype_of(engine_->segments());
    run.devices = engine_->devices();
    run.step_bytes = engine_->memory().weights;
    run.exported = run.step_bytes == 0;
    report_.runs.push_back(std::move(run));
    return {};
  }

  Status measure_model() {
    BenchRun& run = report_.runs.back();
    sample_memory(run);
    for (const int batch : options_.batches) {
      FR_TRY(BenchSpeed speed, measure(batch, 1));
      run.decode.push_back(speed);
      sample_memory(run);
    }
    if (options_.prompt > 0) {
      FR_TRY(run.prefill, measure(1, options_.prompt));
      run.prefill->prefill = true;
      sample_memory(run);
    }
    run.memory = engine_->memory();
    run.rss_anon = process_memory("RssAnon");
    run.rss_peak = process_memory("VmHWM");
    return {};
  }

  // Steps of n_sequences sequences with n_tokens tokens each, until the time is over.
  Result<BenchSpeed> measure(int n_sequences, int n_tokens) {
    const auto n = static_cast<std::size_t>(n_sequences);
    std::vector<State> states;
    for (std::size_t i = 0; i < n; ++i) {
      FR_TRY(State state, State::make(engine_));
      states.push_back(std::move(state));
    }
    std::vector<std::int32_t> tokens(n * static_cast<std::size_t>(n_tokens));
    std::vector<SequenceInput> inputs;
    for (std::size_t i = 0; i < n; ++i) {
      inputs.push_back({&states[i],
                        std::span(tokens).subspan(i * static_cast<std::size_t>(n_tokens),
                                                  static_cast<std::size_t>(n_tokens)),
                        Want::last});
    }
    std::vector<float> logits(n * static_cast<std::size_t>(engine_->info().n_vocab));
    constexpr std::size_t least = 5, most = 1000;
    const double patience = 10 * std::max(options_.seconds, 1.0);  // after that, fewer samples must do
    std::vector<double> times;
    OpCounts sum;
    const auto start = Clock::now();
    for (int step = 0; times.size() < most; ++step) {
      if (!go_on()) return interruption();
      for (std::int32_t& t : tokens) t = next_token();
      const auto begin = Clock::now();
      FR_OK(engine_->step(inputs, logits));
      const double seconds = seconds_since(begin), passed = seconds_since(start);
      if (step == 0 || (step == 1 && passed < patience)) continue;  // warm-up
      times.push_back(seconds);
      const OpCounts ops = engine_->op_counts();
      sum.sparse_inputs += ops.sparse_inputs;
      sum.zeros += ops.zeros;
      if (passed > (times.size() >= least ? options_.seconds : patience)) break;
    }
    BenchSpeed out = summarise(std::move(times), n_sequences * n_tokens);
    out.ops = engine_->op_counts();
    if (sum.sparse_inputs > 0)
      out.zeros = static_cast<double>(sum.zeros) / static_cast<double>(sum.sparse_inputs);
    if (!report_.runs.back().exported) {
      out.work.weights = static_cast<double>(report_.runs.back().step_bytes);
      out.work.operations = operations(*engine_, out.rows, n_sequences);
      out.counts_skipped = out.rows == 1 && on_cpu(engine_->segments());
      if (out.counts_skipped) out.work.skipped = out.zeros * sparse_bytes(*engine_);
      if (on_cpu(engine_->segments())) out.shares.emplace();
    }
    return out;
  }

  void compare(BenchRun& run) const {
    run.cached = run.step_bytes < 4 * report_.machine.cache;
    const auto limits = std::find_if(report_.limits.begin(), report_.limits.end(),
                                     [&](const MachineLimits& l) { return l.threads == run.threads; });
    const auto fill = [&](BenchSpeed& s) {
      const std::string inputs = options_.load.exact_activations ? "fp32" : run.dtype;
      if (s.shares) s.shares = shares_of(s.work, s.seconds, inputs, *limits);
    };
    for (BenchSpeed& s : run.decode) fill(s);
    if (run.prefill) fill(*run.prefill);
  }

  static void sample_memory(BenchRun& run) {
    run.rss_anon_peak = std::max(run.rss_anon_peak, process_memory("RssAnon"));
  }

  bool go_on() const { return !options_.go_on || options_.go_on(); }
  static Error interruption() { return {ErrorCode::interrupted, "interrupted"}; }

  // Tokens in no order; the same in every run.
  std::int32_t next_token() {
    random_number_ = random_number_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<std::int32_t>((random_number_ >> 33) %
                                     static_cast<std::uint64_t>(engine_->info().n_vocab));
  }

  const BenchOptions& options_;
  std::vector<std::pair<std::string, int>> plan_;  // strategy and threads of each run
  std::optional<Checkpoint> random_;
  std::shared_ptr<Engine> engine_;
  BenchReport report_;
  std::uint64_t random_number_ = 1;
};

}  // namespace

BenchSpeed summarise(std::vector<double> seconds, int rows) {
  std::sort(seconds.begin(), seconds.end());
  const std::size_t n = seconds.size();
  BenchSpeed out;
  out.rows = rows;
  out.repeats = static_cast<int>(n);
  out.seconds = seconds[n / 2];
  double mean = 0, square = 0;
  for (const double t : seconds) mean += t / static_cast<double>(n);
  for (const double t : seconds) square += (t - mean) * (t - mean) / static_cast<double>(n);
  out.deviation = std::sqrt(square);
  out.half_spread = (seconds[n - 1 - n / 10] - seconds[n / 10]) / 2;
  out.tokens_per_second = rows / out.seconds;
  return out;
}

Result<BenchReport> run_bench(const BenchOptions& options) { return Bench(options).run(); }

}  // namespace fr
