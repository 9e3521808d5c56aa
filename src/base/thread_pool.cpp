#include "base/thread_pool.h"

#include <unistd.h>

#include <algorithm>
#include <string>
#include <system_error>

#include "base/cpu_info.h"

namespace fr {
namespace {

constexpr int spins_before_yield = 2000;  // some 50 us: the others are usually about to finish
constexpr int yields_before_sleep = 100;
constexpr int pieces_per_member = 4;

struct Ticket {
  static constexpr int bits = 13;  // of a number of pieces
  static constexpr std::uint64_t mask = (1u << bits) - 1;

  std::uint64_t value;
  int next() const { return static_cast<int>(value >> bits & mask); }
  int pieces() const { return static_cast<int>(value & mask); }
  bool open() const { return next() < pieces(); }
  std::uint64_t taken() const { return value + (1u << bits); }
  std::uint64_t next_stage(int pieces) const {
    return ((value >> 2 * bits) + 1) << 2 * bits | static_cast<std::uint64_t>(pieces);
  }
};

void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// The begin of piece i of n.
int split(int items, int i, int n) { return static_cast<int>(std::int64_t{items} * i / n); }

}  // namespace

Result<std::unique_ptr<ThreadPool>> ThreadPool::create(int threads) {
  FR_CHECK(threads >= 1 && threads * pieces_per_member <= static_cast<int>(Ticket::mask));
  std::unique_ptr<ThreadPool> pool(new ThreadPool(threads));
  try {
    pool->threads_.reserve(static_cast<std::size_t>(threads - 1));
    for (int i = 1; i < threads; ++i) pool->threads_.emplace_back([p = pool.get(), i] { p->serve(i); });
  } catch (const std::system_error& e) {
    return runtime_error("cannot start " + std::to_string(threads) + " threads (" + e.what() +
                         "): use fewer threads");
  }
  return pool;
}

ThreadPool::ThreadPool(int threads)
    : size_(threads), spins_(threads <= available_cpus() ? spins_before_yield : 0), process_(::getpid()) {}

ThreadPool::~ThreadPool() {
  ending_.store(true, std::memory_order_relaxed);
  changes_.fetch_add(1, std::memory_order_release);
  changes_.notify_all();
  for (std::thread& t : threads_) {
    if (::getpid() == process_) {
      t.join();
    } else {
      t.detach();
    }
  }
}

void ThreadPool::run(const StagedWork& work) {
  const std::lock_guard turn(turn_);
  work_ = &work;
  busy_.store(true, std::memory_order_relaxed);
  open_stage(0);
  for (;;) {
    const std::uint32_t seen = changes_.load(std::memory_order_acquire);
    if (!busy_.load(std::memory_order_acquire)) return;
    take_pieces(0);
    wait_for_change(seen);
  }
}

// Called by one member, while no piece is out: opens the first stage from `stage` on that has items, or ends
// the job.
void ThreadPool::open_stage(int stage) {
  const int stages = work_->stages();
  int items = 0;
  while (stage < stages && (items = work_->items(stage)) == 0) ++stage;
  const int pieces = stage == stages ? 0 : size_ == 1 ? 1 : std::min(items, size_ * pieces_per_member);
  stage_ = stage;
  items_ = items;
  done_.store(0, std::memory_order_relaxed);
  const Ticket last{ticket_.load(std::memory_order_relaxed)};
  ticket_.store(last.next_stage(pieces), std::memory_order_release);
  if (pieces == 0) busy_.store(false, std::memory_order_release);  // last: the next job may begin at once
  changes_.fetch_add(1, std::memory_order_release);
  changes_.notify_all();
}

// Does pieces for as long as there are any, of the stages that follow too.
void ThreadPool::take_pieces(int member) {
  for (;;) {
    Ticket ticket{ticket_.load(std::memory_order_acquire)};
    if (!ticket.open()) return;
    if (!ticket_.compare_exchange_weak(ticket.value, ticket.taken(), std::memory_order_acq_rel)) continue;
    const int pieces = ticket.pieces(), piece = ticket.next();
    work_->run(stage_, member, split(items_, piece, pieces), split(items_, piece + 1, pieces));
    if (done_.fetch_add(1, std::memory_order_acq_rel) + 1 == pieces) open_stage(stage_ + 1);
  }
}

// A while of looking, then of letting others run, then sleep in the kernel, so that a crowded machine is not
// held up.
void ThreadPool::wait_for_change(std::uint32_t seen) const {
  for (int i = 0; i < spins_; ++i) {
    if (changes_.load(std::memory_order_acquire) != seen) return;
    relax();
  }
  for (int i = 0; i < yields_before_sleep; ++i) {
    if (changes_.load(std::memory_order_acquire) != seen) return;
    std::this_thread::yield();
  }
  changes_.wait(seen, std::memory_order_acquire);
}

void ThreadPool::serve(int member) {
  for (std::uint32_t seen = 0;;) {
    wait_for_change(seen);
    seen = changes_.load(std::memory_order_acquire);
    if (ending_.load(std::memory_order_relaxed)) return;
    take_pieces(member);
  }
}

}  // namespace fr
