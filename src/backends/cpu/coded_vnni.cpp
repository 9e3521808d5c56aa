#define FR_DOT_HEADER "backends/cpu/dot_vnni.h"
#include "backends/cpu/coded-inl.h"

namespace fr::cpu {
#ifdef FR_EMULATED_AVX512
extern const CodedKernels coded_vnni_emulated;
const CodedKernels coded_vnni_emulated{&encode, &coded_product, &coded_rows_avx2};
#else
const CodedKernels coded_vnni{&encode, &coded_product, &coded_rows_avx2};
#endif
}  // namespace fr::cpu
