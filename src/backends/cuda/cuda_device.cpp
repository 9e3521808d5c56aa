#include "backends/cuda/cuda_device.h"

#include <algorithm>
#include <cstring>

#include "backends/cuda/driver.h"
#include "backends/cuda/native.h"
#include "core/storage.h"

namespace fr::cuda {
namespace {

constexpr std::size_t most_recordings = 16;

std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

// Single tokens, all or none of them wanted.
bool is_decode(const Batch& batch) {
  return static_cast<int>(batch.sequences.size()) == batch.rows() &&
         (batch.wanted.empty() || static_cast<int>(batch.wanted.size()) == batch.rows());
}

}  // namespace

Result<std::unique_ptr<CudaDevice>> CudaDevice::make(const CudaOptions& options) {
  FR_CHECK(options.most_rows >= 1 && options.most_rows <= StepInputs::most_rows);
  const DType asked = options.device.dtype;
  if (asked != DType::f32 && asked != DType::f16 && asked != DType::bf16 && asked != int8_weights &&
      asked != int4_weights) {
    return usage_error("cuda cannot store " + std::string(storage_name(asked)) +
                       " weights (strategy): use fp32, fp16, bf16, int8 or int4");
  }
  int before = 0;
  const bool had_device = cudaGetDevice(&before) == cudaSuccess;
  Status usable = check_device(options.device.index);
  std::unique_ptr<CudaDevice> device;
  if (usable) {
    device.reset(new CudaDevice(options));
    usable = device->open();
  }
  if (!usable) device.reset();
  if (had_device) cudaSetDevice(before);
  cudaGetLastError();
  if (!usable) return std::move(usable).error();
  return device;
}

Status CudaDevice::open() {
  cudaDeviceProp gpu{};
  FR_OK(check(cudaGetDeviceProperties(&gpu, index_)));
  gpu_ = gpu.name;
  FR_OK(check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)));
  slots_ = std::make_unique<Slots>(stream_, index_);
  return step_inputs_.allocate(index_);
}

CudaDevice::~CudaDevice() {
  const CurrentDevice current(index_);
  if (stream_ == nullptr) return;
  cudaStreamSynchronize(stream_);
  graphs_.clear();
  cudaStreamDestroy(stream_);
}

std::string CudaDevice::description() const {
  return device_name(index_) + " " + std::string(storage_name(options_.device.dtype)) + ", " + gpu_;
}

Status CudaDevice::check(cudaError_t error) const {
  if (error != cudaSuccess && lost_ == cudaSuccess) {
    lost_ = error;
    cudaGetLastError();
  }
  return lost_ == cudaSuccess ? Status{} : lost_device(lost_, index_);
}

Result<Tensor> CudaDevice::add_vector(std::span<const float> values, Shape shape) {
  const CurrentDevice current(index_);
  return weights_.add_vector(values, shape);
}

Result<Mat> CudaDevice::add_matrix(const TensorView& w, MatRole role, const Checkpoint& file) {
  const CurrentDevice current(index_);
  return weights_.add_matrix(w, role, file);
}

Status CudaDevice::set_state(const StateSpec& spec, int first_block, int last_block) {
  const CurrentDevice current(index_);
  weights_.finish();
  return slots_->set_layout(spec, first_block, last_block);
}

Status CudaDevice::reserve_slots(int count) {
  const CurrentDevice current(index_);
  FR_OK(check(cudaSuccess));
  return slots_->reserve(count);
}

void CudaDevice::reset_slot(int slot) {
  const CurrentDevice current(index_);
  if (lost_ == cudaSuccess) (void)check(slots_->reset(slot));
}

void CudaDevice::copy_slot(int from, int to) {
  const CurrentDevice current(index_);
  if (lost_ == cudaSuccess) (void)check(slots_->copy(from, to));
}

