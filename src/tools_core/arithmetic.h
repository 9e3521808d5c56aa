// Loops of products in registers, one for each kind of arithmetic that kernels can use: what the processor
// can do at most.
#pragma once
#include <string_view>
#include <vector>

namespace fr {

struct ArithmeticLoop {
  std::string_view numbers;       // what is multiplied: "fp32", "int8", "bf16"
  std::string_view instructions;  // "portable", "neon", "avx2", "avx512", "avx512_vnni", "avx512_bf16", "amx"
  double operations;              // of a round: a product and its sum are two
  // A number that depends on every round. int8, bf16: all factors are ones; fp32: every sum goes from 1/2
  // towards 1.
  float (*run)(int rounds);
};

// Those that this machine can run. Asks for AMX.
std::vector<ArithmeticLoop> arithmetic_loops();

}  // namespace fr
