#include "backends/cpu/emulated_amx.h"
#include "backends/cpu/emulated_avx512.h"
// After them:
#include "backends/cpu/tiles_amx.cpp"
