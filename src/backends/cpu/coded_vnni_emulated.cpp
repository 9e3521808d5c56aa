#include "backends/cpu/emulated_avx512.h"
// After it:
#include "backends/cpu/coded_vnni.cpp"