void CudaDevice::export_slot(int slot, std::span<float> out) const {
  const CurrentDevice current(index_);
  if (lost_ != cudaSuccess || !check(slots_->read(slot, out))) std::fill(out.begin(), out.end(), 0.0f);
}

void CudaDevice::import_slot(int slot, std::span<const float> in) {
  const CurrentDevice current(index_);
  if (lost_ == cudaSuccess) (void)check(slots_->write(slot, in));
}

const Recording& CudaDevice::recording_of(const Program& program) {
  const auto found = std::find_if(recordings_.begin(), recordings_.end(),
                                  [&](const auto& r) { return r.first == program.key; });
  if (found != recordings_.end()) {
    recordings_.splice(recordings_.begin(), recordings_, found);
    return recordings_.front().second;
  }
  CudaOps ops(weights_, slots_->layout(), options_.expand_all ? nullptr : &native_kernels());
  program.emit(ops);
  recordings_.emplace_front(program.key, ops.take());
  if (recordings_.size() > most_recordings) {
    graphs_.drop(recordings_.back().first);
    recordings_.pop_back();
  }
  return recordings_.front().second;
}

// Memory for the values of a step. Graphs name addresses: when these change, the graphs go.
Status CudaDevice::reserve_memory(const Recording& recording, int rows, int wanted) {
  const std::string what = "a step of " + std::to_string(rows) + " rows";
  const auto grow = [&](DeviceBlock& block, std::size_t bytes) -> Status {
    if (bytes <= block.bytes()) return {};
    graphs_.clear();
    block = {};
    FR_TRY(block, allocate_device(bytes, what, index_));
    return check(cudaMemsetAsync(block.as(), 0, bytes, stream_));
  };
  FR_OK(grow(arena_, recording.memory(rows, wanted)));
  for (std::size_t p = 0; p < port_count; ++p)
    FR_OK(grow(port_inputs_[p], index(recording.input_cols[p]) * index(rows) * sizeof(float)));
  return {};
}

Status CudaDevice::upload(const Recording& recording, const Part& part, std::span<const PortIn> inputs) {
  FR_OK(check(step_inputs_.upload(stream_, part.first_row == 0)));
  for (const PortIn& p : inputs) {
    const std::size_t cols = index(recording.input_cols[index(p.port)]);
    if (cols == 0) continue;  // the program does not read it
    FR_CHECK(p.data.size() == cols * index(part.all_rows));
    FR_OK(check(
        cudaMemcpyAsync(port_inputs_[index(p.port)].as(), p.data.data() + cols * index(part.first_row),
                        cols * index(part.batch.rows()) * sizeof(float), cudaMemcpyHostToDevice, stream_)));
  }
  return {};
}

// graph: null for a step that is not worth one. If the capture fails, nothing has run, and it is launched
// instead.
cudaError_t CudaDevice::launch(const Recording& recording, Graphs::Entry* graph) {
  if (graph != nullptr && graph->exec == nullptr && graph->again && use_graphs_) {
    cudaError_t error = Graphs::begin(stream_);
    if (error == cudaSuccess) {
      recording.run(frame_);
      graph->exec = Graphs::end(stream_, error);
    }
    if (error != cudaSuccess) {
      // Later there may be memory, and another thread may not disturb the capture.
      use_graphs_ = error == cudaErrorMemoryAllocation || error == cudaErrorStreamCaptureInvalidated;
      cudaGetLastError();
    }
  }
  if (graph != nullptr && graph->exec != nullptr) {
    const cudaError_t error = cudaGraphLaunch(graph->exec, stream_);
    if (error != cudaErrorMemoryAllocation) return error;
    cudaGetLastError();
  }
  recording.run(frame_);
  return cudaGetLastError();
}

