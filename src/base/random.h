// The random numbers of the sampler: a counter-based generator. Draw number `step` of a seed is a function of
// the two, so a saved position is one integer and every device computes the same value.
#pragma once
#include <cstdint>

namespace fr {

// Finaliser of SplitMix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014, with
// the constants of Stafford's variant 13): a bijection in which every input bit reaches every output bit.
constexpr std::uint64_t mix64(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

// 64 random bits: SplitMix64 started at mix64(seed), its output number `step` (from 0).
constexpr std::uint64_t random_bits(std::uint64_t seed, std::uint64_t step) {
  return mix64(mix64(seed) + (step + 1) * 0x9e3779b97f4a7c15u);
}

// Uniform in [0, 1): the upper 53 bits, exact in double.
constexpr double random_uniform(std::uint64_t seed, std::uint64_t step) {
  return static_cast<double>(random_bits(seed, step) >> 11) * 0x1p-53;
}

}  // namespace fr
