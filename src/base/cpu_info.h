// What this machine offers: cores that this process may use, instruction sets, memory.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace fr {

// Instruction sets that both the processor and the operating system support. All false on other
// architectures.
struct CpuFeatures {
  bool avx2 = false;         // AVX2, FMA and F16C
  bool avx512 = false;       // avx2, and AVX-512 F, BW, DQ, VL
  bool avx512_vnni = false;  // avx512, and integer dot products
  bool avx512_bf16 = false;  // avx512, and bf16 dot products
  bool fast_bf16 = false;    // avx512_bf16, as many instructions at a time as of floats: AMD, not Intel
  bool amx = false;          // avx512, and tiles with int8 and bf16 products; request_amx() before their use
};
const CpuFeatures& cpu_features();

// What the system calls the processor, "unknown" where it does not say; and those of its instruction sets
// that matter for matrix products, in the system's words ("avx2", "avx512_vnni", "asimddp").
std::string cpu_name();
std::vector<std::string> instruction_sets();

// Bytes of the largest cache of the first processor; 0 where the system does not say.
std::int64_t cache_size();

// Logical processors that this process may run on: its affinity mask, cut by the CPU quota of its control
// group. Read at each call; at least 1.
int available_cpus();
// Of these, the number of physical cores (two hyperthreads of a core count once): the default number of
// threads.
int available_cores();

// AMX needs the kernel's permission before the first tile instruction (Linux 5.16). The first call asks for
// the whole process, later ones repeat the answer. Any thread. request_amx: cpu_features().amx, and granted.
enum class AmxPermission { no_amx, granted, refused };
AmxPermission amx_permission();
bool request_amx();

// Bytes. Values that the system does not tell are INT64_MAX.
struct MemoryInfo {
  std::int64_t total = 0;      // of the machine
  std::int64_t limit = 0;      // of the control group of this process
  std::int64_t available = 0;  // can be allocated without swapping, within the limit; an estimate
};
MemoryInfo memory_info();
std::int64_t available_memory();  // memory_info().available

}  // namespace fr
