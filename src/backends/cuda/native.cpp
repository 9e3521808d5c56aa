#include "backends/cuda/native.h"

namespace fr::cuda {

const KernelTable& native_kernels() {
  static const KernelTable all = [] {
    KernelTable table;
    add_mix_kernels(table);
    add_linear_kernels(table);
    add_wkv_kernels(table);
    return table;
  }();
  return all;
}

}  // namespace fr::cuda
