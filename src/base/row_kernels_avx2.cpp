#include "base/row_kernels-inl.h"

namespace fr {
const RowKernels row_kernels_avx2 = row_kernels;
}
