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

// ChatRWKV's int8 matrices: w[i][j] = (q[i][j] + 0.5) range[0][i] range[1][j] + least[0][i] + least[1][j].
struct ByteScales {
  std::vector<float> least[2], range[2];  // by axis of the matrix
};

// A LoRA adapter of one matrix: w[i][j] += scale * (factor[0][i] . factor[1][j]), rows of `rank` numbers.
struct LowRankDelta {
  std::vector<float> factor[2];  // by axis of the matrix
  std::size_t rank = 0;
  float scale = 1;
};

// One tensor of a file. Strides count elements and are never negative; every element that shape and stride
// can reach lies inside the mapping (readers check this). data may be unaligned. Of a block format, rows are
// whole blocks: some axis has stride 1 and a multiple of the block's length, the other strides are multiples.
struct TensorView {
  std::string name;
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> stride;
  const std::byte* data = nullptr;
  std::int64_t row_gap =
      0;  // bytes that each row of axis 0 lies further than stride[0] says (.fr embeddings)
  std::shared_ptr<const ByteScales> scales =
      nullptr;  // uint8 only: what makes these bytes a matrix of weights
  std::shared_ptr<const LowRankDelta> delta = nullptr;  // of a matrix: what is added to its numbers
  // What a converter computed from the official tensor of this name, and the model would compute at load (the
  // Transform of a vector; the embedding after ln0) is already in the numbers.
  bool processed = false;

  std::int64_t size() const;                                                     // number of elements
  bool contiguous() const;                                                       // row-major without gaps
  bool readable() const { return is_weight_dtype(dtype) || scales != nullptr; }  // read() can convert it
  // The bytes are the numbers, each for itself: what may be copied bit by bit (element by element).
  bool plain() const { return !is_block_dtype(dtype) && scales == nullptr && delta == nullptr; }
  // More elements than places (a stride of 0): a small file may claim a huge tensor.
  bool shares_elements() const {
    return static_cast<std::uint64_t>(size() / block_size(dtype)) * dtype_size(dtype) > bytes().size();
  }
  std::span<const std::byte> bytes() const;  // the byte range that the elements span
  // Elements [begin, begin + out.size()) in row-major order of `shape`, converted to float32. Readable ones
  // only.
  void read(std::int64_t begin, std::span<float> out) const;
  std::string shape_string() const;  // "[512, 128]"

  // Views of the same numbers: the last two axes swapped; [begin, end) of axis 0; a shape of as many elements
  // (of a contiguous tensor), all under this name.
  TensorView transposed() const;
  TensorView rows(std::int64_t begin, std::int64_t end) const;
  TensorView reshaped(std::vector<std::int64_t> new_shape) const;
};

// The row-major strides of a shape.
std::vector<std::int64_t> dense_strides(std::span<const std::int64_t> shape);

// A loaded model (or weights made in memory): owns what the views point into. Names and shapes are those of
// the official files, whatever the file says (formats/layout.h). Movable, cheap to share by shared_ptr.
struct Checkpoint {
  std::string path;
  std::string format;               // the container: "pth", "safetensors", "gguf", "fr", "rwkv.cpp"
  std::string layout = "official";  // whose names the file has: "official", "ChatRWKV", "fla", ...
  std::vector<TensorView> tensors;  // in file order, names unique
  // att.output and ffn.value of layer i are stored divided by 2^(i / rescale_every), and x is to be halved
  // after every that many layers; 0: they are not.
  int rescale_every = 0;
  std::map<std::string, std::string> metadata;  // strings that came with the tensors (numbers as text)
  std::vector<std::string_view> tokens;         // GGUF: the vocabulary as it is stored, in `files`
  std::vector<std::string> notes;               // oddities worth telling the user ("legacy zip-less .pth")
  std::vector<std::shared_ptr<const MappedFile>> files;  // empty when the tensors were made in memory
  std::shared_ptr<const void> memory;  // owns tensors that are not in `files` (random weights)
  bool read_once = false;              // release() gives back memory too: what was released is lost

  // What keeps the views valid: hold it to use a tensor in place after the checkpoint is gone.
  std::shared_ptr<const void> keep_alive() const;
  std::uint64_t file_size() const;  // bytes of all files
  // The caller has copied these bytes: give their pages back to the system (a hint).
  void release(std::span<const std::byte> range) const;
  const TensorView* find(std::string_view name) const;  // null when absent
  void index();  // readers call it once, after the last tensor was added or renamed

 private:
  std::vector<std::uint32_t> by_name_;  // indices of tensors, sorted by name
};

}  // namespace fr
