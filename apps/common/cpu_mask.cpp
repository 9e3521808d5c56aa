#include "common/cpu_mask.h"

#ifdef __linux__
#include <sched.h>
#endif

#include <algorithm>

#include "faster_rwkv/fr.hpp"

namespace fr::app {
namespace {

constexpr int most_cpus = 1024;

[[noreturn]] void wrong(const std::string& what) {
  throw faster_rwkv::Error(FR_ERROR_USAGE,
                           what + " (--cpu-mask): give the processors as bits, 3 for the first two");
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char low = static_cast<char>(c | 0x20);
  return low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
}

}  // namespace

std::vector<int> parse_cpu_mask(const std::string& mask) {
  const bool prefixed = mask.starts_with("0x") || mask.starts_with("0X");
  const std::string digits = mask.substr(prefixed ? 2 : 0);
  std::vector<int> cpus;
  int cpu = 0;
  bool any = false;
  for (auto c = digits.rbegin(); c != digits.rend(); ++c) {
    if (*c == ',') continue;
    const int value = hex_digit(*c);
    if (value < 0) wrong("'" + mask + "' is no hexadecimal number");
    any = true;
    for (int bit = 0; bit < 4; ++bit, ++cpu) {
      if ((value >> bit & 1) == 0) continue;
      if (cpu >= most_cpus) wrong("'" + mask + "' names processors beyond " + std::to_string(most_cpus - 1));
      cpus.push_back(cpu);
    }
  }
  if (!any) wrong("'" + mask + "' is no hexadecimal number");
  if (cpus.empty()) wrong("'" + mask + "' names no processor");
  return cpus;
}

void set_cpu_mask(const std::string& mask) {
  const std::vector<int> cpus = parse_cpu_mask(mask);
#ifdef __linux__
  static_assert(most_cpus <= CPU_SETSIZE);
  cpu_set_t before, wanted, now;
  CPU_ZERO(&wanted);
  for (const int cpu : cpus) CPU_SET(static_cast<std::size_t>(cpu), &wanted);
  const bool known = ::sched_getaffinity(0, sizeof before, &before) == 0;
  CPU_ZERO(&now);
  if (::sched_setaffinity(0, sizeof wanted, &wanted) == 0) ::sched_getaffinity(0, sizeof now, &now);
  // The system takes a mask with processors that do not exist, and leaves them out.
  const auto missing = std::find_if(cpus.begin(), cpus.end(),
                                    [&](int cpu) { return !CPU_ISSET(static_cast<std::size_t>(cpu), &now); });
  if (missing == cpus.end()) return;
  if (known) ::sched_setaffinity(0, sizeof before, &before);
  wrong("'" + mask + "' names processor " + std::to_string(*missing) + ", which this process does not have");
#else
  throw faster_rwkv::Error(FR_ERROR_USAGE,
                           "processors cannot be chosen on this system (--cpu-mask): leave it out");
#endif
}

}  // namespace fr::app
