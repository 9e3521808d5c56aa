#define FR_DOT_HEADER "backends/cpu/dot_avx2.h"
#include "backends/cpu/coded-inl.h"

namespace fr::cpu {
const CodedKernels coded_avx2{&encode, &coded_product, &coded_rows_avx2};
}  // namespace fr::cpu
