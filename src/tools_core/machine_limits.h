// The limits of this machine, measured: what it reads from memory, which bounds decoding (a step reads every
// weight once), and what it computes, which bounds prefill and batches. And how near to them a step came.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace fr {

// The speed of one kind of products in registers.
struct Peak {
  std::string numbers;       // what is multiplied: "fp32", "int8", "bf16"
  std::string instructions;  // "portable", "neon", "avx2", "avx512", "avx512_vnni", "avx512_bf16", "amx"
  double per_second = 0;     // operations; a product and its sum are two
};

struct MachineLimits {
  int threads = 0;
  double read = 0;       // bytes per second
  std::string read_how;  // the way of reading that was the fastest: "4 streams, prefetch"
  std::vector<Peak> peaks;
};

struct LimitEffort {
  std::size_t bytes = std::size_t{1} << 30;  // memory that is read; less if there is less
  double seconds = 0.2;                      // for each peak
};

// What `threads` threads (at least 1) do together. Memory is given back. Errors: no memory, no threads.
Result<MachineLimits> measure_limits(int threads, const LimitEffort& effort = {});
// The same again, keeping the better of both for each number: the machine may be quieter now.
Status measure_again(MachineLimits& limits, const LimitEffort& effort = {});

// The fastest products that weights of this format ("fp16", "int4") may be multiplied by: float formats by
// fp32 or bf16, integer formats by fp32 or int8 (of quantised inputs). Any kind for a name that is none of
// those. limits has at least one peak.
const Peak& peak_for(std::string_view dtype, const MachineLimits& limits);

// What a step does.
struct StepWork {
  double weights = 0;     // bytes of weights, each once
  double skipped = 0;     // of these, those that were not read: rows of ffn.value with a zero input
  double operations = 0;  // of products with weights, 2 for each number and row
};

// Shares of the limits, 1 where there is no faster way.
struct Shares {
  double weights = 0;  // of the read bandwidth, all weights; above 1 is possible where rows were skipped
  double read = 0;     // of the read bandwidth, what was really read
  double peak = 0;     // of the arithmetic peak
  double share = 0;    // the larger of read and peak: the limit that the step is nearer to
  std::string limit;   // its name: "read", or numbers and instructions of the peak, "fp32 avx2"
};
Shares shares_of(const StepWork& work, double seconds, std::string_view dtype, const MachineLimits& limits);

}  // namespace fr
