// What every reader of model files produces: named tensors that are views into a mapped file.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "base/mmap.h"

namespace fr {

// One tensor of a file. Strides count elements and are never negative; every element that shape and stride
// can reach lies inside the mapping (readers check this). data may be unaligned.
struct TensorView {
  std::string name;
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> stride;
  const std::byte* data = nullptr;

  std::int64_t size() const;  // number of elements
  bool contiguous() const;    // row-major without gaps
  // More elements than places (a stride of 0): a small file may claim a huge tensor.
  bool shares_elements() const {
    return static_cast<std::uint64_t>(size()) * dtype_size(dtype) > bytes().size();
  }
  std::span<const std::byte> bytes() const;  // the byte range that the elements span
  // Elements [begin, begin + out.size()) in row-major order of `shape`, converted to float32.
  // Weight dtypes (fp32, fp16, bf16) only.
  void read(std::int64_t begin, std::span<float> out) const;
  std::string shape_string() const;  // "[512, 128]"
};

// A loaded file (or weights made in memory): owns what the views point into. Movable, cheap to share by
// shared_ptr.
struct Checkpoint {
  std::string path;
  std::string format;               // "pth", "safetensors"
  std::vector<TensorView> tensors;  // in file order, names unique
  std::map<std::string, std::string>
      metadata;                            // strings that came with the tensors (safetensors __metadata__)
  std::vector<std::string> notes;          // oddities worth telling the user ("legacy zip-less .pth")
  std::shared_ptr<const MappedFile> file;  // null when the tensors were made in memory
  std::shared_ptr<const void> memory;      // owns tensors that are not in `file` (random weights)

  // What keeps the views valid: hold it to use a tensor in place after the checkpoint is gone.
  std::shared_ptr<const void> keep_alive() const { return file ? std::shared_ptr<const void>(file) : memory; }
  const TensorView* find(std::string_view name) const;  // null when absent
  void index();  // readers call it once, after the last tensor was added

 private:
  std::vector<std::uint32_t> by_name_;  // indices of tensors, sorted by name
};

}  // namespace fr
