#define FR_DOT_HEADER "backends/cpu/dot_avx2.h"
#include "backends/cpu/coded_rows-inl.h"

namespace fr::cpu {
const CodedKernels coded_avx2{dot_rows, &encode, &coded_product, &rows_product};
}  // namespace fr::cpu
