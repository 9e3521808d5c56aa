#include "base/cpu_info.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <set>
#include <string>
#include <thread>

#ifdef __linux__
#include <sched.h>
#endif
#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif

namespace fr {
namespace {

#if defined(__x86_64__) || defined(__i386__)
// Which register states the operating system saves (XCR0), or 0 if it does not say.
std::uint64_t saved_states() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & bit_OSXSAVE) == 0) return 0;
  unsigned low = 0, high = 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (std::uint64_t{high} << 32) | low;
}

CpuFeatures detect() {
  CpuFeatures f;
  unsigned a = 0, b = 0, c1 = 0, d = 0, b7 = 0, c7 = 0;
  if (__get_cpuid(1, &a, &b, &c1, &d) == 0 || __get_cpuid_count(7, 0, &a, &b7, &c7, &d) == 0) return f;
  const std::uint64_t saved = saved_states();
  const auto all = [](std::uint64_t value, std::uint64_t bits) { return (value & bits) == bits; };
  f.avx2 = all(saved, 0x6) && all(c1, bit_AVX | bit_FMA | bit_F16C) && all(b7, bit_AVX2);
  f.avx512 = f.avx2 && all(saved, 0xe6) && all(b7, bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL);
  return f;
}
#else
CpuFeatures detect() { return {}; }
#endif

// CPU time per wall time that the control group grants (version 2, then 1); infinite without a limit.
double cpu_quota() {
  std::string quota;
  double period = 0;
  if (std::ifstream v2("/sys/fs/cgroup/cpu.max"); v2 >> quota >> period && quota != "max" && period > 0) {
    return std::strtod(quota.c_str(), nullptr) / period;
  }
  double limit = -1;
  std::ifstream v1("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), v1_period("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  if (v1 >> limit && v1_period >> period && limit > 0 && period > 0) return limit / period;
  return std::numeric_limits<double>::infinity();
}

int within_quota(int cpus) {
  const double quota = cpu_quota();
  return std::max(1, quota < cpus ? static_cast<int>(std::ceil(quota)) : cpus);
}

// The processors of the affinity mask.
std::set<int> affinity() {
  std::set<int> cpus;
#ifdef __linux__
  cpu_set_t mask;
  if (::sched_getaffinity(0, sizeof mask, &mask) == 0) {
    for (int i = 0; i < CPU_SETSIZE; ++i) {
      if (CPU_ISSET(static_cast<std::size_t>(i), &mask)) cpus.insert(i);
    }
  }
#endif
  if (cpus.empty()) {
    for (int i = 0; i < std::max(1, static_cast<int>(std::thread::hardware_concurrency())); ++i)
      cpus.insert(i);
  }
  return cpus;
}

}  // namespace

const CpuFeatures& cpu_features() {
  static const CpuFeatures features = detect();
  return features;
}

int available_cpus() { return within_quota(static_cast<int>(affinity().size())); }

int available_cores() {
  // Hyperthreads of one core have equal sibling lists ("0,4" or "0-1"); a processor without a list is a core.
  std::set<std::string> cores;
  for (const int cpu : affinity()) {
    std::string siblings;
    std::ifstream list("/sys/devices/system/cpu/cpu" + std::to_string(cpu) +
                       "/topology/thread_siblings_list");
    cores.insert(list >> siblings ? siblings : "cpu" + std::to_string(cpu));
  }
  return within_quota(static_cast<int>(cores.size()));
}

std::int64_t available_memory() {
  std::ifstream info("/proc/meminfo");
  std::string key, unit;
  for (std::int64_t kib = 0; info >> key >> kib; std::getline(info, unit)) {
    if (key == "MemAvailable:") return kib * 1024;
  }
  return std::numeric_limits<std::int64_t>::max();
}

}  // namespace fr
