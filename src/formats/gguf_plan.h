// What write_gguf writes, before it writes: the tensors of a model of official form under llama.cpp's names.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "formats/gguf.h"
#include "formats/gguf_names.h"

namespace fr::gguf {

struct PlannedTensor {
  std::string name;
  std::vector<std::int64_t> shape;  // row-major
  DType dtype = DType::f32;
  std::vector<TensorView> parts;  // their numbers, one after the other
  int exponent = 0;               // times 2^exponent
  std::uint64_t bytes() const;
};

struct Plan {
  const Architecture* architecture = nullptr;
  std::map<char, std::int64_t> sizes;  // by the letters of TensorName::dims
  int n_layer = 0;
  int rescale_every = 0;
  std::vector<PlannedTensor> tensors;
  std::vector<std::string> notes;
};

// The errors of write_gguf that concern the model.
Result<Plan> make_plan(const std::string& path, const Checkpoint& model, const GgufOptions& options);

}  // namespace fr::gguf
