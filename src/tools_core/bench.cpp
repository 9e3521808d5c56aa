#include "tools_core/bench.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <utility>

#include "engine/locate.h"
#include "models/random_checkpoint.h"
#include "tools_core/bandwidth.h"

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

class Bench {
 public:
  explicit Bench(const BenchOptions& options) : options_(options) {}

  Result<BenchReport> run() {
    FR_OK(check());
    FR_OK(load());
    for (const int batch : options_.batches) {
      FR_TRY(BenchSpeed speed, measure(batch, 1));
      report_.decode.push_back(speed);
    }
    if (options_.prompt > 0) {
      FR_TRY(report_.prefill, measure(1, options_.prompt));
    }
    report_.memory = engine_->memory();
    report_.rss_anon = process_memory("RssAnon");
    report_.rss_peak = process_memory("VmHWM");
    // Last, because it needs memory itself.
    FR_TRY(report_.bandwidth, measure_read_bandwidth(options_.load.threads));
    for (BenchSpeed& s : report_.decode) s.bandwidth_share = s.read_per_second / report_.bandwidth;
    if (report_.prefill)
      report_.prefill->bandwidth_share = report_.prefill->read_per_second / report_.bandwidth;
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
    if (!(options_.seconds >= 0 && options_.seconds <= 3600))
      return usage_error(std::to_string(options_.seconds) + " seconds (--seconds): give 0 to 3600");
    if (!(options_.zeros >= 0 && options_.zeros < 1))
      return usage_error("a share of " + std::to_string(options_.zeros) + " zeros (--zeros): give 0 to 1");
    if (options_.shape.empty() && options_.zeros != 0) {
      return usage_error("--zeros is for random weights (bench): give --shape too");
    }
    return {};
  }

  Status load() {
    std::optional<Checkpoint> random;
    if (!options_.shape.empty()) {
      FR_TRY(const RandomShape shape, released_shape(options_.shape, options_.version));
      RandomOptions how;
      how.zeros = options_.zeros;
      FR_TRY(random, random_checkpoint(shape, how));
    }
    const auto start = Clock::now();
    if (random) {
      FR_TRY(engine_, Engine::make(std::move(*random), options_.load));
      report_.model = options_.shape + " of random weights";
    } else {
      std::string path = options_.path;
      if (path.empty()) {
        FR_TRY(path, shipped_model());
      }
      FR_TRY(engine_, Engine::load(path, options_.load));
      report_.model = path;
    }
    report_.load_seconds = seconds_since(start);
    report_.version = engine_->info().version;
    report_.strategy = strategy_string(engine_->segments());
    report_.devices = engine_->devices();
    report_.n_parameters = engine_->n_parameters();
    report_.step_bytes = engine_->memory().weights;
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
    constexpr int warm_up = 2, least = 5, most = 1000;
    std::vector<double> times;
    const auto start = Clock::now();
    for (int step = 0; step < most; ++step) {
      if (options_.go_on && !options_.go_on()) return Error{ErrorCode::interrupted, "interrupted"};
      for (std::int32_t& t : tokens) t = next_token();
      const auto begin = Clock::now();
      FR_OK(engine_->step(inputs, logits));
      if (step >= warm_up) times.push_back(seconds_since(begin));
      if (step >= warm_up + least && seconds_since(start) > options_.seconds) break;
    }
    return summary(std::move(times), n_sequences * n_tokens);
  }

  BenchSpeed summary(std::vector<double> times, int rows) const {
    std::sort(times.begin(), times.end());
    BenchSpeed out;
    out.rows = rows;
    out.repeats = static_cast<int>(times.size());
    out.seconds = times[times.size() / 2];
    double mean = 0, square = 0;
    for (const double t : times) mean += t / static_cast<double>(times.size());
    for (const double t : times) square += (t - mean) * (t - mean) / static_cast<double>(times.size());
    out.deviation = std::sqrt(square);
    out.tokens_per_second = rows / out.seconds;
    out.read_per_second = static_cast<double>(report_.step_bytes) / out.seconds;
    out.ops = engine_->op_counts();
    if (out.ops.sparse_inputs > 0)
      out.zeros = static_cast<double>(out.ops.zeros) / static_cast<double>(out.ops.sparse_inputs);
    return out;
  }

  // Tokens in no order; the same in every run.
  std::int32_t next_token() {
    random_ = random_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<std::int32_t>((random_ >> 33) % static_cast<std::uint64_t>(engine_->info().n_vocab));
  }

  const BenchOptions& options_;
  std::shared_ptr<Engine> engine_;
  BenchReport report_;
  std::uint64_t random_ = 1;
};

}  // namespace

Result<BenchReport> run_bench(const BenchOptions& options) { return Bench(options).run(); }

}  // namespace fr
