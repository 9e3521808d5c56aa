// What a step's kernels read about its batch, at addresses that never change, and the counter that they fill:
// one copy per step brings it to the GPU.
#pragma once
#include <span>

#include "backends/cuda/kernels.h"
#include "backends/cuda/memory.h"
#include "core/batch.h"

namespace fr::cuda {

class StepInputs {
 public:
  static constexpr int most_rows = 256;

  Status allocate(int device);
  // The batch, followed by rows of token 0 up to `rows` that belong to sequences of one row in the padding
  // slot; up to `wanted` padding rows are wanted. The previous upload must be over.
  void pack(const Batch& batch, int rows, int wanted);
  // reset_counter: the count of zeros begins again.
  cudaError_t upload(Stream stream, bool reset_counter) const;

  // Of the batch that was packed last.
  StepView view(float* const* slots) const;
  unsigned long long* zeros() const { return &device_.as<Packed>()->zeros; }

 private:
  struct Packed {
    unsigned long long zeros;
    alignas(16) std::int32_t tokens[most_rows];
    std::int32_t sequence_of_row[most_rows];
    std::int32_t wanted_rows[most_rows];
    DeviceSequence sequences[most_rows];
  };

  int rows_ = 0, sequences_ = 0, wanted_ = 0;
  HostBlock host_;
  DeviceBlock device_;
};

}  // namespace fr::cuda
