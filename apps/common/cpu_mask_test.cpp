#include "common/cpu_mask.h"

#include <gtest/gtest.h>

#ifdef __linux__
#include <sched.h>
#endif

#include <thread>

#include "faster_rwkv/fr.hpp"

namespace fr::app {
namespace {

using Cpus = std::vector<int>;

TEST(CpuMask, BitsAreProcessors) {
  EXPECT_EQ(parse_cpu_mask("1"), Cpus{0});
  EXPECT_EQ(parse_cpu_mask("3"), (Cpus{0, 1}));
  EXPECT_EQ(parse_cpu_mask("0x0aF"), (Cpus{0, 1, 2, 3, 5, 7}));
  EXPECT_EQ(parse_cpu_mask("0X80"), Cpus{7});
  EXPECT_EQ(parse_cpu_mask("1,00000002"), (Cpus{1, 32}));
  EXPECT_EQ(parse_cpu_mask("8" + std::string(255, '0')), Cpus{1023});
  EXPECT_EQ(parse_cpu_mask(std::string(1000, '0') + "1"), Cpus{0});
}

std::string error_of(const std::string& mask, void (*f)(const std::string&)) {
  try {
    f(mask);
  } catch (const faster_rwkv::Error& e) {
    EXPECT_EQ(e.code(), FR_ERROR_USAGE);
    return e.what();
  }
  return "";
}

TEST(CpuMask, WrongOnesAreUsageErrors) {
  const auto parse = [](const std::string& mask) { parse_cpu_mask(mask); };
  for (const char* mask : {"", "0x", ",", "g", "-1", "1 ", "1.0", "0q1", "3x"})
    EXPECT_NE(error_of(mask, parse).find("is no hexadecimal number (--cpu-mask)"), std::string::npos) << mask;
  for (const char* mask : {"0", "0x00", "0,0"})
    EXPECT_NE(error_of(mask, parse).find("names no processor"), std::string::npos) << mask;
  EXPECT_NE(error_of("1" + std::string(256, '0'), parse).find("beyond 1023"), std::string::npos);
}

#ifdef __linux__
TEST(CpuMask, ThreadsStartedLaterFollow) {
  std::thread([] {  // a thread's mask is its own: the test program keeps its processors
    cpu_set_t before, after;
    ASSERT_EQ(::sched_getaffinity(0, sizeof before, &before), 0);
    std::size_t first = 0;
    while (!CPU_ISSET(first, &before)) ++first;

    const std::string missing = "8" + std::string(255, '0');
    EXPECT_NE(error_of(missing, set_cpu_mask).find("processor 1023, which this process does not have"),
              std::string::npos);
    // One that is there does not help one that is not.
    std::string both = missing;
    both[both.size() - 1 - first / 4] = static_cast<char>('0' + (1 << first % 4));
    EXPECT_NE(error_of(both, set_cpu_mask).find("processor 1023"), std::string::npos);
    ASSERT_EQ(::sched_getaffinity(0, sizeof after, &after), 0);
    EXPECT_TRUE(CPU_EQUAL(&before, &after));

    std::string mask(first / 4 + 1, '0');
    mask[0] = static_cast<char>('0' + (1 << first % 4));
    set_cpu_mask(mask);
    std::thread([&] { ASSERT_EQ(::sched_getaffinity(0, sizeof after, &after), 0); }).join();
    EXPECT_EQ(CPU_COUNT(&after), 1);
    EXPECT_TRUE(CPU_ISSET(first, &after));
  })
      .join();
}
#endif

}  // namespace
}  // namespace fr::app
