#include "cuda_emulator/fibers.h"

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>

#if defined(__SANITIZE_ADDRESS__)
#define FR_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FR_ASAN 1
#endif
#endif
#ifdef FR_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

namespace cuda_emulator {
namespace {

constexpr std::size_t stack_size = std::size_t{256} << 10;

// A place to come back to: the thread that runs the block, or a fiber of it. Under AddressSanitizer, which
// must be told of each change of stacks, switching goes through swapcontext; else through the much faster
// longjmp.
struct Fiber {
  ucontext_t context{};
  jmp_buf jump{};
  std::unique_ptr<char[]> stack;
  bool started = false, done = true;
  const std::function<bool()>* ready = nullptr;
  const char* waits_for = nullptr;
  std::size_t index = 0;
};

struct Scheduler {
  Fiber main;
  std::deque<Fiber> fibers;  // kept from block to block
  std::size_t count = 0, group = 1, running = 0, left = 0;
  const std::function<void(std::size_t)>* body = nullptr;
};
Scheduler scheduler;

void switch_to(Fiber& from, Fiber& to) {
#ifdef FR_ASAN
  void* fake_stack = nullptr;
  const void* bottom = to.stack ? static_cast<const void*>(to.stack.get()) : nullptr;
  static const void* main_bottom = nullptr;
  static std::size_t main_size = 0;
  if (&to == &scheduler.main) {
    __sanitizer_start_switch_fiber(&fake_stack, main_bottom, main_size);
  } else {
    __sanitizer_start_switch_fiber(&fake_stack, bottom, stack_size);
  }
  swapcontext(&from.context, &to.context);
  const void* old_bottom = nullptr;
  std::size_t old_size = 0;
  __sanitizer_finish_switch_fiber(fake_stack, &old_bottom, &old_size);
  (void)from;
  if (main_bottom == nullptr && &from != &scheduler.main) main_bottom = old_bottom, main_size = old_size;
#else
  if (_setjmp(from.jump) != 0) return;
  if (to.started || &to == &scheduler.main) _longjmp(to.jump, 1);
  to.started = true;
  setcontext(&to.context);
#endif
}

// The next fiber after the running one that can go on; null: none can.
Fiber* next_ready() {
  const auto ready = [](std::size_t i) {
    const Fiber& f = scheduler.fibers[i];
    return !f.done && (f.ready == nullptr || (*f.ready)());
  };
  const std::size_t first = scheduler.running / scheduler.group * scheduler.group;
  for (std::size_t i = first; i < std::min(first + scheduler.group, scheduler.count); ++i) {
    if (scheduler.group > 1 && ready(i)) return &scheduler.fibers[i];
  }
  for (std::size_t i = 1; i <= scheduler.count; ++i) {
    const std::size_t next = (scheduler.running + i) % scheduler.count;
    if (ready(next)) return &scheduler.fibers[next];
  }
  return nullptr;
}

[[noreturn]] void stuck() {
  for (std::size_t i = 0; i < scheduler.count; ++i) {
    const Fiber& f = scheduler.fibers[i];
    if (f.done) continue;
    std::fprintf(stderr, "cuda emulator: thread %zu of a block waits for ever at %s\n", i, f.waits_for);
    break;
  }
  std::abort();
}

void go_on(Fiber& from) {
  Fiber* next = scheduler.left == 0 ? &scheduler.main : next_ready();
  if (next == nullptr) stuck();
  if (next != &scheduler.main) scheduler.running = next->index;
  if (next != &from) switch_to(from, *next);
}

void fiber_main() {
  Fiber& self = scheduler.fibers[scheduler.running];
#ifdef FR_ASAN
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
  for (;;) {
    (*scheduler.body)(self.index);
    self.done = true;
    --scheduler.left;
    go_on(self);
  }
}

void add_fiber() {
  Fiber& f = scheduler.fibers.emplace_back();
  f.index = scheduler.fibers.size() - 1;
  f.stack = std::make_unique_for_overwrite<char[]>(stack_size);
  getcontext(&f.context);
  f.context.uc_stack.ss_sp = f.stack.get();
  f.context.uc_stack.ss_size = stack_size;
  f.context.uc_link = nullptr;
  makecontext(&f.context, &fiber_main, 0);
}

}  // namespace

void run_fibers(std::size_t count, std::size_t group, const std::function<void(std::size_t)>& body) {
  while (scheduler.fibers.size() < count) add_fiber();
  scheduler.count = scheduler.left = count;
  scheduler.group = group;
  scheduler.body = &body;
  for (std::size_t i = 0; i < count; ++i) scheduler.fibers[i].done = false;
  scheduler.running = 0;
  switch_to(scheduler.main, scheduler.fibers[0]);
}

void wait_until(const std::function<bool()>& ready, const char* what) {
  Fiber& self = scheduler.fibers[scheduler.running];
  if (ready()) return;
  self.ready = &ready;
  self.waits_for = what;
  go_on(self);
  self.ready = nullptr;
}

}  // namespace cuda_emulator