Status CudaDevice::run_part(const Recording& recording, int program, const Part& part,
                            std::span<const PortIn> inputs, std::span<const PortOut> outputs) {
  const Batch& batch = part.batch;
  const bool decode = use_graphs_ && !recording.has_scan && is_decode(batch);
  const int rows = decode ? std::max(bucket_of(batch.rows()), batch.rows()) : batch.rows();
  const int wanted = !decode ? static_cast<int>(batch.wanted.size()) : batch.wanted.empty() ? 0 : rows;
  FR_OK(reserve_memory(recording, rows, wanted));
  Graphs::Entry* const graph = decode ? &graphs_.find({program, rows, wanted}) : nullptr;

  step_inputs_.pack(batch, rows, wanted);
  FR_OK(upload(recording, part, inputs));
  frame_.stream = stream_;
  frame_.step = step_inputs_.view(slots_->table());
  frame_.batch = &batch;
  frame_.slots = slots_->addresses();
  frame_.zeros = step_inputs_.zeros();
  for (std::size_t p = 0; p < port_count; ++p)
    frame_.inputs[p] = {port_inputs_[p].as<float>(), recording.input_cols[p]};
  recording.place(frame_, arena_.as());
  const cudaError_t launched = launch(recording, graph);
  if (launched == cudaErrorMemoryAllocation)  // of a kernel that is loaded only now: the device is not lost
    return out_of_memory("the kernels of a step", 0, index_);
  FR_OK(check(launched));
  counts_.sparse_inputs += recording.counts.sparse_inputs * rows;
  return fetch(recording, part, outputs);
}

// Waits for the step, and brings what is asked for to the caller.
Status CudaDevice::fetch(const Recording& recording, const Part& part, std::span<const PortOut> outputs) {
  logits_ = {};
  logits_rows_ = 0;
  rows_out_.clear();
  for (const Output& o : recording.outputs) {
    if (o.port == port_logits) {
      logits_ = frame_.rows(o.from);
      logits_rows_ = static_cast<int>(part.batch.wanted.size());
      logits_cols_ = o.cols;
    }
    const auto asked = std::find_if(outputs.begin(), outputs.end(),
                                    [&](const PortOut& p) { return p.port == o.port && !p.data.empty(); });
    if (asked == outputs.end()) continue;
    const bool by_row = o.extent == Extent::batch, by_wanted = o.extent == Extent::wanted;
    const int rows = by_row      ? part.batch.rows()
                     : by_wanted ? static_cast<int>(part.batch.wanted.size())
                                 : o.d0;
    const std::size_t first = index(by_row ? part.first_row : by_wanted ? part.first_wanted : 0);
    FR_CHECK((first + index(rows)) * index(o.cols) <= asked->data.size());
    rows_out_.push_back({frame_.at(o.from), std::max<std::int64_t>(o.from.stride, o.cols),
                         asked->data.data() + first * index(o.cols), rows, o.cols});
  }
  return fetch_rows();
}

// Through the page-locked buffer, in as many goes as it takes.
Status CudaDevice::fetch_rows() {
  std::size_t all = 0, widest = 0;
  for (const RowsOut& r : rows_out_) {
    all += index(r.rows * r.stride);
    widest = std::max(widest, index(r.stride));
  }
  const std::size_t need = std::min(all, std::max(options_.transfer_floats, widest)) * sizeof(float);
  if (need > transfer_.bytes()) {
    transfer_ = {};
    FR_TRY(transfer_, allocate_host(need, "the results of a step", index_));
  }
  std::size_t used = 0;
  transfers_.clear();
  for (RowsOut& r : rows_out_) {
    while (r.rows > 0) {
      const std::size_t room = (transfer_.bytes() / sizeof(float) - used) / index(r.stride);
      if (room == 0) {
        FR_OK(finish_transfers());
        used = 0;
        continue;
      }
      const int rows = static_cast<int>(std::min(room, index(r.rows)));
      float* const buffer = transfer_.as<float>() + used;
      const std::size_t floats =
          index((rows - 1) * r.stride + r.cols);  // what follows the last row is not ours
      FR_OK(check(cudaMemcpyAsync(buffer, r.from, floats * sizeof(float), cudaMemcpyDeviceToHost, stream_)));
      transfers_.push_back({buffer, r.stride, r.to, rows, r.cols});
      used += index(rows * r.stride);
      r.from += rows * r.stride;
      r.to += std::int64_t{rows} * r.cols;
      r.rows -= rows;
    }
  }
  return finish_transfers();
}

