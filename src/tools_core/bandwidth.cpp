#include "tools_core/bandwidth.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <thread>
#include <vector>

namespace fr {
namespace {

using Clock = std::chrono::steady_clock;

std::uint64_t sum(std::span<const std::uint64_t> data) {
  std::uint64_t s[8] = {};
  for (std::size_t i = 0; i + 8 <= data.size(); i += 8) {
    for (std::size_t k = 0; k < 8; ++k) s[k] += data[i + k];
  }
  std::uint64_t total = 0;
  for (const std::uint64_t v : s) total += v;
  return total;
}

int available_cores() {
  cpu_set_t set;
  if (::sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace

Result<double> measure_read_bandwidth(int threads) {
  const auto n_threads = static_cast<std::size_t>(threads > 0 ? threads : available_cores());
  constexpr int repeats = 5;
  std::unique_ptr<std::uint64_t[]> data;
  std::size_t words = (std::size_t{512} << 20) / sizeof(std::uint64_t);
  while (!data && words > (1u << 20)) {
    data.reset(new (std::nothrow) std::uint64_t[words]);
    if (!data) words /= 2;
  }
  if (!data) return runtime_error("not enough memory to measure the bandwidth (bench): free 8 MiB");

  std::atomic<std::uint64_t> result{0};
  std::barrier<> gate(static_cast<std::ptrdiff_t>(n_threads));
  std::vector<double> seconds(repeats);
  const auto work = [&](std::size_t t) {
    const std::size_t begin = words * t / n_threads, end = words * (t + 1) / n_threads;
    const std::span<std::uint64_t> mine(data.get() + begin, end - begin);
    std::fill(mine.begin(), mine.end(), t + 1);  // pages that exist
    for (int r = 0; r < repeats; ++r) {
      gate.arrive_and_wait();
      const auto start = Clock::now();
      result += sum(mine);
      gate.arrive_and_wait();
      if (t == 0)
        seconds[static_cast<std::size_t>(r)] = std::chrono::duration<double>(Clock::now() - start).count();
    }
  };
  std::vector<std::jthread> helpers;
  for (std::size_t t = 1; t < n_threads; ++t) helpers.emplace_back(work, t);
  work(0);
  helpers.clear();
  const double best = *std::min_element(seconds.begin(), seconds.end());
  return static_cast<double>(words * sizeof(std::uint64_t)) / best;
}

}  // namespace fr
