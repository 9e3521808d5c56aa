// The reference backend: every op computes at once and alone; no fused kernels, no threads, no recordings.
#include <algorithm>
#include <cmath>
#include <new>

#include "backends/backend.h"
#include "backends/reference/reference_ops.h"
#include "base/quant.h"
#include "core/storage.h"

namespace fr {

const Backend& reference_backend();

namespace {

// The numbers that `dtype` holds in place of these; false if it cannot hold one of them.
bool round_to(DType dtype, std::span<float> values) {
  if (is_block_dtype(dtype)) {
    const std::size_t n = values.size() / static_cast<std::size_t>(block_size(dtype));
    std::vector<std::byte> blocks(n * dtype_size(dtype));
    const bool fits = quantise(dtype, values, blocks.data());
    dequantise(dtype, blocks.data(), values);
    return fits;
  }
  bool fits = true;
  for (float& x : values) {
    if (dtype == DType::f16) x = half_to_float(float_to_half(x));
    if (dtype == DType::bf16) x = bf16_to_float(float_to_bf16(x));
    fits = fits && (dtype == DType::f32 || std::isfinite(x));
  }
  return fits;
}

Error out_of_memory(const std::string& what, std::size_t bytes) {
  return runtime_error("not enough memory for " + what + " (" + std::to_string(bytes) +
                       " bytes): use a smaller model or fewer sequences");
}

class ReferenceDevice final : public Device {
 public:
  explicit ReferenceDevice(DType dtype) : dtype_(dtype) {}

  std::string description() const override { return "reference " + std::string(storage_name(dtype_)); }

  Result<Tensor> add_vector(std::span<const float> values, Shape shape) override;
  Result<Mat> add_matrix(const TensorView& w, MatRole role, const Checkpoint& file) override;
  Status set_state(const StateSpec& spec, int first_block, int last_block) override;
  Status reserve_slots(int count) override;
  void reset_slot(int slot) override;
  void copy_slot(int from, int to) override { states_.slots.at(index(to)) = states_.slots.at(index(from)); }
  void export_slot(int slot, std::span<float> out) const override;
  void import_slot(int slot, std::span<const float> in) override;
  Status step(const Program& program, const Batch& batch, std::span<const PortIn> inputs,
              std::span<const PortOut> outputs) override;
  OpCounts last_counts() const override { return counts_; }
  MemoryUse memory() const override { return memory_; }

 private:
  static std::size_t index(int i) { return static_cast<std::size_t>(i); }

  DType dtype_;
  ReferenceWeights weights_;
  ReferenceStates states_;
  OpCounts counts_;
  MemoryUse memory_;
};

Result<Tensor> ReferenceDevice::add_vector(std::span<const float> values, Shape shape) {
  FR_CHECK(values.size() == static_cast<std::size_t>(shape.size()));
  weights_.vectors.emplace_back(values.begin(), values.end());
  memory_.weights += static_cast<std::int64_t>(values.size_bytes());
  return Tensor{static_cast<int>(weights_.vectors.size()) - 1, shape, Extent::one};
}

Result<Mat> ReferenceDevice::add_matrix(const TensorView& w, MatRole role, const Checkpoint& file) {
  FR_CHECK(w.shape.size() == 2);
  ReferenceWeights::Matrix matrix;
  if (role == MatRole::embedding) {
    matrix.table = w;
    matrix.table_owner = file.keep_alive();
    memory_.mapped += static_cast<std::int64_t>(w.bytes().size());
  } else {
    const std::size_t size = static_cast<std::size_t>(w.size());
    try {
      matrix.values.resize(size);
    } catch (const std::bad_alloc&) {
      return out_of_memory("tensor " + w.name, size * sizeof(float));
    }
    w.read(0, matrix.values);
    const DType stored = stored_dtype(dtype_, role, w);
    if (w.dtype != stored || !(w.plain() || has_blocks(w, stored))) {
      if (!round_to(stored, matrix.values)) return cannot_store(w, stored, file);
    }
    file.release(w.bytes());
    memory_.weights += static_cast<std::int64_t>(size * sizeof(float));
  }
  weights_.matrices.push_back(std::move(matrix));
  Mat m;
  m.id = static_cast<int>(weights_.matrices.size()) - 1;
  m.out = static_cast<int>(w.shape[0]);
  m.in = static_cast<int>(w.shape[1]);
  m.role = role;
  return m;
}

Status ReferenceDevice::set_state(const StateSpec& spec, int first_block, int last_block) {
  FR_CHECK(0 <= first_block && first_block <= last_block && index(last_block) <= spec.blocks.size());
  states_ = {};
  states_.first_block = first_block;
  for (int i = first_block; i < last_block; ++i) {
    StateBlock block = spec.blocks[index(i)];
    block.offset = static_cast<std::int64_t>(states_.size);
    states_.size += static_cast<std::size_t>(block.size);
    states_.blocks.push_back(std::move(block));
  }
  return {};
}

Status ReferenceDevice::reserve_slots(int count) {
  const std::size_t had = states_.slots.size();
  if (index(count) <= had) return {};
  try {
    states_.slots.resize(index(count));
    for (std::size_t i = had; i < states_.slots.size(); ++i) states_.slots[i].resize(states_.size);
  } catch (const std::bad_alloc&) {
    states_.slots.resize(had);
    return out_of_memory(std::to_string(count) + " states", index(count) * states_.size * sizeof(float));
  }
  for (std::size_t i = had; i < states_.slots.size(); ++i) reset_slot(static_cast<int>(i));
  memory_.states = static_cast<std::int64_t>(states_.slots.size() * states_.size * sizeof(float));
  return {};
}

void ReferenceDevice::reset_slot(int slot) {
  float* values = states_.slots.at(index(slot)).data();
  for (const StateBlock& b : states_.blocks) std::fill_n(values + b.offset, b.size, b.initial);
}

void ReferenceDevice::export_slot(int slot, std::span<float> out) const {
  FR_CHECK(out.size() == states_.size);
  std::copy_n(states_.slots.at(index(slot)).begin(), out.size(), out.begin());
}

void ReferenceDevice::import_slot(int slot, std::span<const float> in) {
  FR_CHECK(in.size() == states_.size);
  std::copy(in.begin(), in.end(), states_.slots.at(index(slot)).begin());
}

Status ReferenceDevice::step(const Program& program, const Batch& batch, std::span<const PortIn> inputs,
                             std::span<const PortOut> outputs) {
  try {
    ReferenceOps ops(weights_, states_, batch, inputs, outputs);
    program.emit(ops);
    counts_ = ops.counts;
  } catch (const std::bad_alloc&) {
    return runtime_error("not enough memory (a step of " + std::to_string(batch.rows()) +
                         " rows): give fewer rows at a time");
  }
  return {};
}

Result<std::unique_ptr<Device>> create(const DeviceOptions& options) {
  const std::vector<DType>& known = reference_backend().dtypes;
  if (std::find(known.begin(), known.end(), options.dtype) == known.end()) {
    return usage_error("the reference cannot store " + std::string(storage_name(options.dtype)) +
                       " weights (strategy): use fp32, fp16, bf16, int8 or int4");
  }
  return std::unique_ptr<Device>(std::make_unique<ReferenceDevice>(options.dtype));
}

}  // namespace

// Matrices are rounded to the stored format, and all is computed in float, so that kernels for these formats
// have an exact counterpart.
const Backend& reference_backend() {
  static const Backend backend{"reference", {DType::f32, DType::f16, DType::bf16, int8_weights, int4_weights},
                               &create,     false,
                               true,        nullptr,
                               nullptr};
  return backend;
}

}  // namespace fr
