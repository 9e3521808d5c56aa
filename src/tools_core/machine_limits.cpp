#include "tools_core/machine_limits.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>

#include "base/aligned_buffer.h"
#include "base/thread_pool.h"
#include "tools_core/arithmetic.h"

namespace fr {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

constexpr std::size_t line = 64;  // bytes of a cache line

// Reads `length` bytes of each of S streams, line by line in turn, and asks for what lies `ahead` bytes
// further on.
template <int S, int ahead>
std::uint64_t read_streams(const std::byte* begin, std::size_t length) {
  std::uint64_t bits[8] = {};
  for (std::size_t at = 0; at < length; at += line) {
#pragma GCC unroll 8
    for (std::size_t s = 0; s < S; ++s) {
      const std::byte* here = begin + s * length + at;
      if constexpr (ahead > 0) __builtin_prefetch(here + ahead);
      const auto* words = reinterpret_cast<const std::uint64_t*>(here);
      for (int i = 0; i < 8; ++i) bits[i] |= words[i];
    }
  }
  std::uint64_t all = 0;
  for (const std::uint64_t b : bits) all |= b;
  return all;
}

struct ReadLoop {
  const char* name;
  std::size_t streams;
  std::uint64_t (*run)(const std::byte* begin, std::size_t length);
};
constexpr ReadLoop read_loops[] = {{"1 stream", 1, read_streams<1, 0>},
                                   {"4 streams", 4, read_streams<4, 0>},
                                   {"4 streams, prefetch", 4, read_streams<4, 512>},
                                   {"8 streams, prefetch", 8, read_streams<8, 512>}};

// Bytes of a stream in a piece of memory. Streams a power of two apart would share the few places that one
// address has in the caches, so that an odd number of lines lies between them.
std::size_t stream_length(std::size_t piece, std::size_t streams) {
  const std::size_t lines = piece / streams / line;
  return (lines - (lines % 2 == 0 ? 1 : 0)) * line;
}

Status measure_read(ThreadPool& pool, const LimitEffort& effort, MachineLimits& limits) {
  constexpr int repeats = 3, pieces_per_thread = 4;
  constexpr std::size_t smallest = std::size_t{64} << 10;  // of a piece
  const int pieces = pool.size() * pieces_per_thread;
  const auto n = static_cast<std::size_t>(pieces);
  std::size_t piece = std::max(effort.bytes / n, smallest) / line * line;
  auto memory = AlignedBuffer::allocate(piece * n, "the read bandwidth");
  while (!memory.ok() && piece > smallest) {
    piece = std::max(piece / 2, smallest) / line * line;
    memory = AlignedBuffer::allocate(piece * n, "the read bandwidth");
  }
  if (!memory.ok()) return memory.error();
  const auto at = [&](int i) { return memory->data() + static_cast<std::size_t>(i) * piece; };
  pool.run(pieces, [&](int, int begin, int end) { std::fill(at(begin), at(end), std::byte{1}); });
  std::atomic<std::uint64_t> seen{0};
  for (int r = 0; r < repeats; ++r) {
    for (const ReadLoop& loop : read_loops) {
      const std::size_t length = stream_length(piece, loop.streams);
      const auto start = Clock::now();
      pool.run(pieces, [&](int, int begin, int end) {
        for (int i = begin; i < end; ++i) seen.fetch_or(loop.run(at(i), length), std::memory_order_relaxed);
      });
      const double speed = static_cast<double>(length * loop.streams * n) / seconds_since(start);
      if (speed <= limits.read) continue;
      limits.read = speed;
      limits.read_how = loop.name;
    }
  }
  FR_CHECK(seen.load() == 0x0101010101010101u);
  return {};
}

// The best of a few short measurements: a thread that the system holds up spoils one of them only.
double measure_peak(ThreadPool& pool, const ArithmeticLoop& loop, double seconds) {
  constexpr int repeats = 5, rounds = 10000;
  double best = 0;
  for (int r = 0; r < repeats; ++r) {
    std::atomic<std::int64_t> runs{0};
    std::atomic<float> last{0};
    const auto start = Clock::now();
    pool.run(pool.size(), [&](int, int begin, int end) {
      for (int i = begin; i < end; ++i) {
        const auto begun = Clock::now();
        do {
          last.store(loop.run(rounds), std::memory_order_relaxed);
          runs.fetch_add(1, std::memory_order_relaxed);
        } while (seconds_since(begun) < seconds / repeats);
      }
    });
    const double done = static_cast<double>(runs.load()) * rounds * loop.operations;
    best = std::max(best, done / seconds_since(start));
  }
  return best;
}

}  // namespace

Result<MachineLimits> measure_limits(int threads, const LimitEffort& effort) {
  MachineLimits limits;
  limits.threads = threads;
  for (const ArithmeticLoop& loop : arithmetic_loops())
    limits.peaks.push_back({std::string(loop.numbers), std::string(loop.instructions)});
  FR_OK(measure_again(limits, effort));
  return limits;
}

Status measure_again(MachineLimits& limits, const LimitEffort& effort) {
  FR_TRY(const std::unique_ptr<ThreadPool> pool, ThreadPool::create(limits.threads));
  FR_OK(measure_read(*pool, effort, limits));
  const std::vector<ArithmeticLoop> loops = arithmetic_loops();
  for (std::size_t i = 0; i < loops.size(); ++i) {
    double& best = limits.peaks[i].per_second;
    best = std::max(best, measure_peak(*pool, loops[i], effort.seconds));
  }
  return {};
}

const Peak& peak_for(std::string_view dtype, const MachineLimits& limits) {
  const bool floats = dtype == "fp32" || dtype == "fp16" || dtype == "bf16";
  const bool integers = dtype == "int8" || dtype == "int4";
  const Peak* best = nullptr;
  for (const Peak& peak : limits.peaks) {
    const bool exact_fp16 = dtype == "fp16" && peak.instructions == "avx512_bf16";  // too few bits for it
    const bool usable = peak.numbers == "fp32" ||
                        (peak.numbers == "bf16" ? !integers && dtype != "fp32" && !exact_fp16 : !floats);
    if (usable && (best == nullptr || peak.per_second > best->per_second)) best = &peak;
  }
  FR_CHECK(best != nullptr);
  return *best;
}

Shares shares_of(const StepWork& work, double seconds, std::string_view dtype, const MachineLimits& limits) {
  const Peak& peak = peak_for(dtype, limits);
  Shares s;
  s.weights = work.weights / seconds / limits.read;
  s.read = (work.weights - work.skipped) / seconds / limits.read;
  s.peak = work.operations / seconds / peak.per_second;
  s.share = std::max(s.read, s.peak);
  s.limit = s.read >= s.peak ? "read" : peak.numbers + " " + peak.instructions;
  return s;
}

}  // namespace fr
