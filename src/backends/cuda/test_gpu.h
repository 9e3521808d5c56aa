// What the kernel tests share: memory on the device, random numbers, errors, ragged batches with states. Uses
// the CUDA runtime only, so that the same tests run on the emulator and on a GPU.
#pragma once
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "backends/cuda/kernels.h"

namespace fr::cuda {

inline void expect_ok(cudaError_t error) { ASSERT_EQ(error, cudaSuccess) << cudaGetErrorString(error); }

// An array on the device, of exactly this size.
template <class T>
class OnDevice {
 public:
  OnDevice() = default;
  explicit OnDevice(const std::vector<T>& from) : size_(from.size()) {
    if (size_ == 0) return;
    expect_ok(cudaMalloc(&data_, size_ * sizeof(T)));
    expect_ok(cudaMemcpy(data_, from.data(), size_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  explicit OnDevice(std::size_t size, T value = {}) : OnDevice(std::vector<T>(size, value)) {}
  OnDevice(OnDevice&& other) noexcept : data_(std::exchange(other.data_, nullptr)), size_(other.size_) {}
  OnDevice& operator=(OnDevice&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~OnDevice() {
    if (data_ != nullptr) static_cast<void>(cudaFree(data_));
  }

  T* get() const { return data_; }
  std::vector<T> read() const {
    std::vector<T> all(size_);
    expect_ok(cudaDeviceSynchronize());
    if (size_ > 0) expect_ok(cudaMemcpy(all.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost));
    return all;
  }

 private:
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

inline std::mt19937& random_engine() {
  static std::mt19937 engine(7);
  return engine;
}
inline std::vector<float> random_floats(std::size_t count, float scale = 1, float center = 0) {
  std::normal_distribution<float> normal(center, scale);
  std::vector<float> x(count);
  for (float& v : x) v = normal(random_engine());
  return x;
}

// Rows of n numbers, `stride` apart (the gaps are NaN), `shift` floats behind an aligned address.
class HostRows {
 public:
  HostRows(int rows, int n, float scale = 1, float center = 0, int gap = 4, int shift = 0)
      : stride_(n + gap), shift_(shift), all_(static_cast<std::size_t>(shift + rows * (n + gap)), NAN) {
    for (int row = 0; row < rows; ++row) {
      const std::vector<float> x = random_floats(static_cast<std::size_t>(n), scale, center);
      std::copy(x.begin(), x.end(), &at(row, 0));
    }
    upload();
  }
  float& at(int row, int i) { return all_[static_cast<std::size_t>(shift_ + row * stride_ + i)]; }
  double operator()(int row, int i) const {
    return all_[static_cast<std::size_t>(shift_ + row * stride_ + i)];
  }
  void upload() { device_ = OnDevice<float>(all_); }
  Rows on_device() const { return {device_.get() + shift_, stride_}; }

 private:
  std::int64_t stride_;
  int shift_;
  std::vector<float> all_;
  OnDevice<float> device_;
};

// Rows that a kernel writes. What it must not write is checked when they are read.
class ResultRows {
 public:
  ResultRows(int rows, int n, int gap = 3)
      : rows_(rows),
        n_(n),
        stride_(n + gap),
        device_(static_cast<std::size_t>(rows * (n + gap)), untouched) {}
  OutRows on_device() const { return {device_.get(), stride_}; }
  std::vector<float> read() const {  // [rows][n]
    const std::vector<float> all = device_.read();
    std::vector<float> result;
    for (int row = 0; row < rows_; ++row) {
      const auto begin = all.begin() + row * stride_;
      result.insert(result.end(), begin, begin + n_);
      for (auto i = begin + n_; i != begin + stride_; ++i)
        EXPECT_EQ(*i, untouched) << "wrote beyond row " << row;
    }
    return result;
  }

 private:
  static constexpr float untouched = -12345;
  int rows_, n_;
  std::int64_t stride_;
  OnDevice<float> device_;
};

// The error of `got` against `exact`: |difference|_2 / |exact|_2, and the largest difference over the largest
// number.
inline void expect_near(const std::vector<float>& got, const std::vector<double>& exact, double bound,
                        const std::string& what = {}) {
  ASSERT_EQ(got.size(), exact.size()) << what;
  double error = 0, norm = 0, worst = 0, largest = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_TRUE(std::isfinite(got[i])) << what << " number " << i;
    const double d = std::abs(double{got[i]} - exact[i]);
    error += d * d;
    norm += exact[i] * exact[i];
    worst = std::max(worst, d);
    largest = std::max(largest, std::abs(exact[i]));
  }
  EXPECT_LE(std::sqrt(error), bound * std::sqrt(norm)) << what;
  EXPECT_LE(worst, 4 * bound * largest) << what;
}

// Sequences of these lengths in slots that are not in order, and a state of `floats` numbers in each slot.
class TestStep {
 public:
  explicit TestStep(const std::vector<int>& lengths) {
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      const int slot =
          static_cast<int>((i * 3 + 1) % (lengths.size() % 3 == 0 ? lengths.size() + 1 : lengths.size()));
      sequences.push_back({slot, rows, lengths[i]});
      for (int j = 0; j < lengths[i]; ++j) sequence_of_row.push_back(static_cast<int>(i));
      rows += lengths[i];
    }
  }
  void add_state(int floats) {
    state_floats = floats;
    for (std::size_t i = 0; i < sequences.size() + 1; ++i) {
      slots.emplace_back(random_floats(static_cast<std::size_t>(floats), 0.5f));
    }
  }
  StepView view() {  // of `sequences` as they are now; valid until the next call
    std::vector<float*> pointers;
    for (const auto& slot : slots) pointers.push_back(slot.get());
    device_sequences_ = OnDevice<DeviceSequence>(sequences);
    device_sequence_of_row_ = OnDevice<std::int32_t>(sequence_of_row);
    device_slots_ = OnDevice<float*>(pointers);
    StepView step;
    step.rows = rows;
    step.sequences = static_cast<int>(sequences.size());
    step.sequence_of_row = device_sequence_of_row_.get();
    step.sequence = device_sequences_.get();
    step.slots = device_slots_.get();
    return step;
  }
  std::vector<float> state(int slot) const { return slots[static_cast<std::size_t>(slot)].read(); }
  std::vector<std::vector<float>> states() const {
    std::vector<std::vector<float>> all;
    for (const auto& slot : slots) all.push_back(slot.read());
    return all;
  }
  void set_states(const std::vector<std::vector<float>>& from) {
    slots.clear();
    for (const auto& state : from) slots.emplace_back(state);
  }

  int rows = 0, state_floats = 0;
  std::vector<DeviceSequence> sequences;
  std::vector<std::int32_t> sequence_of_row;
  std::vector<OnDevice<float>> slots;

 private:
  OnDevice<DeviceSequence> device_sequences_;
  OnDevice<std::int32_t> device_sequence_of_row_;
  OnDevice<float*> device_slots_;
};

}  // namespace fr::cuda
