// Draws tokens on the GPU: memory for the requests of a step and for the results, around the kernel of
// sampling.h.
#pragma once
#include <span>

#include "backends/cuda/memory.h"
#include "backends/cuda/sampling.h"
#include "core/draw.h"

namespace fr::cuda {

// Bytes of the requests in the form that sampling.h describes, and that form (out: so many bytes, 16-byte
// aligned).
std::size_t packed_size(std::span<const DrawRequest> requests);
void pack(std::span<const DrawRequest> requests, std::byte* out);

class DeviceSampler {
 public:
  explicit DeviceSampler(int device) : device_(device) {}

  // Waits for the stream, and for its own results. logits: row i for request i, `vocab` numbers, in GPU
  // memory; all ids of the requests are below vocab. results: as many as requests. Errors: out of memory,
  // lost_device.
  Status draw(Stream stream, Rows logits, int vocab, std::span<const DrawRequest> requests,
              std::span<DrawResult> results);
  std::size_t bytes() const { return device_block_.bytes() + scratch_.bytes(); }  // of GPU memory

 private:
  Status reserve(std::size_t transfer, std::size_t scratch);

  const int device_;
  HostBlock host_;            // results, requests
  DeviceBlock device_block_;  // the same
  DeviceBlock scratch_;
};

}  // namespace fr::cuda
