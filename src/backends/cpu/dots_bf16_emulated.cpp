#include "backends/cpu/emulated_avx512.h"
// After it:
#include "backends/cpu/dots_bf16.cpp"
