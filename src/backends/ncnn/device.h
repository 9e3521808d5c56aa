// The states of sequences, and steps over batches, on a graph for one token and one for a chunk of them.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "backends/backend.h"
#include "backends/ncnn/net.h"

namespace fr::ncnn_backend {

struct DeviceParts {
  std::string path;                           // what messages name
  DType dtype = DType::f32;                   // of the matrices
  std::shared_ptr<const MappedFile> weights;  // the .bin, used in place
  std::unique_ptr<ThreadPool> pool;
  std::unique_ptr<Net> decode;    // one token
  std::unique_ptr<Net> sequence;  // a chunk; may be null
  std::vector<float> initial;     // canonical state of a fresh slot
};

// Sequences of a batch run one after the other, whole chunks of their rows on the sequence graph and the rest
// token by token. Programs are not looked at.
std::unique_ptr<Device> make_device(DeviceParts parts);

}  // namespace fr::ncnn_backend
