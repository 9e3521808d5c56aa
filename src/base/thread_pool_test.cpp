#include "base/thread_pool.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <numeric>

namespace fr {
namespace {

std::unique_ptr<ThreadPool> make_pool(int threads) {
  auto pool = ThreadPool::create(threads);
  EXPECT_TRUE(pool.ok());
  return std::move(pool).value();
}

TEST(ThreadPool, EveryMemberRunsOncePerCall) {
  for (const int threads : {1, 2, 3, 7}) {
    const auto pool = make_pool(threads);
    ASSERT_EQ(pool->size(), threads);
    std::vector<int> calls(static_cast<std::size_t>(threads));
    for (int i = 0; i < 200; ++i) pool->run([&](int worker) { ++calls[static_cast<std::size_t>(worker)]; });
    EXPECT_EQ(calls, std::vector<int>(static_cast<std::size_t>(threads), 200)) << threads;
  }
}

TEST(ThreadPool, FirstMemberIsTheCaller) {
  const auto pool = make_pool(2);
  std::thread::id first, second;
  pool->run([&](int worker) { (worker == 0 ? first : second) = std::this_thread::get_id(); });
  EXPECT_EQ(first, std::this_thread::get_id());
  EXPECT_NE(second, first);
}

// Each stage adds up what all members wrote in the stage before: wrong as soon as one passes the barrier
// early.
TEST(ThreadPool, BarrierSeparatesStages) {
  constexpr int threads = 4, stages = 500;
  const auto pool = make_pool(threads);
  std::array<std::array<std::int64_t, threads>, 2> values{};
  values[0].fill(1);
  int last_runs = 0;
  std::atomic<int> mismatches{0};
  pool->run([&](int worker) {
    for (int s = 0; s < stages; ++s) {
      const auto& from = values[static_cast<std::size_t>(s % 2)];
      const std::int64_t sum = std::accumulate(from.begin(), from.end(), std::int64_t{0});
      if (sum != threads * (s + 1)) ++mismatches;
      values[static_cast<std::size_t>((s + 1) % 2)][static_cast<std::size_t>(worker)] = sum / threads + 1;
      pool->barrier([&] { ++last_runs; });
    }
  });
  EXPECT_EQ(mismatches, 0);
  EXPECT_EQ(last_runs, stages);
}

TEST(ThreadPool, CallsFromSeveralThreadsTakeTurns) {
  const auto pool = make_pool(2);
  int inside = 0, overlaps = 0, total = 0;  // written by member 0 alone
  const auto caller = [&] {
    for (int i = 0; i < 100; ++i) {
      pool->run([&](int worker) {
        if (worker != 0) return;
        if (inside++ != 0) ++overlaps;
        ++total;
        --inside;
      });
    }
  };
  std::thread other(caller);
  caller();
  other.join();
  EXPECT_EQ(overlaps, 0);
  EXPECT_EQ(total, 200);
}

TEST(ThreadPool, MembersSleepAndWakeAgain) {
  const auto pool = make_pool(3);
  std::atomic<int> calls{0};
  for (int i = 0; i < 3; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // long enough for the members to park
    pool->run([&](int) { ++calls; });
  }
  EXPECT_EQ(calls, 9);
}

// A server may fork after the library was used: the child's copy has no threads, and must still be able to
// end and to start a pool of its own.
TEST(ThreadPool, ForkedChildStartsItsOwn) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "ThreadSanitizer does not follow a fork of a threaded process";
#endif
  auto pool = make_pool(3);
  pool->run([](int) {});
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(20);
    pool.reset();
    auto own = ThreadPool::create(2);
    std::atomic<int> calls{0};
    if (own.ok()) (*own)->run([&](int) { ++calls; });
    ::_exit(calls == 2 ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

}  // namespace
}  // namespace fr
