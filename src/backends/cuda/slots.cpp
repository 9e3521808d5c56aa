#include "backends/cuda/slots.h"

#include <algorithm>

namespace fr::cuda {
namespace {

std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

}  // namespace

Status Slots::set_layout(const StateSpec& spec, int first_block, int last_block) {
  FR_CHECK(0 <= first_block && first_block <= last_block && index(last_block) <= spec.blocks.size());
  FR_CHECK(slots_.empty());
  layout_ = {};
  layout_.first_block = first_block;
  initial_.clear();
  for (int i = first_block; i < last_block; ++i) {
    const StateBlock& block = spec.blocks[index(i)];
    layout_.offsets.push_back(layout_.stride);
    layout_.sizes.push_back(block.size);
    layout_.size += block.size;
    layout_.stride += row_stride(block.size);
    initial_.resize(index(layout_.stride), 0.0f);
    std::fill_n(initial_.begin() + layout_.offsets.back(), block.size, block.initial);
  }
  FR_TRY(table_, allocate_device(index(most + 1) * sizeof(float*), "the table of states", device_));
  if (initial_.empty()) return {};
  FR_TRY(initial_block_, allocate_device(initial_.size() * sizeof(float), "the initial state", device_));
  const cudaError_t error = cudaMemcpyAsync(initial_block_.as<float>(), initial_.data(),
                                            initial_.size() * sizeof(float), cudaMemcpyHostToDevice, stream_);
  const cudaError_t waited = cudaStreamSynchronize(stream_);
  if (error != cudaSuccess || waited != cudaSuccess)
    return lost_device(error != cudaSuccess ? error : waited, device_);
  return {};
}

// In pieces: of the slots that are missing, but of some megabytes if the states are small.
Status Slots::reserve(int count) {
  constexpr std::int64_t least_floats = 1 << 20;
  if (count > most) {
    return usage_error(std::to_string(count) + " states (" + device_name(device_) + "): use at most " +
                       std::to_string(most));
  }
  const std::size_t need = index(count) + 1, had = slots_.size();
  if (need <= had) return {};
  const std::int64_t stride = std::max<std::int64_t>(layout_.stride, 1);
  const std::int64_t missing = static_cast<std::int64_t>(need - had);
  const std::int64_t extra =
      std::min<std::int64_t>(least_floats / stride, most + 1 - static_cast<std::int64_t>(need));
  const std::int64_t slots = std::max(missing, std::min(missing + extra, static_cast<std::int64_t>(had)));
  const std::string what = std::to_string(count) + " states";
  FR_TRY(DeviceBlock piece, allocate_device(index(slots * stride) * sizeof(float), what, device_));
  for (std::int64_t i = 0; i < slots; ++i) slots_.push_back(piece.as<float>() + i * stride);
  bytes_ += slots * stride * static_cast<std::int64_t>(sizeof(float));
  pieces_.push_back(std::move(piece));
  cudaError_t error =
      cudaMemcpyAsync(table_.as<float*>() + had, slots_.data() + had, (slots_.size() - had) * sizeof(float*),
                      cudaMemcpyHostToDevice, stream_);
  for (std::size_t i = had; i < slots_.size() && error == cudaSuccess; ++i) error = put_initial(slots_[i]);
  if (const cudaError_t waited = cudaStreamSynchronize(stream_); error == cudaSuccess) error = waited;
  if (error != cudaSuccess) return lost_device(error, device_);
  return {};
}

cudaError_t Slots::put_initial(float* slot) {
  if (initial_.empty()) return cudaSuccess;
  return cudaMemcpyAsync(slot, initial_block_.as<float>(), initial_.size() * sizeof(float),
                         cudaMemcpyDeviceToDevice, stream_);
}

cudaError_t Slots::reset(int slot) { return put_initial(at(slot)); }

cudaError_t Slots::copy(int from, int to) {
  if (from == to || initial_.empty()) return cudaSuccess;
  return cudaMemcpyAsync(at(to), at(from), initial_.size() * sizeof(float), cudaMemcpyDeviceToDevice,
                         stream_);
}

// piece(floats into the slot, floats into the canonical form, floats) for all blocks; one piece if nothing
// lies between them.
template <class F>
cudaError_t each_piece(const StateLayout& layout, F piece) {
  if (layout.stride == layout.size) return layout.size == 0 ? cudaSuccess : piece(0, 0, layout.size);
  std::int64_t done = 0;
  for (std::size_t i = 0; i < layout.offsets.size(); done += layout.sizes[i++]) {
    if (const cudaError_t error = piece(layout.offsets[i], done, layout.sizes[i]); error != cudaSuccess)
      return error;
  }
  return cudaSuccess;
}

cudaError_t Slots::read(int slot, std::span<float> out) const {
  FR_CHECK(static_cast<std::int64_t>(out.size()) == layout_.size);
  const cudaError_t error = each_piece(layout_, [&](std::int64_t from, std::int64_t to, std::int64_t floats) {
    return cudaMemcpyAsync(out.data() + to, at(slot) + from, index(floats) * sizeof(float),
                           cudaMemcpyDeviceToHost, stream_);
  });
  const cudaError_t waited = cudaStreamSynchronize(stream_);
  return error != cudaSuccess ? error : waited;
}

cudaError_t Slots::write(int slot, std::span<const float> in) {
  FR_CHECK(static_cast<std::int64_t>(in.size()) == layout_.size);
  const cudaError_t error = each_piece(layout_, [&](std::int64_t to, std::int64_t from, std::int64_t floats) {
    return cudaMemcpyAsync(at(slot) + to, in.data() + from, index(floats) * sizeof(float),
                           cudaMemcpyHostToDevice, stream_);
  });
  const cudaError_t waited = cudaStreamSynchronize(stream_);
  return error != cudaSuccess ? error : waited;
}

}  // namespace fr::cuda
