// Weights as the kernels want them: matrices packed into panels once, at load; vectors padded to whole
// panels.
#pragma once
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "backends/cpu/kernels.h"
#include "base/aligned_buffer.h"
#include "base/checkpoint.h"
#include "base/thread_pool.h"
#include "core/weights.h"

namespace fr::cpu {

// Panels in groups, as kernels.h says (Product). A plain matrix has groups of one panel. A sparse_input
// matrix has wide groups: what a zero input leaves out is then one long piece of memory, and what is read is
// too. Outputs beyond the last are zeros.
struct PackedMatrix {
  WeightType type = WeightType::f32;
  const std::byte* data = nullptr;
  int in = 0, out = 0;
  int panels = 0, group = 1;
  bool sparse = false;
  TensorView table;  // embedding: rows in the file's own format, nothing packed
  std::shared_ptr<const void> table_owner;
};

WeightType weight_type(DType stored);  // of the formats that stored_dtype gives
// Packs w, panel by panel through small buffers, into `data`: packed_bytes of m's panels. m says how, its
// type is that of `stored`. False if a number does not fit.
bool pack(const TensorView& w, DType stored, const PackedMatrix& m, ThreadPool& pool, std::byte* data);

// Hands out memory that lives as long as the store, from large blocks, so that huge pages serve small
// matrices too.
class BumpMemory {
 public:
  explicit BumpMemory(std::size_t block) : block_(block) {}
  Result<std::byte*> take(std::size_t bytes, const std::string& what);
  std::size_t taken() const { return taken_; }

 private:
  std::size_t block_, used_ = 0, taken_ = 0;
  std::vector<AlignedBuffer> blocks_;
};

class Weights {
 public:
  // asked: a format that a strategy can ask for (core/storage.h).
  Weights(DType asked, ThreadPool& pool) : asked_(asked), pool_(pool) {}

  Result<Tensor> add_vector(std::span<const float> values, Shape shape);
  Result<Mat> add_matrix(const TensorView& w, MatRole role, const Checkpoint& file);

  // The number of vectors; a vector's tensor id is its index.
  int vectors() const { return static_cast<int>(vectors_.size()); }
  const float* vector(int id) const { return vectors_[static_cast<std::size_t>(id)]; }
  const PackedMatrix& matrix(int id) const { return matrices_[static_cast<std::size_t>(id)]; }
  std::int64_t bytes() const {
    return static_cast<std::int64_t>(matrix_memory_.taken() + vector_memory_.taken());
  }
  std::int64_t mapped_bytes() const { return mapped_; }

 private:
  DType asked_;
  ThreadPool& pool_;
  BumpMemory matrix_memory_{std::size_t{64} << 20}, vector_memory_{std::size_t{1} << 20};
  std::vector<const float*> vectors_;
  std::deque<PackedMatrix> matrices_;  // commands keep references
  std::int64_t mapped_ = 0;
};

}  // namespace fr::cpu
