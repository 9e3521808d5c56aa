#define FR_VEC_HEADER "backends/cpu/vec_avx512.h"
#include "backends/cpu/kernels-inl.h"

namespace fr::cpu {
#ifdef FR_EMULATED_AVX512
extern const CodedKernels coded_vnni_emulated;
extern const Kernels kernels_avx512_emulated;
const Kernels kernels_avx512_emulated = table("avx512-emulated", &coded_vnni_emulated);
#else
const Kernels kernels_avx512 = table("avx512", &coded_avx2);
#endif
}  // namespace fr::cpu
