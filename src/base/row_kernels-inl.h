// The functions of row_kernels.h for the instruction set of the file that includes this. q8_0 and q4_0 are
// ggml's arithmetic (a tie may fall the other way); the search for the scales of q4_k is our own.
#pragma once
#include "base/lanes-inl.h"
#include "base/q4_k-inl.h"
#include "base/row_kernels.h"

namespace fr {
namespace {

template <Floats (*convert)(Ints)>
void from_16_bits(const void* from, size_t n, float* to) {
  const auto* p = static_cast<const char*>(from);
  for (; n >= lanes; n -= lanes, p += sizeof(Halves), to += lanes)
    store(convert(widened(load<Halves>(p))), to);
  Halves last = {};
  __builtin_memcpy(&last, p, n * 2);
  const Floats numbers = convert(widened(last));
  __builtin_memcpy(to, &numbers, n * 4);
}

template <Ints (*convert)(Floats), int32_t infinity>
bool to_16_bits(const float* from, size_t n, void* to) {
  auto* p = static_cast<char*>(to);
  Ints infinite = {};
  for (; n >= lanes; n -= lanes, from += lanes, p += sizeof(Halves)) {
    const Ints bits = convert(load<Floats>(from));
    infinite |= less(set1(infinity - 1), bits & infinity);
    store(low_halves(bits), p);
  }
  Floats last = {};
  __builtin_memcpy(&last, from, n * 4);
  const Ints bits = convert(last);
  const Halves stored = low_halves(bits);
  __builtin_memcpy(p, &stored, n * 2);
  infinite |= less(set1(infinity - 1), bits & infinity);
  int32_t any = 0;
  for (int i = 0; i < lanes; ++i) any |= infinite[i];
  return any == 0;
}

// False if the step is not finite as a half.
bool put_step(float d, uint8_t* b) {
  const auto half = static_cast<uint16_t>(to_half(set1(d))[0]);
  __builtin_memcpy(b, &half, sizeof half);
  return (half & 0x7c00) != 0x7c00;
}
// The largest magnitude of 32 numbers; a NaN if one is not finite.
float magnitude(const float* from) {
  Floats largest = {}, check = {};
  for (int i = 0; i < group; i += lanes) {
    const Floats v = load<Floats>(from + i);
    largest = most(largest, as_floats(as_ints(v) & 0x7fffffff));
    check += v * set1(0.0f);
  }
  float sum = 0;
  for (int i = 0; i < lanes; ++i) sum += check[i];
  return top_of(largest) + sum;
}

bool q8_0(const float* from, uint8_t* b) {
  const float d = magnitude(from) / 127.0f;
  const Floats inverse = inverse_of(set1(d));
  if (!put_step(d, b)) return false;
  Ints words = {};  // byte i of a lane: of vector i
  for (int i = 0; i < group / lanes; ++i) {
    const Floats scaled = load<Floats>(from + i * lanes) * inverse;
    const Floats half = as_floats((as_ints(scaled) & as_ints(set1(-0.0f))) | as_ints(set1(0.5f)));
    words |= (to_ints(scaled + half) & 255) << (8 * i);
  }
  const Bytes v = reinterpret_cast<Bytes>(words);
  store(__builtin_shufflevector(v, v, 0, 4, 8, 12, 16, 20, 24, 28, 1, 5, 9, 13, 17, 21, 25, 29,  //
                                2, 6, 10, 14, 18, 22, 26, 30, 3, 7, 11, 15, 19, 23, 27, 31),
        b + 2);
  return true;
}

// The number of largest magnitude, the first of equals, becomes code 0, that is -8.
bool q4_0(const float* from, uint8_t* b) {
  const float largest = magnitude(from);
  int first = 0;
  while (first < group - 1 && __builtin_fabsf(from[first]) < largest) ++first;
  const float d = from[first] / -8.0f;
  const float inverse = __builtin_copysignf(inverse_of(set1(__builtin_fabsf(d)))[0], d);
  if (!(largest >= 0) || !put_step(d, b)) return false;
  uint8_t codes[group];
  for (int i = 0; i < group; ++i) {
    const double scaled = double{from[i]} * double{inverse} + 8.5;
    codes[i] = static_cast<uint8_t>(static_cast<int32_t>(scaled < 15.5 ? scaled : 15.5));
  }
  for (int i = 0; i < group / 2; ++i) b[2 + i] = static_cast<uint8_t>(codes[i] | codes[i + group / 2] << 4);
  return true;
}

constexpr RowKernels row_kernels{from_16_bits<from_half>,
                                 from_16_bits<from_bf16>,
                                 to_16_bits<to_half, 0x7c00>,
                                 to_16_bits<to_bf16, 0x7f80>,
                                 q8_0,
                                 q4_0,
                                 q4_k};

}  // namespace
}  // namespace fr
