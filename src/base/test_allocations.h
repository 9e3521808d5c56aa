// For tests of memory bounds: counts what operator new hands out. Include it in one source file of a test
// program. Under a sanitizer, which brings its own allocator, nothing is counted and peaks are 0.
#pragma once
#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <new>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FR_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define FR_SANITIZED 1
#endif
#endif

namespace fr::test {

inline std::atomic<std::size_t> live_bytes{0}, peak_bytes{0};

// The most that is allocated at a time while `run` runs, in bytes.
template <class F>
std::size_t peak_allocation(F&& run) {
  const std::size_t before = live_bytes;
  peak_bytes = before;
  run();
  return peak_bytes - before;
}

}  // namespace fr::test

#ifndef FR_SANITIZED
void* operator new(std::size_t size) {
  void* p = std::malloc(size);
  if (p == nullptr) throw std::bad_alloc();
  const std::size_t now = fr::test::live_bytes += ::malloc_usable_size(p);
  if (now > fr::test::peak_bytes) fr::test::peak_bytes = now;
  return p;
}
void operator delete(void* p) noexcept {
  fr::test::live_bytes -= ::malloc_usable_size(p);
  std::free(p);
}
void operator delete(void* p, std::size_t) noexcept { operator delete(p); }
#endif
