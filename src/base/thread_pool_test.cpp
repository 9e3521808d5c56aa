#include "base/thread_pool.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>

namespace fr {
namespace {

std::unique_ptr<ThreadPool> make_pool(int threads) {
  auto pool = ThreadPool::create(threads);
  EXPECT_TRUE(pool.ok());
  return std::move(pool).value();
}

TEST(ThreadPool, EveryItemIsDoneOnce) {
  for (const int threads : {1, 2, 3, 7}) {
    const auto pool = make_pool(threads);
    ASSERT_EQ(pool->size(), threads);
    for (const int items : {0, 1, 2, 5, 29, 1000}) {
      std::vector<std::atomic<int>> done(static_cast<std::size_t>(items));
      std::atomic<int> wrong_members{0};
      for (int round = 0; round < 50; ++round) {
        pool->run(items, [&](int member, int begin, int end) {
          if (member < 0 || member >= threads || begin >= end) ++wrong_members;
          for (int i = begin; i < end; ++i) ++done[static_cast<std::size_t>(i)];
        });
      }
      for (const auto& count : done) EXPECT_EQ(count, 50) << threads << " threads, " << items << " items";
      EXPECT_EQ(wrong_members, 0);
    }
  }
}

TEST(ThreadPool, MemberZeroIsTheCallerAndMembersAreThreads) {
  const auto pool = make_pool(3);
  const std::thread::id caller = std::this_thread::get_id();
  std::vector<std::atomic<std::thread::id>> threads(3);
  std::atomic<int> mismatches{0};
  for (int round = 0; round < 100; ++round) {
    pool->run(60, [&](int member, int, int) {
      const std::thread::id now = std::this_thread::get_id();
      std::thread::id before{};
      auto& slot = threads[static_cast<std::size_t>(member)];
      if (!slot.compare_exchange_strong(before, now) && before != now) ++mismatches;
      if ((member == 0) != (now == caller)) ++mismatches;
    });
  }
  EXPECT_EQ(mismatches, 0);
}

// Each item adds up what all items of the stage before wrote: wrong as soon as one begins early.
class Sums final : public StagedWork {
 public:
  static constexpr int count = 500, width = 24;
  int stages() const override { return count; }
  int items(int stage) const override {
    ++items_calls;
    return stage % 7 == 3 ? 0 : width;
  }
  void run(int stage, int, int begin, int end) const override {
    const auto& from = values[static_cast<std::size_t>(parity(stage))];
    std::int64_t sum = 0;
    for (const std::int64_t v : from) sum += v;
    if (sum != std::int64_t{width} * (done_before(stage) + 1)) ++mismatches;
    for (int i = begin; i < end; ++i)
      values[static_cast<std::size_t>(1 - parity(stage))][static_cast<std::size_t>(i)] = sum / width + 1;
  }
  static int done_before(int stage) {  // stages that were not empty
    int n = 0;
    for (int s = 0; s < stage; ++s) n += s % 7 == 3 ? 0 : 1;
    return n;
  }
  static int parity(int stage) { return done_before(stage) % 2; }

  Sums() { values[0].fill(1); }
  mutable std::array<std::array<std::int64_t, width>, 2> values{};
  mutable std::atomic<int> mismatches{0}, items_calls{0};
};

TEST(ThreadPool, StagesComeOneAfterTheOther) {
  for (const int threads : {1, 2, 5}) {
    const auto pool = make_pool(threads);
    const Sums sums;
    pool->run(sums);
    EXPECT_EQ(sums.mismatches, 0) << threads;
    EXPECT_EQ(sums.items_calls, Sums::count);
  }
}

TEST(ThreadPool, CallsFromSeveralThreadsTakeTurns) {
  const auto pool = make_pool(2);
  std::atomic<int> owner{0}, overlaps{0}, total{0};
  const auto caller = [&](int name) {
    for (int i = 0; i < 200; ++i) {
      pool->run(8, [&](int, int begin, int end) {
        int before = 0;
        if (!owner.compare_exchange_strong(before, name) && before != name) ++overlaps;
        if ((total += end - begin) % 8 == 0) owner = 0;  // the job's last item
      });
    }
  };
  std::thread other(caller, 1);
  caller(2);
  other.join();
  EXPECT_EQ(total, 3200);
  EXPECT_EQ(overlaps, 0);
}

TEST(ThreadPool, MembersSleepAndWakeAgain) {
  const auto pool = make_pool(3);
  std::atomic<int> items{0};
  for (int i = 0; i < 3; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // long enough for the members to sleep
    pool->run(12, [&](int, int begin, int end) { items += end - begin; });
  }
  EXPECT_EQ(items, 36);
}

// A server may fork after the library was used: the child's copy has no threads, and must still be able to
// end and to start a pool of its own.
TEST(ThreadPool, ForkedChildStartsItsOwn) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "ThreadSanitizer does not follow a fork of a threaded process";
#endif
  auto pool = make_pool(3);
  pool->run(3, [](int, int, int) {});
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(20);
    pool.reset();
    auto own = ThreadPool::create(2);
    std::atomic<int> items{0};
    if (own.ok()) (*own)->run(10, [&](int, int begin, int end) { items += end - begin; });
    ::_exit(items == 10 ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

}  // namespace
}  // namespace fr
