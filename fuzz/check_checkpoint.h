// What the readers of model files promise, whatever the bytes are.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/checkpoint.h"
#include "base/result.h"
#include "formats/layout.h"

namespace fr::fuzz {

inline void check_views(const Checkpoint& checkpoint, std::span<const std::byte> file) {
  for (const TensorView& t : checkpoint.tensors) {
    const auto range = t.bytes();
    FR_CHECK(range.data() >= file.data() && range.data() + range.size() <= file.data() + file.size());
    FR_CHECK(static_cast<std::uint64_t>(t.size() / block_size(t.dtype)) * dtype_size(t.dtype) <= file.size());
    FR_CHECK(checkpoint.find(t.name) == &t);
    if (!t.readable()) continue;
    std::vector<float> values(static_cast<std::size_t>(t.size()));
    t.read(0, values);
  }
}

// As the file has it, then in the official layout.
inline void check_checkpoint(Result<Checkpoint> checkpoint, std::span<const std::byte> file) {
  if (!checkpoint) {
    FR_CHECK(checkpoint.error().code == ErrorCode::invalid_file && !checkpoint.error().message.empty());
    return;
  }
  check_views(*checkpoint, file);
  if (const Status official = to_official_layout(*checkpoint); official.ok()) {
    check_views(*checkpoint, file);
  } else {
    FR_CHECK(official.error().code == ErrorCode::invalid_file && !official.error().message.empty());
  }
}

}  // namespace fr::fuzz
