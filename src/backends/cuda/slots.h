// The states of the sequences in GPU memory: slots that never move, and a table of their addresses that
// kernels read.
#pragma once
#include <span>
#include <vector>

#include "backends/cuda/cuda_ops.h"
#include "backends/cuda/memory.h"
#include "core/state.h"

namespace fr::cuda {

// Calls enqueue on the stream; those that move numbers to or from the host wait for it. All but `reserve`
// return the runtime's error.
class Slots {
 public:
  static constexpr int most = 1 << 16;

  Slots(Stream stream, int device) : stream_(stream), device_(device) {}

  Status set_layout(const StateSpec& spec, int first_block, int last_block);
  const StateLayout& layout() const { return layout_; }

  // Slots [0, count) and one more for the rows that pad a graph.
  Status reserve(int count);
  int count() const { return static_cast<int>(slots_.size()) - 1; }
  std::int64_t bytes() const { return bytes_; }

  cudaError_t reset(int slot);
  cudaError_t copy(int from, int to);
  cudaError_t read(int slot, std::span<float> out) const;
  cudaError_t write(int slot, std::span<const float> in);

  // For kernels: entry s + 1 is slot s, entry 0 the padding's.
  float* const* table() const { return table_.as<float*>(); }
  static constexpr int padding = 0;
  static constexpr int entry(int slot) { return slot + 1; }
  // The same on the host, without the padding's.
  std::span<float* const> addresses() const { return std::span(slots_).subspan(slots_.empty() ? 0 : 1); }

 private:
  float* at(int slot) const { return slots_[static_cast<std::size_t>(entry(slot))]; }
  cudaError_t put_initial(float* slot);

  const Stream stream_;
  const int device_;
  StateLayout layout_;
  std::vector<float> initial_;         // a slot that was reset
  DeviceBlock table_, initial_block_;  // initial_ on the device
  std::vector<DeviceBlock> pieces_;    // memory of some slots each
  std::vector<float*> slots_;          // by entry
  std::int64_t bytes_ = 0;
};

}  // namespace fr::cuda
