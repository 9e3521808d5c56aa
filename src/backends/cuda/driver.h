// Whether this machine can run the kernels of this build, and if not, why, in one line.
#pragma once
#include "base/result.h"

namespace fr::cuda {

// A driver that is new enough, and at least one GPU.
Status check_driver();
// GPU `index` exists, and this build has kernels for it. Makes it the thread's current device.
Status check_device(int index);

}  // namespace fr::cuda
