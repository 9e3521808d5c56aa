#define FR_VEC_HEADER "backends/cpu/vec_generic.h"
#include "backends/cpu/kernels-inl.h"

namespace fr::cpu {
const Kernels kernels_generic = table("generic", nullptr);
}
