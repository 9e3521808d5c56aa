// What must hold for any bytes given to a reader, and damages to right files: for the tests of hostile files.
// Include it in one file of a program: it replaces operator new to count what is allocated.
#pragma once
#include <gtest/gtest.h>

#include <cstdlib>
#include <ctime>
#include <random>

#include "base/test_allocations.h"
#include "formats/layout.h"
#include "formats/test_files.h"

namespace fr::test {

#ifdef FR_SANITIZED  // slow
inline constexpr double seconds_allowed = 60;
#else
inline constexpr double seconds_allowed = 5;
#endif

using Parse = Result<Checkpoint> (*)(std::span<const std::byte>, std::string_view);

inline void expect_readable(const Checkpoint& c, std::string_view file) {
  EXPECT_TRUE(views_are_inside(c, bytes_of(file)));
  for (const TensorView& t : c.tensors) {
    EXPECT_LE(static_cast<std::uint64_t>(t.size() / block_size(t.dtype)) * dtype_size(t.dtype), file.size());
    if (t.readable() && t.size() < 1000) values_of(t);  // reads each element, for the sanitizers
  }
}

// What must hold for any bytes. Says whether they were read.
inline bool check(Parse parse, const std::string& file, const Checkpoint* must_equal = nullptr) {
  const std::size_t before = live_bytes;
  peak_bytes = before;
  const std::clock_t start = std::clock();  // processor time: the machine may be busy
  bool ok = false;
  {
    auto c = parse(bytes_of(file), "f");
    ok = c.ok();
    if (!ok) {
      EXPECT_TRUE(is_good_message(c.error(), "f")) << c.error().message;
      EXPECT_LT(c.error().message.size(), 600u);
      EXPECT_EQ(c.error().code, ErrorCode::invalid_file);
    } else {
      expect_readable(*c, file);
      if (must_equal != nullptr) {
        EXPECT_EQ(c->tensors.size(), must_equal->tensors.size());
        for (std::size_t i = 0; i < std::min(c->tensors.size(), must_equal->tensors.size()); ++i) {
          const TensorView &a = c->tensors[i], &b = must_equal->tensors[i];
          EXPECT_TRUE(a.name == b.name && a.dtype == b.dtype && a.shape == b.shape && a.stride == b.stride);
        }
      }
      const Status official = to_official_layout(*c);
      if (official.ok()) {
        expect_readable(*c, file);
      } else {
        EXPECT_TRUE(is_good_message(official.error(), "f")) << official.error().message;
      }
    }
  }
  EXPECT_LT(static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC, seconds_allowed);
  EXPECT_LE(peak_bytes - before, file.size() + (std::size_t{64} << 20));
  return ok;
}

// One of many small damages to a right file: a cut, a lying field, flipped bits, a doubled, dropped or moved
// part.
inline std::string damaged(const std::string& good, std::mt19937_64& random) {
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  std::string f = good;
  const std::size_t at = below(f.size());
  switch (below(8)) {
    case 0:
      return f.substr(0, at);
    case 1:
      f[at] = static_cast<char>(f[at] ^ (1 << below(8)));
      return f;
    case 2:
      f[at] = static_cast<char>(random());
      return f;
    case 3:
      return f.erase(at, 1 + below(16));
    case 4:
      return f.insert(at, f.substr(below(f.size()), 1 + below(64)));
    case 5:
      return f.insert(at, below(40), static_cast<char>(random()));
    case 6:
      f[at] = static_cast<char>(f[at] + 1 - 2 * static_cast<int>(below(2)));
      return f;
    default: {
      constexpr std::uint64_t values[] = {0,
                                          1,
                                          0x7f,
                                          0xff,
                                          0x7fff,
                                          0xffff,
                                          0x7fffffff,
                                          0xffffffff,
                                          0x7fffffffffffffff,
                                          0x8000000000000000,
                                          0xfffffffffffffff0,
                                          0xffffffffffffffff};
      const std::size_t width = std::size_t{1} << below(4);
      const std::string field = le(values[below(std::size(values))]).substr(0, width);
      return f.replace(at, std::min(width, f.size() - at), field);
    }
  }
}

}  // namespace fr::test
