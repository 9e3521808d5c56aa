// Chooses the kernels for this machine.
#pragma once
#include <span>

#include "backends/cpu/kernels.h"
#include "base/result.h"

namespace fr::cpu {

// The kernels that this build has and this machine runs, best first; generic is always the last.
std::span<const Kernels* const> supported_kernels();
// The best, or those that the environment variable FR_ISA names. Error: unknown or unsupported name.
Result<const Kernels*> choose_kernels();

}  // namespace fr::cpu
