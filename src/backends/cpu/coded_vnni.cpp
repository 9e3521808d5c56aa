#define FR_DOT_HEADER "backends/cpu/dot_vnni.h"
#include "backends/cpu/coded_rows-inl.h"

namespace fr::cpu {
#ifdef FR_EMULATED_AVX512
extern const CodedKernels coded_vnni_emulated;
const CodedKernels coded_vnni_emulated{dot_rows, &encode, &coded_product, &rows_product};
#else
const CodedKernels coded_vnni{dot_rows, &encode, &coded_product, &rows_product};
#endif
}  // namespace fr::cpu
