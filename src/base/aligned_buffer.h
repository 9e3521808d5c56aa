// Memory for weights, states and scratch: aligned to cache lines, large ones backed by huge pages where the
// system can.
#pragma once
#include <cstddef>
#include <string>
#include <utility>

#include "base/result.h"

namespace fr {

class AlignedBuffer {
 public:
  static constexpr std::size_t alignment = 64;

  AlignedBuffer() = default;
  AlignedBuffer(AlignedBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~AlignedBuffer();

  // The contents are undefined. Pages of a large buffer take memory when they are first written, so the
  // thread that writes first decides where they live. Error: no memory, with the size; `what` says what it
  // was for.
  static Result<AlignedBuffer> allocate(std::size_t bytes, const std::string& what);

  std::byte* data() { return data_; }
  const std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  template <class T>
  T* as() {
    return reinterpret_cast<T*>(data_);
  }
  template <class T>
  const T* as() const {
    return reinterpret_cast<const T*>(data_);
  }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace fr
