// Vectors of 8 numbers for files that are compiled once per instruction set (row_kernels.h): such a file must
// hold no inline function of external linkage (so nothing of std), or the linker might keep a newer
// processor's copy for all. Every operation is that of each lane alone, and no product and sum are joined:
// the same bits everywhere.
#pragma once
#include <stddef.h>
#include <stdint.h>
#ifdef __SSE2__
#include <immintrin.h>
#endif

namespace fr {
namespace {

constexpr int lanes = 8;
typedef float Floats __attribute__((vector_size(32)));
typedef int32_t Ints __attribute__((vector_size(32)));
typedef uint32_t Bits __attribute__((vector_size(32)));
typedef int16_t Shorts __attribute__((vector_size(32)));  // two in every lane
typedef uint16_t Halves __attribute__((vector_size(16)));
typedef uint8_t Bytes __attribute__((vector_size(32)));  // four in every lane

Floats set1(float x) { return Floats{x, x, x, x, x, x, x, x}; }
Ints set1(int32_t x) { return Ints{x, x, x, x, x, x, x, x}; }
Floats as_floats(Ints x) { return reinterpret_cast<Floats>(x); }
Ints as_ints(Floats x) { return reinterpret_cast<Ints>(x); }
template <class V>
V load(const void* from) {
  V v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}
template <class V>
void store(const V& v, void* to) {
  __builtin_memcpy(to, &v, sizeof v);
}
// a where the mask has ones, else b.
Ints select(Ints mask, Ints a, Ints b) { return (mask & a) | (~mask & b); }
Floats select(Ints mask, Floats a, Floats b) { return as_floats(select(mask, as_ints(a), as_ints(b))); }

// What GCC does lane by lane if the processor's vectors are shorter: it sees vectors that fit.
#ifdef __AVX2__
#define FR_X86(name) _mm256_##name
#define FR_X86_VECTOR(type) __m256##type
constexpr size_t part_size = 32;
#else
#define FR_X86(name) _mm_##name
#define FR_X86_VECTOR(type) __m128##type
constexpr size_t part_size = 16;
#endif
typedef float FloatPart __attribute__((vector_size(part_size)));
typedef int32_t IntPart __attribute__((vector_size(part_size)));
typedef int16_t ShortPart __attribute__((vector_size(part_size)));

template <class Result, class Part, class V, class Function>
Result by_parts(const V& a, const V& b, Function f) {
  Result out;
  for (size_t i = 0; i < sizeof a; i += part_size) {
    const auto* x = reinterpret_cast<const char*>(&a) + i;
    const auto* y = reinterpret_cast<const char*>(&b) + i;
    const auto part = f(load<Part>(x), load<Part>(y));
    __builtin_memcpy(reinterpret_cast<char*>(&out) + i, &part, part_size);
  }
  return out;
}
Ints less(Floats a, Floats b) {
  return by_parts<Ints, FloatPart>(a, b, [](FloatPart x, FloatPart y) { return x < y; });
}
Ints less(Ints a, Ints b) {
  return by_parts<Ints, IntPart>(a, b, [](IntPart x, IntPart y) { return x < y; });
}
// Towards zero.
Ints to_ints(Floats a) {
  return by_parts<Ints, FloatPart>(
      a, a, [](FloatPart x, FloatPart) { return __builtin_convertvector(x, IntPart); });
}
Floats to_floats(Ints a) {
  return by_parts<Floats, IntPart>(a, a,
                                   [](IntPart x, IntPart) { return __builtin_convertvector(x, FloatPart); });
}

// What x86 has one instruction for, which the compilers do not find: least and most; the upper halves of
// products; in every lane the sum of its two products.
#ifdef __SSE2__
#define FR_VECTOR_FUNCTION(Result, name, V, VPart, type, instruction)       \
  Result name(V a, V b) {                                                   \
    return by_parts<Result, VPart>(a, b, [](VPart x, VPart y) {             \
      return FR_X86(instruction)(reinterpret_cast<FR_X86_VECTOR(type)>(x),  \
                                 reinterpret_cast<FR_X86_VECTOR(type)>(y)); \
    });                                                                     \
  }
FR_VECTOR_FUNCTION(Floats, least, Floats, FloatPart, , min_ps)
FR_VECTOR_FUNCTION(Floats, most, Floats, FloatPart, , max_ps)
FR_VECTOR_FUNCTION(Shorts, least, Shorts, ShortPart, i, min_epi16)
FR_VECTOR_FUNCTION(Shorts, most, Shorts, ShortPart, i, max_epi16)
FR_VECTOR_FUNCTION(Shorts, high_product, Shorts, ShortPart, i, mulhi_epi16)
FR_VECTOR_FUNCTION(Ints, pair_products, Shorts, ShortPart, i, madd_epi16)
#undef FR_VECTOR_FUNCTION
#else
template <class V, class Part>
V least_of(V a, V b) {
  return by_parts<V, Part>(a, b, [](Part x, Part y) { return x < y ? x : y; });
}
template <class V, class Part>
V most_of(V a, V b) {
  return by_parts<V, Part>(a, b, [](Part x, Part y) { return x > y ? x : y; });
}
Floats least(Floats a, Floats b) { return least_of<Floats, FloatPart>(a, b); }
Floats most(Floats a, Floats b) { return most_of<Floats, FloatPart>(a, b); }
Shorts least(Shorts a, Shorts b) { return least_of<Shorts, ShortPart>(a, b); }
Shorts most(Shorts a, Shorts b) { return most_of<Shorts, ShortPart>(a, b); }
Shorts high_product(Shorts a, Shorts b) {
  Shorts out;
  for (int i = 0; i < 2 * lanes; ++i) out[i] = static_cast<int16_t>((int32_t{a[i]} * int32_t{b[i]}) >> 16);
  return out;
}
Ints pair_products(Shorts a, Shorts b) {
  Ints out;
  for (int i = 0; i < lanes; ++i)
    out[i] = int32_t{a[2 * i]} * int32_t{b[2 * i]} + int32_t{a[2 * i + 1]} * int32_t{b[2 * i + 1]};
  return out;
}
#endif
#undef FR_X86
#undef FR_X86_VECTOR

// Lane j of v[i] becomes lane i of v[j].
template <class V>
void transpose(V (&v)[lanes]) {
  V a[lanes], b[lanes];
  for (int i = 0; i < lanes; i += 2) {
    a[i] = __builtin_shufflevector(v[i], v[i + 1], 0, 8, 2, 10, 4, 12, 6, 14);
    a[i + 1] = __builtin_shufflevector(v[i], v[i + 1], 1, 9, 3, 11, 5, 13, 7, 15);
  }
  for (int i = 0; i < lanes; ++i) {
    const int first = i & ~2;  // of the two that differ in the second bit
    b[i] = i & 2 ? __builtin_shufflevector(a[first], a[first + 2], 2, 3, 10, 11, 6, 7, 14, 15)
                 : __builtin_shufflevector(a[first], a[first + 2], 0, 1, 8, 9, 4, 5, 12, 13);
  }
  for (int i = 0; i < lanes / 2; ++i) {
    v[i] = __builtin_shufflevector(b[i], b[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    v[i + 4] = __builtin_shufflevector(b[i], b[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
}

// 1 / x for x >= 0, or 0 where that is not finite.
Floats inverse_of(Floats x) { return as_floats(less(set1(1e-37f), x) & as_ints(set1(1.0f) / x)); }

// The lower 16 bits of every lane.
Halves low_halves(Ints x) { return __builtin_convertvector(x, Halves); }
Ints widened(Halves x) { return __builtin_convertvector(x, Ints); }

// What base/dtype.h does with one number, but for the bits of NaNs.
Ints to_half(Floats x) {
  const Ints u = as_ints(x), sign = (u >> 16) & 0x8000, a = u & 0x7fffffff;
  const Bits rounded = reinterpret_cast<Bits>(a) + 0xfffu + ((reinterpret_cast<Bits>(a) >> 13) & 1u);
  const Ints normal = reinterpret_cast<Ints>((rounded - 0x38000000u) >> 13);
  const Ints subnormal = as_ints(as_floats(a) + set1(0.5f)) - 0x3f000000;
  const Ints finite = select(less(a, set1(0x38800000)), subnormal, normal);
  const Ints out = select(less(a, set1(0x477ff000)), finite, set1(0x7c00));
  return sign | select(less(set1(0x7f800000), a), set1(0x7e00), out);
}
Floats from_half(Ints h) {
  const Ints sign = (h & 0x8000) << 16, a = h & 0x7fff;
  const Ints normal = (a << 13) + select(less(a, set1(0x7c00)), set1(112 << 23), set1(224 << 23));
  const Floats subnormal = to_floats(a) * set1(0x1p-24f);
  return as_floats(sign | select(less(a, set1(0x400)), as_ints(subnormal), normal));
}
Ints to_bf16(Floats x) {
  const Bits u = reinterpret_cast<Bits>(x), high = u >> 16;
  const Bits rounded = (u + 0x7fffu + (high & 1u)) >> 16;
  return select(less(set1(0x7f800000), as_ints(x) & 0x7fffffff), reinterpret_cast<Ints>(high | 0x40u),
                reinterpret_cast<Ints>(rounded));
}
Floats from_bf16(Ints h) { return as_floats(h << 16); }

}  // namespace
}  // namespace fr
