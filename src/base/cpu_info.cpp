#include "base/cpu_info.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>

#ifdef __linux__
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
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
  unsigned leaves = 0, a = 0, b = 0, c = 0, c1 = 0, d = 0, b7 = 0, c7 = 0, d7 = 0;
  if (__get_cpuid(1, &a, &b, &c1, &d) == 0 || __get_cpuid_count(7, 0, &leaves, &b7, &c7, &d7) == 0) return f;
  unsigned a71 = 0;  // of leaf 7, 1
  if (leaves >= 1) __get_cpuid_count(7, 1, &a71, &b, &c, &d);
  const std::uint64_t saved = saved_states();
  const auto all = [](std::uint64_t value, std::uint64_t bits) { return (value & bits) == bits; };
  f.avx2 = all(saved, 0x6) && all(c1, bit_AVX | bit_FMA | bit_F16C) && all(b7, bit_AVX2);
  f.avx512 = f.avx2 && all(saved, 0xe6) && all(b7, bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL);
  constexpr unsigned vnni = 1u << 11, bf16 = 1u << 5;                                // of c7, a71
  constexpr unsigned amx_bf16 = 1u << 22, amx_tile = 1u << 24, amx_int8 = 1u << 25;  // of d7
  constexpr std::uint64_t tile_states = 3u << 17;                                    // XTILECFG, XTILEDATA
  f.avx512_vnni = f.avx512 && all(c7, vnni);
  f.avx512_bf16 = f.avx512 && all(a71, bf16);
  unsigned vendor[3] = {};
  __get_cpuid(0, &a, &vendor[0], &vendor[2], &vendor[1]);
  f.fast_bf16 = f.avx512_bf16 && std::memcmp(vendor, "AuthenticAMD", sizeof vendor) == 0;
  f.amx = f.avx512 && all(saved, tile_states) && all(d7, amx_tile | amx_bf16 | amx_int8);
  return f;
}
#else
CpuFeatures detect() { return {}; }
#endif

AmxPermission ask_for_amx() {
#if defined(__x86_64__) && defined(__linux__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned tiles = 1u << 24;  // AMX-TILE
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & tiles) == 0) return AmxPermission::no_amx;
  constexpr long request = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return ::syscall(SYS_arch_prctl, request, tile_data) == 0 ? AmxPermission::granted : AmxPermission::refused;
#else
  return AmxPermission::no_amx;
#endif
}

// The value of the first line "key : value" of /proc/cpuinfo.
std::string cpuinfo(std::string_view key) {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(':');
    if (line.starts_with(key) && colon != std::string::npos &&
        line.find_first_not_of(" \t", key.size()) == colon)
      return line.substr(std::min(line.size(), colon + 2));
  }
  return "";
}

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

constexpr std::int64_t no_limit = std::numeric_limits<std::int64_t>::max();

// The number that follows a word of a file, times `unit`; no_limit when there is none.
std::int64_t value_of(const char* path, std::string_view word, std::int64_t unit) {
  std::ifstream in(path);
  std::string found, rest;
  for (std::int64_t value = 0; in >> found >> value; std::getline(in, rest)) {
    if (found == word) return value * unit;
  }
  return no_limit;
}

// What the control group (version 2, then 1) lets its processes allocate still: the limit less what is in
// use, without the file pages that the system can drop.
std::int64_t memory_quota() {
  struct Files {
    const char *limit, *used, *details, *droppable;
  };
  constexpr Files versions[] = {
      {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat",
       "inactive_file"},
      {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes",
       "/sys/fs/cgroup/memory/memory.stat", "total_inactive_file"}};
  for (const Files& f : versions) {
    std::int64_t limit = 0, used = 0;
    if (!(std::ifstream(f.limit) >> limit) || !(std::ifstream(f.used) >> used)) continue;  // "max": no limit
    const std::int64_t droppable = value_of(f.details, f.droppable, 1);
    return limit - used + (droppable == no_limit ? 0 : std::min(droppable, used));
  }
  return no_limit;
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

// The number behind a word in a file of "word number" lines; -1 if it is not there.
std::int64_t keyed_number(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  std::string word, rest;
  for (std::int64_t n = 0; file >> word >> n; std::getline(file, rest)) {
    if (word == key) return n;
  }
  return -1;
}

}  // namespace

const CpuFeatures& cpu_features() {
  static const CpuFeatures features = detect();
  return features;
}

std::string cpu_name() {
  const std::string name = cpuinfo("model name");
  return name.empty() ? "unknown" : name;
}

std::vector<std::string> instruction_sets() {
  std::istringstream flags(cpuinfo("flags") + " " + cpuinfo("Features"));
  const std::set<std::string> all{std::istream_iterator<std::string>(flags), {}};
  std::vector<std::string> found;
  for (const char* name :
       {"sse4_2",   "avx",         "f16c",        "fma",         "avx2",     "avx_vnni", "avx512f",
        "avx512bw", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16",
        "asimd",    "asimdhp",     "asimddp",     "i8mm",        "bf16",     "sve",      "sve2"}) {
    if (all.contains(name)) found.emplace_back(name);
  }
  return found;
}

std::int64_t cache_size() {
  std::int64_t largest = 0;
  for (int i = 0; i < 5; ++i) {
    std::ifstream file("/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(i) + "/size");
    std::int64_t size = 0;
    char unit = 0;
    if (file >> size >> unit) largest = std::max(largest, size * (unit == 'M' ? 1 << 20 : 1 << 10));
  }
  return largest;
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

AmxPermission amx_permission() {
  static const AmxPermission answer = ask_for_amx();
  return answer;
}

bool request_amx() { return cpu_features().amx && amx_permission() == AmxPermission::granted; }

MemoryInfo memory_info() {
  constexpr std::int64_t unknown = std::numeric_limits<std::int64_t>::max();
  MemoryInfo m{unknown, unknown, unknown};
  if (const auto total = keyed_number("/proc/meminfo", "MemTotal:"); total >= 0) m.total = total * 1024;
  if (const auto n = keyed_number("/proc/meminfo", "MemAvailable:"); n >= 0) m.available = n * 1024;
  // Control groups, version 2, then 1. Of the memory in use, file pages that were not touched lately are
  // given back first.
  const std::string v2 = "/sys/fs/cgroup/", v1 = "/sys/fs/cgroup/memory/";
  for (const auto& [limit_file, use_file, stat_file, key] :
       {std::array{v2 + "memory.max", v2 + "memory.current", v2 + "memory.stat",
                   std::string("inactive_file")},
        std::array{v1 + "memory.limit_in_bytes", v1 + "memory.usage_in_bytes", v1 + "memory.stat",
                   std::string("total_inactive_file")}}) {
    std::int64_t limit = 0, used = 0;
    if (!(std::ifstream(limit_file) >> limit) || !(std::ifstream(use_file) >> used)) continue;
    if (limit >= m.total) break;  // version 1 writes a huge number for "none"
    m.limit = limit;
    const std::int64_t given_back = std::max<std::int64_t>(0, keyed_number(stat_file, key));
    m.available = std::clamp<std::int64_t>(limit - used + given_back, 0, m.available);
    break;
  }
  return m;
}

std::int64_t available_memory() {
  const std::int64_t system = value_of("/proc/meminfo", "MemAvailable:", 1024);
  return std::max(std::int64_t{0}, std::min(system, memory_quota()));
}

}  // namespace fr
