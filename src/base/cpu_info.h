// What this machine offers: cores that this process may use, instruction sets, memory.
#pragma once
#include <cstdint>

namespace fr {

// Instruction sets that both the processor and the operating system support. All false on other
// architectures.
struct CpuFeatures {
  bool avx2 = false;    // AVX2, FMA and F16C
  bool avx512 = false;  // avx2, and AVX-512 F, BW, DQ, VL
};
const CpuFeatures& cpu_features();

// Logical processors that this process may run on: its affinity mask, cut by the CPU quota of its control
// group. Read at each call; at least 1.
int available_cpus();
// Of these, the number of physical cores (two hyperthreads of a core count once): the default number of
// threads.
int available_cores();

// AMX needs the kernel's permission before the first tile instruction, once per process (Linux 5.16).
enum class AmxPermission { no_amx, granted, refused };
AmxPermission request_amx();

// Bytes. Values that the system does not tell are INT64_MAX.
struct MemoryInfo {
  std::int64_t total = 0;      // of the machine
  std::int64_t limit = 0;      // of the control group of this process
  std::int64_t available = 0;  // can be allocated without swapping, within the limit; an estimate
};
MemoryInfo memory_info();
std::int64_t available_memory();  // memory_info().available

}  // namespace fr
