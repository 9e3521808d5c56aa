// How fast this machine reads memory: the limit of decoding, which reads every weight once per step.
#pragma once
#include "base/result.h"

namespace fr {

// Bytes per second that `threads` threads read together from memory far larger than the caches (0: one per
// available core). Takes about half a second and up to 512 MiB, which it gives back.
Result<double> measure_read_bandwidth(int threads);

}  // namespace fr
