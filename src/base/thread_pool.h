// A team of threads that runs one function at a time, all members together, and the barrier they meet at.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/result.h"

namespace fr {

// Waiting spins for some microseconds (the others are usually about to arrive), then yields, then sleeps in
// the kernel, so that a crowded machine is not held up.
class Waiter {
 public:
  // spins: how often to look before yielding; 0 when there are more threads than processors.
  explicit Waiter(int spins) : spins_(spins) {}
  // Returns once `value` differs from `old`; what was written before the change is then visible.
  void wait(const std::atomic<std::uint32_t>& value, std::uint32_t old) const;

 private:
  int spins_;
};

class ThreadPool {
 public:
  // `threads` members, of which the caller of run() is the first. Error: the system gives no more threads.
  static Result<std::unique_ptr<ThreadPool>> create(int threads);
  // In a child process after fork() the threads do not exist: there the destructor does not wait for them.
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return size_; }

  // Calls f(worker) for every 0 <= worker < size(), at the same time, and returns when all have returned. f
  // must not throw and must not call run() of this pool. Calls from several threads take turns.
  template <class F>
  void run(F&& f) {
    run([](void* context, int worker) { (*static_cast<std::remove_reference_t<F>*>(context))(worker); },
        const_cast<void*>(static_cast<const void*>(&f)));
  }

  // For use inside f: returns when all members have called it. One of them, after all have arrived and before
  // any goes on, runs `last()`.
  template <class F>
  void barrier(F&& last) {
    const std::uint32_t phase = phase_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == static_cast<std::uint32_t>(size_)) {
      arrived_.store(0, std::memory_order_relaxed);
      last();
      phase_.store(phase + 1, std::memory_order_release);
      phase_.notify_all();
    } else {
      waiter_.wait(phase_, phase);
    }
  }

 private:
  using Task = void (*)(void* context, int worker);

  explicit ThreadPool(int threads);
  void run(Task task, void* context);
  void work(int worker);

  const int size_;
  const Waiter waiter_;
  const long process_;
  std::mutex turn_;
  std::vector<std::thread> threads_;
  Task task_ = nullptr;  // null in a new generation: the pool ends
  void* context_ = nullptr;
  alignas(64) std::atomic<std::uint32_t> generation_{0};
  alignas(64) std::atomic<std::uint32_t> running_{0};  // members other than the caller still inside task_
  alignas(64) std::atomic<std::uint32_t> arrived_{0};
  alignas(64) std::atomic<std::uint32_t> phase_{0};
};

}  // namespace fr
