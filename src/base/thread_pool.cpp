#include "base/thread_pool.h"

#include <unistd.h>

#include <string>
#include <system_error>

#include "base/cpu_info.h"

namespace fr {
namespace {

constexpr int spins_before_yield = 2000;  // some 50 us
constexpr int yields_before_sleep = 100;

void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

}  // namespace

void Waiter::wait(const std::atomic<std::uint32_t>& value, std::uint32_t old) const {
  for (int i = 0; i < spins_; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    relax();
  }
  for (int i = 0; i < yields_before_sleep; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    std::this_thread::yield();
  }
  value.wait(old, std::memory_order_acquire);
}

Result<std::unique_ptr<ThreadPool>> ThreadPool::create(int threads) {
  FR_CHECK(threads >= 1);
  std::unique_ptr<ThreadPool> pool(new ThreadPool(threads));
  try {
    pool->threads_.reserve(static_cast<std::size_t>(threads - 1));
    for (int i = 1; i < threads; ++i) pool->threads_.emplace_back([p = pool.get(), i] { p->work(i); });
  } catch (const std::system_error& e) {
    return runtime_error("cannot start " + std::to_string(threads) + " threads (" + e.what() +
                         "): use fewer threads");
  }
  return pool;
}

ThreadPool::ThreadPool(int threads)
    : size_(threads), waiter_(threads <= available_cpus() ? spins_before_yield : 0), process_(::getpid()) {}

ThreadPool::~ThreadPool() {
  task_ = nullptr;
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  for (std::thread& t : threads_) {
    if (::getpid() == process_) {
      t.join();
    } else {
      t.detach();
    }
  }
}

void ThreadPool::run(Task task, void* context) {
  const std::lock_guard turn(turn_);
  task_ = task;
  context_ = context;
  running_.store(static_cast<std::uint32_t>(size_ - 1), std::memory_order_relaxed);
  if (size_ > 1) {
    generation_.fetch_add(1, std::memory_order_release);
    generation_.notify_all();
  }
  task(context, 0);
  for (;;) {
    const std::uint32_t left = running_.load(std::memory_order_acquire);
    if (left == 0) return;
    waiter_.wait(running_, left);
  }
}

void ThreadPool::work(int worker) {
  for (std::uint32_t seen = 0;; ++seen) {
    waiter_.wait(generation_, seen);
    if (task_ == nullptr) return;
    task_(context_, worker);
    if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) running_.notify_one();
  }
}

}  // namespace fr
