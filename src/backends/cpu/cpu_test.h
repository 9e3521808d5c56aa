// Shared by the tests of the cpu backend.
#pragma once
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "backends/cpu/dispatch.h"

namespace fr::cpu {

extern const Kernels kernels_avx512_emulated;  // test program only

// All kernels that can run here, the emulated AVX-512 ones included.
inline std::vector<const Kernels*> tested_kernels() {
  std::vector<const Kernels*> all(supported_kernels().begin(), supported_kernels().end());
#ifdef FR_HAVE_EMULATED_AVX512
  all.push_back(&kernels_avx512_emulated);
#endif
  return all;
}

inline std::string kernels_name(const testing::TestParamInfo<const Kernels*>& info) {
  std::string name = info.param->name;
  for (char& c : name) c = c == '-' ? '_' : c;
  return name;
}

inline std::vector<float> random_floats(std::size_t n, unsigned seed, float scale = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(n);
  for (float& v : values) v = normal(random);
  return values;
}

}  // namespace fr::cpu
