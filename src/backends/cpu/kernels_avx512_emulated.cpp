#include "backends/cpu/emulated_avx512.h"
#include "backends/cpu/kernels_avx512.cpp"
