#include "backends/cuda/step_inputs.h"

#include <algorithm>
#include <cstddef>

#include "backends/cuda/slots.h"

namespace fr::cuda {

Status StepInputs::allocate(int device) {
  FR_TRY(host_, allocate_host(sizeof(Packed), "the inputs of a step", device));
  FR_TRY(device_, allocate_device(sizeof(Packed), "the inputs of a step", device));
  *host_.as<Packed>() = {};
  return {};
}

void StepInputs::pack(const Batch& batch, int rows, int wanted) {
  FR_CHECK(batch.rows() <= rows && rows <= most_rows && wanted <= rows);
  Packed& p = *host_.as<Packed>();
  rows_ = rows;
  wanted_ = wanted;
  sequences_ = 0;
  std::copy(batch.tokens.begin(), batch.tokens.end(), p.tokens);
  std::copy(batch.wanted.begin(), batch.wanted.end(), p.wanted_rows);
  const auto add = [&](int entry, int begin, int count) {
    std::fill_n(p.sequence_of_row + begin, count, sequences_);
    p.sequences[sequences_++] = {entry, begin, count};
  };
  for (const Sequence& s : batch.sequences) add(Slots::entry(s.slot), s.begin, s.count);
  for (int row = batch.rows(); row < rows; ++row) {
    p.tokens[row] = 0;
    add(Slots::padding, row, 1);
  }
  int padding_row = batch.rows();
  for (int i = static_cast<int>(batch.wanted.size()); i < wanted; ++i) p.wanted_rows[i] = padding_row++;
}

cudaError_t StepInputs::upload(Stream stream, bool reset_counter) const {
  const std::size_t begin = reset_counter ? 0 : offsetof(Packed, tokens);
  return cudaMemcpyAsync(device_.as() + begin, host_.as() + begin, sizeof(Packed) - begin,
                         cudaMemcpyHostToDevice, stream);
}

StepView StepInputs::view(float* const* slots) const {
  const Packed* p = device_.as<Packed>();
  return {rows_, sequences_, wanted_, p->tokens, p->sequence_of_row, p->sequences, p->wanted_rows, slots};
}

}  // namespace fr::cuda
