// A team of threads that does one job at a time: stages one after the other, each a number of items that any
// member may do in any order.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

#include "base/result.h"

namespace fr {

class StagedWork {
 public:
  virtual ~StagedWork() = default;
  virtual int stages() const = 0;
  // Of one stage, may be 0; asked once, when all stages before are done.
  virtual int items(int stage) const = 0;
  // Does items [begin, end). member: 0 <= member < ThreadPool::size(), never in two calls at the same time,
  // so that it may choose scratch memory. Must not throw.
  virtual void run(int stage, int member, int begin, int end) const = 0;
};

// Items are handed out in pieces, and nobody waits for a member that has none: one that the system keeps from
// running costs a job at most the piece it holds.
class ThreadPool {
 public:
  // `threads` members, of which the caller of run() is the first. Error: the system gives no more threads.
  static Result<std::unique_ptr<ThreadPool>> create(int threads);
  // In a child process after fork() the threads do not exist: there the destructor does not wait for them.
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return size_; }

  // Returns when all stages are done. Calls from several threads take turns; work must not call run() of the
  // same pool.
  void run(const StagedWork& work);
  // The same for a single stage: f(member, begin, end).
  template <class F>
  void run(int items, F&& f);

 private:
  explicit ThreadPool(int threads);
  void open_stage(int stage);
  void take_pieces(int member);
  void wait_for_change(std::uint32_t seen) const;
  void serve(int member);

  const int size_;
  const int spins_;  // looks before giving the processor away
  const long process_;
  std::mutex turn_;
  std::vector<std::thread> threads_;

  // The job at hand; written only while no piece is out.
  const StagedWork* work_ = nullptr;
  int stage_ = 0, items_ = 0;
  // Number of the stage since the start, next piece, number of pieces: a piece is taken by counting up the
  // second, which fails if the stage is not the one that was looked at.
  alignas(64) std::atomic<std::uint64_t> ticket_{0};
  alignas(64) std::atomic<int> done_{0};  // pieces of the stage
  // Counts stages and ends of jobs: what members with nothing to do wait for.
  alignas(64) std::atomic<std::uint32_t> changes_{0};
  std::atomic<bool> busy_{false}, ending_{false};
};

template <class F>
void ThreadPool::run(int items, F&& f) {
  struct OneStage final : StagedWork {
    OneStage(int n, std::remove_reference_t<F>& function) : count(n), f(function) {}
    int stages() const override { return 1; }
    int items(int) const override { return count; }
    void run(int, int member, int begin, int end) const override { f(member, begin, end); }
    const int count;
    std::remove_reference_t<F>& f;
  };
  run(OneStage(items, f));
}

}  // namespace fr
