// Measures what a model does on this machine, in one or several number formats and numbers of threads: load
// time, decode at several batch sizes, prefill, memory, and how near to the machine's limits each comes.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "core/ops.h"
#include "engine/engine.h"
#include "tools_core/machine_limits.h"

namespace fr {

struct BenchOptions {
  std::string path;             // a model file; unused when shape is set
  std::string shape;            // "0.1b" ... "13.3b": random weights of that released size
  std::string version = "7";    // with shape
  std::optional<double> zeros;  // with shape: share of zeros in the squared ReLU; absent: as it falls
  std::vector<int> batches{1, 8, 32};
  int prompt = 512;    // tokens of the prefill; 0: none
  double seconds = 2;  // measuring time for each number
  // One run for each of both: number formats ("fp16", "int4"), with which load.strategy is a device or empty
  // (none: what load.strategy says); threads, 0: one per core.
  std::vector<std::string> dtypes;
  std::vector<int> threads{0};
  LoadOptions load;  // its threads are not looked at
  LimitEffort limits;
  std::function<bool()> go_on;  // asked between steps; false stops with ErrorCode::interrupted
};

struct BenchSpeed {
  bool prefill = false;
  int rows = 0;  // tokens per step: the batch, or the prompt
  int repeats = 0;
  double seconds = 0;      // median of a step
  double deviation = 0;    // standard deviation of a step, seconds
  double half_spread = 0;  // half of what lies between the 10th and the 90th percentile, seconds
  double tokens_per_second = 0;
  StepWork work;
  bool counts_skipped = false;   // work.skipped is known: one row on the cpu, which skips what is zero
  std::optional<Shares> shares;  // of the cpu's limits; none for other devices and exported models
  OpCounts ops;                  // of the last step
  double zeros = 0;              // of the squared ReLU, a share, over all measured steps
};

// One number format and one number of threads.
struct BenchRun {
  std::string strategy, dtype, devices;
  int threads = 0;
  bool exported = false;        // an exported model: what a step reads is not known
  std::int64_t step_bytes = 0;  // of weights that a decode step reads: all but the embedding
  // The weights are less than four times the cache, which spares reads: shares of the read bandwidth say
  // little, and may be above 1.
  bool cached = false;
  double load_seconds = 0;  // with shape: of placing the random weights
  MemoryUse memory;
  // Of the process: anonymous after the last test; the most of it that was seen, between tests and (of a
  // file) while loading; the peak of everything, of this run where the system can tell.
  std::int64_t rss_anon = 0, rss_anon_peak = 0, rss_peak = 0;
  std::vector<BenchSpeed> decode;
  std::optional<BenchSpeed> prefill;
};

struct BenchReport {
  struct {
    std::string name;
    int processors = 0, cores = 0;  // of this process
    std::int64_t cache = 0;         // bytes of the largest; 0: not known
    std::vector<std::string> instruction_sets;
  } machine;
  std::string model, version;
  std::int64_t n_parameters = 0;
  std::int64_t random_bytes = 0;  // with shape: the random weights, which stay in memory beside the packed
  std::string zeros_source;       // where the zeros come from, in words
  std::vector<MachineLimits> limits;  // for each number of threads of the runs, and for one thread; ascending
  std::vector<BenchRun> runs;         // number formats in their order, for each the numbers of threads
};

// Errors: those of loading, a wrong shape, version, format, batch or number of threads, not enough memory,
// an interruption.
Result<BenchReport> run_bench(const BenchOptions& options);

// Median, deviation and half-spread of step times (at least one), and the speed of `rows` tokens a step.
BenchSpeed summarise(std::vector<double> seconds, int rows);

}  // namespace fr
