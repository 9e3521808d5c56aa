// The cpu backend: weights packed for the processor, programs recorded and run by a team of threads.
#pragma once
#include <memory>

#include "backends/backend.h"
#include "backends/cpu/kernels.h"

namespace fr::cpu {

struct CpuOptions {
  DeviceOptions device;
  const Kernels* kernels = nullptr;  // null: chosen for this machine (dispatch.h)
  bool expand_all = false;           // no native fused ops: every version runs on primitives alone
  int most_rows =
      0;  // longer batches run in parts of so many rows, which the caches hold; 0: as the kernels like
};

// Errors: a dtype or a number of threads that it cannot serve, an unknown FR_ISA, no threads.
Result<std::unique_ptr<Device>> create_device(const CpuOptions& options);

}  // namespace fr::cpu
