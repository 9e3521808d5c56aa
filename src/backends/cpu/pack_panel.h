// Packs one panel of a matrix: reads 32 outputs of it in any format, and writes them in the order of
// kernels.h.
#pragma once
#include <functional>

#include "backends/cpu/pack.h"

namespace fr::cpu {

// What the packing of one panel works on: the matrix, and the memory of the panel's group.
struct Target {
  Target(const PackedMatrix& m, int panel, std::byte* data);
  // Of float types, input k's row of the panel; of a type in blocks, the rows begin elsewhere.
  std::byte* row(std::ptrdiff_t k) const {
    return group + k * row_bytes(type, cols) + number * row_bytes(type, panel_cols);
  }

  WeightType type;
  int in, first_out, outs;  // outs: of the panel's columns, those that the matrix has
  std::byte* group;
  std::ptrdiff_t cols;
  int number;    // of the panel in its group
  bool by_rows;  // the order of codes, see kernels.h
};

// Numbers of any readable matrix, in the order in which the file has them.
class Source {
 public:
  static constexpr int most = 256;  // inputs at once
  explicit Source(const TensorView& w);

  const TensorView& file() const { return file_; }
  // use(c, x) for c < outs: x[i] = the weight of input k + i for output first_out + c, i < count.
  using Use = std::function<void(int c, std::span<const float> x)>;
  void read(int first_out, int outs, int k, int count, const Use& use) const;

 private:
  bool by_inputs_;
  TensorView file_, view_;
};

// False if a number does not fit. Blocks of the file that are `stored` are taken as they are, and so are
// numbers.
bool pack_panel(const Source& source, DType stored, const Target& t);

}  // namespace fr::cpu
