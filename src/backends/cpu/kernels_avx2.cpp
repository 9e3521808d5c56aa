#define FR_VEC_HEADER "backends/cpu/vec_avx2.h"
#include "backends/cpu/kernels-inl.h"

namespace fr::cpu {
const Kernels kernels_avx2 = table("avx2", &coded_avx2);
}
