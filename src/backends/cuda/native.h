// The fused ops that the cuda backend runs natively: all of core/fused_*.h.
#pragma once
#include "core/ops.h"

namespace fr::cuda {

const KernelTable& native_kernels();

// By family; native.cpp lists them.
void add_mix_kernels(KernelTable& table);
void add_linear_kernels(KernelTable& table);
void add_wkv_kernels(KernelTable& table);

}  // namespace fr::cuda
