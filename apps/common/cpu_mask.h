// Which processors the program runs on: --cpu-mask.
#pragma once
#include <string>
#include <vector>

namespace fr::app {

// The processors of a mask as taskset writes it: hexadecimal, processor 0 is the lowest bit, "0x" before it
// and commas in it are allowed. Ascending, at least one. Throws faster_rwkv::Error (usage) for anything else.
std::vector<int> parse_cpu_mask(const std::string& mask);

// Keeps this thread, and those that it starts from now on, to the processors of the mask; to be called before
// there are others. Throws faster_rwkv::Error (usage): a wrong mask, a processor that this process does not
// have, a system other than Linux. The affinity is then as it was.
void set_cpu_mask(const std::string& mask);

}  // namespace fr::app
