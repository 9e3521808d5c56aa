#include "backends/cpu/cpu_device.h"

#include <algorithm>
#include <list>

#include "backends/cpu/cpu_ops.h"
#include "backends/cpu/dispatch.h"
#include "backends/cpu/native.h"
#include "backends/cpu/pack.h"
#include "backends/cpu/recording.h"
#include "base/cpu_info.h"
#include "base/dtype.h"
#include "base/thread_pool.h"
#include "core/storage.h"

namespace fr {

const Backend& cpu_backend();

namespace cpu {
namespace {

constexpr std::size_t most_recordings = 16;

std::size_t index(int i) { return static_cast<std::size_t>(i); }

std::string megabytes(std::int64_t bytes) { return std::to_string((bytes + (1 << 20) - 1) >> 20) + " MB"; }

// One run of a recording, as the pool sees it. memory: of_worker floats for each member, of which the first
// `scratch` are for commands and the others for scan bodies.
class Step final : public StagedWork {
 public:
  Step(const Recording& recording, const Frame& frame, float* memory, std::int64_t scratch,
       std::int64_t of_worker)
      : recording_(recording), frame_(frame), memory_(memory), scratch_(scratch), of_worker_(of_worker) {}

  int stages() const override { return recording_.stages(); }
  int items(int stage) const override { return recording_.items(stage, frame_); }
  void run(int stage, int member, int begin, int end) const override {
    float* own = memory_ + member * of_worker_;
    recording_.run(stage, frame_, {own, own + scratch_}, begin, end);
  }

 private:
  const Recording& recording_;
  const Frame& frame_;
  float* const memory_;
  const std::int64_t scratch_, of_worker_;
};

class CpuDevice final : public Device {
 public:
  CpuDevice(const CpuOptions& options, const Kernels& kernels, std::unique_ptr<ThreadPool> pool)
      : options_(options),
        kernels_(kernels),
        most_rows_(options.most_rows > 0      ? options.most_rows
                   : kernels.tiles != nullptr ? kernels.tiles->most_rows
                                              : 128),
        pool_(std::move(pool)),
        weights_(options.device.dtype, *pool_) {}

  std::string description() const override {
    return "cpu " + std::string(storage_name(options_.device.dtype)) + ", " + std::to_string(pool_->size()) +
           (pool_->size() == 1 ? " thread, " : " threads, ") + kernels_.name;
  }

  Result<Tensor> add_vector(std::span<const float> values, Shape shape) override {
    return weights_.add_vector(values, shape);
  }
  Result<Mat> add_matrix(const TensorView& w, MatRole role, const Checkpoint& file) override {
    return weights_.add_matrix(w, role, file);
  }

  Status set_state(const StateSpec& spec, int first_block, int last_block) override;
  Status reserve_slots(int count) override;
  void reset_slot(int slot) override;
  void copy_slot(int from, int to) override {
    std::copy_n(slots_[index(from)], layout_.size, slots_[index(to)]);
  }
  void export_slot(int slot, std::span<float> out) const override {
    FR_CHECK(static_cast<std::int64_t>(out.size()) == layout_.size);
    std::copy_n(slots_[index(slot)], layout_.size, out.begin());
  }
  void import_slot(int slot, std::span<const float> in) override {
    FR_CHECK(static_cast<std::int64_t>(in.size()) == layout_.size);
    std::copy(in.begin(), in.end(), slots_[index(slot)]);
  }

  int rows_per_step() const override { return std::max(most_rows_, 256); }
  Status step(const Program& program, const Batch& batch, std::span<const PortIn> inputs,
              std::span<const PortOut> outputs) override;
  OpCounts last_counts() const override { return counts_; }
  MemoryUse memory() const override {
    return {weights_.bytes(), weights_.mapped_bytes(),
            static_cast<std::int64_t>(slots_.size()) * slot_bytes(),
            static_cast<std::int64_t>(memory_.size())};
  }

 private:
  std::int64_t slot_bytes() const { return layout_.size * static_cast<std::int64_t>(sizeof(float)); }
  const Recording& recording_of(const Program& program);
  Status run(const Recording& recording, Frame& frame);

