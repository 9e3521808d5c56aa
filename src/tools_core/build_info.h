// What this build is and what it would run on.
#pragma once
#include <string>

namespace fr {

// Lines: compiler and build type; one per backend: "cpu: fp32 fp16 bf16, 8 threads, avx512".
std::string build_info();

}  // namespace fr
