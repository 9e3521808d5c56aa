// Rows of small numbers to columns, in vectors of 16 bytes, which every processor of interest has.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace fr::cpu {

namespace transpose_detail {

typedef std::uint8_t Bytes __attribute__((vector_size(16)));
typedef std::uint16_t Shorts __attribute__((vector_size(16)));
typedef std::uint32_t Words __attribute__((vector_size(16)));

// The first halves of both, number by number in turn; the second halves.
inline Bytes low(Bytes a, Bytes b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
inline Bytes high(Bytes a, Bytes b) {
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
inline Shorts low(Shorts a, Shorts b) { return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
inline Shorts high(Shorts a, Shorts b) { return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
inline Words low(Words a, Words b) { return __builtin_shufflevector(a, b, 0, 4, 1, 5); }
inline Words high(Words a, Words b) { return __builtin_shufflevector(a, b, 2, 6, 3, 7); }

// Number j of v[i] becomes number i of v[j]: a perfect shuffle, as often as n can be halved.
template <class V, int n>
inline void square(V (&v)[n]) {
  for (int step = 1; step < n; step *= 2) {
    V t[n];
    for (int i = 0; i < n / 2; ++i) {
      t[2 * i] = low(v[i], v[i + n / 2]);
      t[2 * i + 1] = high(v[i], v[i + n / 2]);
    }
    for (int i = 0; i < n; ++i) v[i] = t[i];
  }
}

}  // namespace transpose_detail

// Number i of row r, of `size` bytes (1, 2, 4), goes to `to + i * step + r * size`. rows: a multiple of 16 /
// size.
template <int size>
void transpose(const std::byte* const* row, int rows, int count, std::byte* to, std::ptrdiff_t step) {
  namespace d = transpose_detail;
  using V = std::conditional_t<size == 1, d::Bytes, std::conditional_t<size == 2, d::Shorts, d::Words>>;
  constexpr int n = 16 / size;
  int i = 0;
  for (; i + n <= count; i += n) {
    for (int r = 0; r < rows; r += n) {
      V v[n];
      for (int j = 0; j < n; ++j) std::memcpy(&v[j], row[r + j] + i * size, 16);
      d::square(v);
      for (int j = 0; j < n; ++j) std::memcpy(to + (i + j) * step + r * size, &v[j], 16);
    }
  }
  for (; i < count; ++i) {
    for (int r = 0; r < rows; ++r) std::memcpy(to + i * step + r * size, row[r] + i * size, size);
  }
}

}  // namespace fr::cpu