  const CpuOptions options_;
  const Kernels kernels_;
  const int most_rows_;
  const std::unique_ptr<ThreadPool> pool_;
  Weights weights_;
  StateLayout layout_;
  std::vector<float> initial_;  // of each block
  std::vector<AlignedBuffer> slot_memory_;
  std::vector<float*> slots_;
  std::list<std::pair<int, Recording>> recordings_;  // by program key, the latest used first
  AlignedBuffer memory_;                             // values and scratch of a run
  OpCounts counts_;
};

Status CpuDevice::set_state(const StateSpec& spec, int first_block, int last_block) {
  FR_CHECK(0 <= first_block && first_block <= last_block && index(last_block) <= spec.blocks.size());
  layout_ = {};
  layout_.first_block = first_block;
  initial_.clear();
  for (int i = first_block; i < last_block; ++i) {
    const StateBlock& block = spec.blocks[index(i)];
    layout_.offsets.push_back(layout_.size);
    layout_.sizes.push_back(block.size);
    layout_.size += block.size;
    initial_.push_back(block.initial);
  }
  return {};
}

Status CpuDevice::reserve_slots(int count) {
  const std::int64_t bytes = (count - static_cast<std::int64_t>(slots_.size())) * slot_bytes();
  if (bytes > available_memory()) {
    return runtime_error("not enough memory for " + std::to_string(count) + " states of " +
                         megabytes(slot_bytes()) + " (" + megabytes(available_memory()) +
                         " are free): use fewer sequences");
  }
  while (slots_.size() < index(count)) {
    FR_TRY(AlignedBuffer slot,
           AlignedBuffer::allocate(static_cast<std::size_t>(slot_bytes()), "the state of a sequence"));
    slots_.push_back(slot.as<float>());
    slot_memory_.push_back(std::move(slot));
    reset_slot(static_cast<int>(slots_.size()) - 1);
  }
  return {};
}

void CpuDevice::reset_slot(int slot) {
  for (std::size_t i = 0; i < layout_.offsets.size(); ++i) {
    std::fill_n(slots_[index(slot)] + layout_.offsets[i], layout_.sizes[i], initial_[i]);
  }
}

const Recording& CpuDevice::recording_of(const Program& program) {
  const auto found = std::find_if(recordings_.begin(), recordings_.end(),
                                  [&](const auto& r) { return r.first == program.key; });
  if (found != recordings_.end()) {
    recordings_.splice(recordings_.begin(), recordings_, found);
  } else {
    CpuOps ops(weights_, layout_, kernels_, options_.expand_all ? nullptr : &native_kernels());
    program.emit(ops);
    recordings_.emplace_front(program.key, ops.take());
    if (recordings_.size() > most_recordings) recordings_.pop_back();
  }
  return recordings_.front().second;
}

// Memory of a run: the values, then each worker's scratch and scan values, apart by whole cache lines.
Status CpuDevice::run(const Recording& recording, Frame& frame) {
  const auto lines = [](std::int64_t floats) { return (floats + 15) / 16 * 16; };
  const std::int64_t values = lines(recording.memory(frame.rows(), frame.wanted()));
  const std::int64_t scratch = lines(recording.scratch), of_worker = scratch + lines(recording.local);
  const auto bytes = static_cast<std::size_t>(values + of_worker * frame.workers) * sizeof(float);
  if (bytes > memory_.size()) {
    memory_ = {};
    FR_TRY(memory_, AlignedBuffer::allocate(bytes, "a step of " + std::to_string(frame.rows()) + " rows"));
  }
  float* memory = memory_.as<float>();
  recording.place(frame, memory);
  pool_->run(Step(recording, frame, memory + values, scratch, of_worker));
  return {};
}

Status CpuDevice::step(const Program& program, const Batch& batch, std::span<const PortIn> inputs,
                       std::span<const PortOut> outputs) {
  const Recording& recording = recording_of(program);
  counts_ = recording.counts;
  const int parts = (batch.rows() + most_rows_ - 1) / most_rows_;
  int wanted_before = 0;
  SparseInputs sparse_inputs;
  for (int i = 0; i < parts; ++i) {
    const auto row = [&](int n) { return static_cast<int>(std::int64_t{batch.rows()} * n / parts); };
    const int begin = row(i);
    const Batch part = part_of(batch, begin, row(i + 1));
    Frame frame;
    frame.batch = &part;
    frame.workers = pool_->size();
    frame.slots = slots_;
    frame.sparse_inputs = &sparse_inputs;
    for (std::size_t s = 0; s < part.sequences.size(); ++s) {
      frame.sequence_of_row.insert(frame.sequence_of_row.end(), index(part.sequences[s].count),
                                   static_cast<int>(s));
    }
    for (const PortIn& p : inputs) {
      const std::size_t cols = p.data.size() / index(batch.rows());
      frame.inputs[index(p.port)] = p.data.data() + cols * index(begin);
    }
    for (const PortOut& p : outputs) {
      const bool by_wanted = p.port == port_logits || p.port == port_hidden;
      const int all = by_wanted ? static_cast<int>(batch.wanted.size()) : batch.rows();
      const std::size_t cols = all == 0 ? 0 : p.data.size() / index(all);
      frame.outputs[index(p.port)] = p.data.data() + cols * index(by_wanted ? wanted_before : begin);
    }
    FR_OK(run(recording, frame));
    wanted_before += frame.wanted();
  }
  counts_.sparse_inputs = sparse_inputs.all;
  counts_.zeros = sparse_inputs.zeros;
  return {};
}

Result<std::unique_ptr<Device>> create(const DeviceOptions& options) { return create_device({options}); }

}  // namespace

Result<std::unique_ptr<Device>> create_device(const CpuOptions& options) {
  constexpr int most_threads = 1024;
  const DeviceOptions& device = options.device;
  const std::vector<DType>& known = cpu_backend().dtypes;
  if (std::find(known.begin(), known.end(), device.dtype) == known.end()) {
    return usage_error("the cpu cannot store " + std::string(storage_name(device.dtype)) +
                       " weights (strategy): use fp32, fp16, bf16, int8 or int4");
  }
  if (device.threads < 0 || device.threads > most_threads) {
    return usage_error(std::to_string(device.threads) + " threads (threads): use 1 to " +
                       std::to_string(most_threads) + ", or 0 for one per core");
  }
  const Kernels* kernels = options.kernels;
  if (kernels == nullptr) {
    FR_TRY(kernels, choose_kernels());
  }
  FR_TRY(auto pool, ThreadPool::create(device.threads > 0 ? device.threads : available_cores()));
  Kernels chosen = *kernels;
  if (device.exact_activations) chosen.coded = nullptr;
  // Where blocks have no tiles, the few plain matrices among them are not worth results that depend on the
  // number of rows.
  const bool without =
      is_block_dtype(device.dtype) && chosen.tiles != nullptr && chosen.tiles->least_blocks == never;
  if (device.exact_activations || device.deterministic || without) chosen.tiles = nullptr;
  return std::unique_ptr<Device>(std::make_unique<CpuDevice>(options, chosen, std::move(pool)));
}

}  // namespace cpu

const Backend& cpu_backend() {
  static const Backend backend{
      "cpu",        {DType::f32, DType::f16, DType::bf16, int8_weights, int4_weights},
      &cpu::create, false,
      true,         nullptr,
      nullptr};
  return backend;
}

}  // namespace fr
