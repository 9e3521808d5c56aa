// The cuda backend: weights in GPU memory, programs recorded once, and run as launches or as CUDA graphs.
#pragma once
#include <list>
#include <memory>
#include <utility>
#include <vector>

#include "backends/backend.h"
#include "backends/cuda/cuda_ops.h"
#include "backends/cuda/device_sampler.h"
#include "backends/cuda/graphs.h"
#include "backends/cuda/memory.h"
#include "backends/cuda/pack.h"
#include "backends/cuda/recording.h"
#include "backends/cuda/slots.h"
#include "backends/cuda/step_inputs.h"

namespace fr::cuda {

struct CudaOptions {
  DeviceOptions device;
  bool expand_all = false;                // no native fused ops: every version runs on primitives alone
  bool graphs = true;                     // false: every step is launched kernel by kernel
  int most_rows = StepInputs::most_rows;  // longer batches run in parts of so many rows
  std::size_t transfer_floats = std::size_t{4} << 20;  // larger results come in pieces
};

// One call at a time. After the GPU failed, every step returns the error, and slots read as zeros.
class CudaDevice final : public Device {
 public:
  // Errors: those of check_device; a dtype that it cannot store; not enough memory.
  static Result<std::unique_ptr<CudaDevice>> make(const CudaOptions& options);
  ~CudaDevice() override;

  std::string description() const override;  // "cuda:0 fp16, NVIDIA H100 80GB HBM3"
  Result<Tensor> add_vector(std::span<const float> values, Shape shape) override;
  Result<Mat> add_matrix(const TensorView& w, MatRole role, const Checkpoint& file) override;
  Status set_state(const StateSpec& spec, int first_block, int last_block) override;
  Status reserve_slots(int count) override;
  void reset_slot(int slot) override;
  void copy_slot(int from, int to) override;
  void export_slot(int slot, std::span<float> out) const override;
  void import_slot(int slot, std::span<const float> in) override;
  // A port may be left out of `outputs` or have no room: what the program puts there then stays on the GPU.
  Status step(const Program& program, const Batch& batch, std::span<const PortIn> inputs,
              std::span<const PortOut> outputs) override;
  bool can_draw() const override { return true; }
  // Request i: the row of wanted row i of the last step, which had at most most_rows rows.
  Status draw(std::span<const DrawRequest> requests, std::span<DrawResult> results) override;
  // sparse_inputs and zeros are those of the rows that were run, padding included.
  OpCounts last_counts() const override;
  MemoryUse memory() const override;

  // What the last step put to port_logits, row i for wanted row i of the batch (of its last most_rows rows),
  // in GPU memory until the next step; absent if its program has no logits.
  Rows logits_on_device() const { return logits_; }
  Stream stream() const { return stream_; }
  std::size_t graphs() const { return graphs_.size(); }

 private:
  // A batch or a part of one, and where its rows begin in the whole.
  struct Part {
    const Batch& batch;
    int first_row = 0, first_wanted = 0;
    int all_rows = 0;  // of the whole
  };
  // Rows of an output on their way to the caller.
  struct RowsOut {
    const float* from;
    std::int64_t stride;
    float* to;
    int rows, cols;
  };

  explicit CudaDevice(const CudaOptions& options)
      : options_(options),
        index_(options.device.index),
        weights_(options.device.dtype),
        sampler_(options.device.index),
        use_graphs_(options.graphs) {}
  Status open();
  Status check(cudaError_t error) const;  // success, or from now on the device is lost
  const Recording& recording_of(const Program& program);
  Status run(const Recording& recording, int program, const Batch& batch, std::span<const PortIn> inputs,
             std::span<const PortOut> outputs);
  Status run_part(const Recording& recording, int program, const Part& part, std::span<const PortIn> inputs,
                  std::span<const PortOut> outputs);
  Status reserve_memory(const Recording& recording, int rows, int wanted);
  Status upload(const Recording& recording, const Part& part, std::span<const PortIn> inputs);
  cudaError_t launch(const Recording& recording, Graphs::Entry* graph);
  Status fetch(const Recording& recording, const Part& part, std::span<const PortOut> outputs);
  Status fetch_rows();
  Status finish_transfers();

  const CudaOptions options_;
  const int index_;
  std::string gpu_;  // its name
  Stream stream_ = nullptr;
  mutable cudaError_t lost_ = cudaSuccess;  // not success: what stopped the GPU
  Weights weights_;
  DeviceSampler sampler_;
  std::unique_ptr<Slots> slots_;
  StepInputs step_inputs_;
  std::array<DeviceBlock, port_count> port_inputs_;
  std::list<std::pair<int, Recording>> recordings_;  // by program key, the latest used first
  DeviceBlock arena_;                                // values and scratch of a step
  HostBlock transfer_;                               // outputs on their way to the caller
  std::vector<RowsOut> rows_out_, transfers_;        // what is asked for; what is in `transfer_`
  Graphs graphs_;
  bool use_graphs_;
  Frame frame_;
  Rows logits_;
  int logits_rows_ = 0, logits_cols_ = 0;
  OpCounts counts_;
  mutable bool zeros_known_ = true;
  mutable unsigned long long zeros_ = 0;
};

// As CudaDevice::make, for the table of backends.
Result<std::unique_ptr<Device>> create_device(const DeviceOptions& options);

}  // namespace fr::cuda
