// Weights in device memory as the kernels want them: packed on the host through a small pinned buffer, piece
// by piece, once, at load. For the device that is current when it is called. layout.h says how matrices lie.
#pragma once
#include <cstddef>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backends/cuda/kernels.h"
#include "base/checkpoint.h"
#include "base/result.h"
#include "base/thread_pool.h"
#include "core/weights.h"

namespace fr::cuda {

WeightType weight_type(DType stored);  // of the formats that stored_dtype gives

// Device memory in large blocks, freed with the object. Errors: out of memory, with what is needed and what
// there is.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  Result<std::byte*> take(std::size_t bytes, const std::string& what);  // aligned to 256 bytes
  std::size_t taken() const { return taken_; }

 private:
  Result<std::byte*> allocate(std::size_t bytes, const std::string& what);

  std::vector<std::byte*> blocks_;
  std::byte* free_ = nullptr;  // of the block that small pieces come from
  std::size_t free_bytes_ = 0, taken_ = 0;
};

// Pinned host memory of one size: what is copied from it crosses the bus at full speed.
class Staging {
 public:
  Staging() = default;
  ~Staging() { release(); }
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  Result<std::byte*> at_least(std::size_t bytes);
  std::size_t size() const { return size_; }
  void release();

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

class Weights {
 public:
  // asked: a format that a strategy can ask for (core/storage.h).
  explicit Weights(DType asked) : asked_(asked) {}

  Result<Tensor> add_vector(std::span<const float> values, Shape shape);
  // An embedding keeps the file's 16- or 32-bit numbers (blocks become fp16) in rows without padding.
  Result<Mat> add_matrix(const TensorView& w, MatRole role, const Checkpoint& file);
  // Loading is over: frees the staging buffer and the threads that packed. Optional.
  void finish();

  // The number of vectors; a vector's tensor id is its index.
  int vectors() const { return static_cast<int>(vectors_.size()); }
  const float* vector(int id) const { return vectors_[static_cast<std::size_t>(id)]; }  // on the device
  const DeviceMatrix& matrix(int id) const { return matrices_[static_cast<std::size_t>(id)]; }
  std::int64_t bytes() const { return static_cast<std::int64_t>(memory_.taken()); }

 private:
  Status upload_plain(const TensorView& w, DType stored, bool padded, const Checkpoint& file,
                      DeviceMatrix& m);
  Status upload_blocks(const TensorView& w, DType stored, const Checkpoint& file, DeviceMatrix& m);
  Status start();

  DType asked_;
  DeviceMemory memory_;
  Staging staging_;
  std::unique_ptr<ThreadPool> pool_;
  std::vector<const float*> vectors_;
  std::deque<DeviceMatrix> matrices_;  // references stay valid
};

}  // namespace fr::cuda
