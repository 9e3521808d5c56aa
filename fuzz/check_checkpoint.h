// What the readers of model files promise, whatever the bytes are.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/checkpoint.h"
#include "base/result.h"

namespace fr::fuzz {

inline void check_checkpoint(const Result<Checkpoint>& checkpoint, std::span<const std::byte> file) {
  if (!checkpoint) {
    FR_CHECK(checkpoint.error().code == ErrorCode::invalid_file && !checkpoint.error().message.empty());
    return;
  }
  for (const TensorView& t : checkpoint->tensors) {
    const auto range = t.bytes();
    FR_CHECK(range.data() >= file.data() && range.data() + range.size() <= file.data() + file.size());
    FR_CHECK(static_cast<std::uint64_t>(t.size()) * dtype_size(t.dtype) <= file.size());
    FR_CHECK(checkpoint->find(t.name) == &t);
    if (!is_weight_dtype(t.dtype)) continue;
    std::vector<float> values(static_cast<std::size_t>(t.size()));
    t.read(0, values);
  }
}

}  // namespace fr::fuzz
