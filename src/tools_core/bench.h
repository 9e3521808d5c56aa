// Measures what a model does on this machine: load time, prefill, decode at several batch sizes, memory, and
// how much of the memory bandwidth decoding reaches.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "core/ops.h"
#include "engine/engine.h"

namespace fr {

struct BenchOptions {
  std::string path;           // a model file; unused when shape is set
  std::string shape;          // "0.1b" ... "13.3b": random weights of that released size
  std::string version = "7";  // with shape
  double zeros = 0;           // with shape: share of zeros in the squared ReLU; 0: as it falls
  std::vector<int> batches{1, 8, 32};
  int prompt = 512;    // tokens of the prefill; 0: none
  double seconds = 2;  // measuring time for each number
  LoadOptions load;
  std::function<bool()> go_on;  // asked between steps; false stops with ErrorCode::interrupted
};

struct BenchSpeed {
  int rows = 0;  // tokens per step: the batch, or the prompt
  int repeats = 0;
  double seconds = 0;            // median of a step
  double deviation = 0;          // standard deviation of a step, seconds
  double tokens_per_second = 0;  // rows / seconds
  double read_per_second = 0;    // bytes of weights per second, each read once per step
  double bandwidth_share =
      0;             // of bandwidth; above 1 is possible where zero rows are skipped or caches hold weights
  OpCounts ops;      // of the last step
  double zeros = 0;  // of the squared ReLU of the last step, a share
};

struct BenchReport {
  std::string model, version, strategy, devices;
  std::int64_t n_parameters = 0;
  std::int64_t step_bytes = 0;  // of weights that a decode step reads: all but the embedding
  double load_seconds = 0;      // with shape: of placing the random weights
  double bandwidth = 0;         // bytes per second, measured in this run
  MemoryUse memory;
  std::int64_t rss_anon = 0, rss_peak = 0;  // of the process: anonymous now, peak of everything
  std::vector<BenchSpeed> decode;
  std::optional<BenchSpeed> prefill;
};

// Errors: those of loading, a wrong shape, version or batch, not enough memory, an interruption.
Result<BenchReport> run_bench(const BenchOptions& options);

}  // namespace fr