// Waits, and unpacks what came.
Status CudaDevice::finish_transfers() {
  const Status waited = check(cudaStreamSynchronize(stream_));
  for (const RowsOut& t : transfers_) {
    for (int row = 0; row < t.rows && waited; ++row)
      std::copy_n(t.from + row * t.stride, t.cols, t.to + std::int64_t{row} * t.cols);
  }
  transfers_.clear();
  return waited;
}

Status CudaDevice::step(const Program& program, const Batch& batch, std::span<const PortIn> inputs,
                        std::span<const PortOut> outputs) {
  const CurrentDevice current(index_);
  FR_OK(check(cudaSuccess));
  FR_CHECK(slots_->count() > 0);
  const Recording& recording = recording_of(program);
  counts_ = recording.counts;
  counts_.sparse_inputs = 0;
  zeros_known_ = false;
  const Status done = run(recording, program.key, batch, inputs, outputs);
  if (!done) cudaStreamSynchronize(stream_);  // what was begun may read the caller's memory
  return done;
}

Status CudaDevice::run(const Recording& recording, int program, const Batch& batch,
                       std::span<const PortIn> inputs, std::span<const PortOut> outputs) {
  const int parts = (batch.rows() + options_.most_rows - 1) / options_.most_rows;
  if (parts == 1) return run_part(recording, program, {batch, 0, 0, batch.rows()}, inputs, outputs);
  int wanted_before = 0;
  for (int i = 0; i < parts; ++i) {
    const auto row = [&](int n) { return static_cast<int>(std::int64_t{batch.rows()} * n / parts); };
    const Batch part = part_of(batch, row(i), row(i + 1));
    FR_OK(run_part(recording, program, {part, row(i), wanted_before, batch.rows()}, inputs, outputs));
    wanted_before += static_cast<int>(part.wanted.size());
  }
  return {};
}

Status CudaDevice::draw(std::span<const DrawRequest> requests, std::span<DrawResult> results) {
  const CurrentDevice current(index_);
  FR_OK(check(cudaSuccess));
  FR_CHECK(logits_ && static_cast<int>(requests.size()) == logits_rows_ && results.size() == requests.size());
  const Status drawn = sampler_.draw(stream_, logits_, logits_cols_, requests, results);
  if (!drawn) (void)check(cudaStreamSynchronize(stream_));  // what was begun may read memory of ours
  return drawn;
}

// The zeros are fetched when somebody asks.
OpCounts CudaDevice::last_counts() const {
  OpCounts counts = counts_;
  if (!zeros_known_ && lost_ == cudaSuccess) {
    const CurrentDevice current(index_);
    const cudaError_t copied =
        cudaMemcpyAsync(&zeros_, step_inputs_.zeros(), sizeof zeros_, cudaMemcpyDeviceToHost, stream_);
    const cudaError_t waited = cudaStreamSynchronize(stream_);
    zeros_known_ = check(copied != cudaSuccess ? copied : waited).ok();
  }
  counts.zeros = static_cast<std::int64_t>(zeros_);
  return counts;
}

MemoryUse CudaDevice::memory() const {
  std::size_t scratch = arena_.bytes() + sampler_.bytes();
  for (const DeviceBlock& b : port_inputs_) scratch += b.bytes();
  return {weights_.bytes(), 0, slots_->bytes(), static_cast<std::int64_t>(scratch)};
}

Result<std::unique_ptr<Device>> create_device(const DeviceOptions& options) {
  FR_TRY(std::unique_ptr<CudaDevice> device, CudaDevice::make({options}));
  return std::unique_ptr<Device>(std::move(device));
}

}  // namespace fr::cuda
