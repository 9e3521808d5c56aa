#include "base/cpu_info.h"

#include <gtest/gtest.h>

#ifdef __linux__
#include <sched.h>
#endif

#include <algorithm>
#include <string>
#include <thread>
#include <vector>

#include "base/aligned_buffer.h"

namespace fr {
namespace {

TEST(CpuInfo, CoresAreWithinProcessors) {
  EXPECT_GE(available_cores(), 1);
  EXPECT_LE(available_cores(), available_cpus());
  EXPECT_LE(available_cpus(), static_cast<int>(std::thread::hardware_concurrency()));
}

#ifdef __linux__
TEST(CpuInfo, RespectsTheAffinityMask) {
  std::thread([] {  // a thread's mask is its own: the test program keeps its processors
    cpu_set_t mask;
    ASSERT_EQ(::sched_getaffinity(0, sizeof mask, &mask), 0);
    std::size_t first = 0;
    while (!CPU_ISSET(first, &mask)) ++first;
    CPU_ZERO(&mask);
    CPU_SET(first, &mask);
    ASSERT_EQ(::sched_setaffinity(0, sizeof mask, &mask), 0);
    EXPECT_EQ(available_cpus(), 1);
    EXPECT_EQ(available_cores(), 1);
  })
      .join();
}
#endif

TEST(CpuInfo, FeaturesAreNested) {
  const CpuFeatures& f = cpu_features();
  EXPECT_TRUE(f.avx2 || !f.avx512);
  EXPECT_TRUE(f.avx512 || !(f.avx512_vnni || f.avx512_bf16 || f.amx));
}

#if defined(__x86_64__) && defined(__linux__)
// The system lists what it lets programs use; it may hide what the processor has, never the reverse.
TEST(CpuInfo, FeaturesAreThoseOfTheSystem) {
  const std::vector<std::string> sets = instruction_sets();
  const auto has = [&](const char* name) { return std::find(sets.begin(), sets.end(), name) != sets.end(); };
  const CpuFeatures& f = cpu_features();
  EXPECT_EQ(f.avx2, has("avx2") && has("fma") && has("f16c"));
  EXPECT_EQ(f.avx512_vnni, f.avx512 && has("avx512_vnni"));
  EXPECT_EQ(f.avx512_bf16, f.avx512 && has("avx512_bf16"));
  EXPECT_TRUE(f.avx512_bf16 || !f.fast_bf16);
  EXPECT_EQ(f.amx, f.avx512 && has("amx_tile") && has("amx_bf16") && has("amx_int8"));
}
#endif

TEST(CpuInfo, TheCacheIsNoMemory) {
  EXPECT_GE(cache_size(), 0);
  EXPECT_LT(cache_size(), memory_info().total);
}

TEST(CpuInfo, MemoryIsPlausible) { EXPECT_GT(available_memory(), std::int64_t{1} << 20); }

TEST(CpuInfo, MemoryIsWithinItsLimits) {
  const MemoryInfo m = memory_info();
  EXPECT_LE(m.available, m.total);
  EXPECT_LE(m.available, m.limit);
}

TEST(CpuInfo, AmxAnswersTheSameOnAllThreads) {
  const bool granted = request_amx();
  EXPECT_TRUE(cpu_features().amx || !granted);
  EXPECT_EQ(granted, cpu_features().amx && amx_permission() == AmxPermission::granted);
  std::thread([&] { EXPECT_EQ(request_amx(), granted); }).join();
}

TEST(CpuInfo, TheProcessorHasAName) {
  EXPECT_FALSE(cpu_name().empty());
  EXPECT_EQ(cpu_name().find('\n'), std::string::npos);
}

TEST(AlignedBuffer, AlignsAndMoves) {
  for (const std::size_t bytes : {std::size_t{1}, std::size_t{100}, std::size_t{5} << 20}) {
    auto made = AlignedBuffer::allocate(bytes, "test");
    ASSERT_TRUE(made.ok());
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(made->data()) % AlignedBuffer::alignment, 0u);
    EXPECT_EQ(made->size(), bytes);
    made->data()[bytes - 1] = std::byte{42};
    AlignedBuffer moved = std::move(*made);
    EXPECT_EQ(moved.data()[bytes - 1], std::byte{42});
  }
}

TEST(AlignedBuffer, TooMuchIsAnErrorWithTheSize) {
  const auto made = AlignedBuffer::allocate(std::size_t{1} << 60, "the test");
  ASSERT_FALSE(made.ok());
  EXPECT_NE(made.error().message.find("1099511627776 MB (the test)"), std::string::npos)
      << made.error().message;
  EXPECT_FALSE(AlignedBuffer::allocate(SIZE_MAX, "the test").ok());
}

}  // namespace
}  // namespace fr
