// What a backend offers to the engine: devices that hold weights and sequence states, and run programs over
// batches.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "base/mmap.h"
#include "base/result.h"
#include "core/batch.h"
#include "core/draw.h"
#include "core/model_info.h"
#include "core/ops.h"
#include "core/state.h"
#include "core/weights.h"

namespace fr {

// A piece of a model as a device runs it. What emit enqueues must depend on the key alone: devices record it
// per key and replay it for other batches.
struct Program {
  int key = 0;
  std::function<void(Ops&)> emit;
};

struct MemoryUse {
  std::int64_t weights = 0;  // bytes of packed weights that the device allocated
  std::int64_t mapped = 0;   // bytes used in place, where the checkpoint has them
  std::int64_t states = 0;
  std::int64_t scratch = 0;
};

// One segment of a model: its weights, its pool of state slots, its recordings. One call at a time (the
// engine serialises); the device may use threads of its own inside a call.
class Device : public WeightStore {
 public:
  virtual std::string description() const = 0;  // "cpu fp16, 2 threads, avx2"

  // The state of this segment: blocks [first, last) of the spec. Called once, after the weights were added.
  virtual Status set_state(const StateSpec& spec, int first_block, int last_block) = 0;
  // Makes slots [0, count) exist; keeps the contents of those that did. Error: not enough memory, with sizes.
  virtual Status reserve_slots(int count) = 0;
  virtual void reset_slot(int slot) = 0;  // the initial value of every block
  virtual void copy_slot(int from, int to) = 0;
  // The segment's blocks in the canonical form (spec order, without the blocks of other segments).
  virtual void export_slot(int slot, std::span<float> out) const = 0;
  virtual void import_slot(int slot, std::span<const float> in) = 0;

  // Of longer batches, a step should be given pieces of so many rows.
  virtual int rows_per_step() const { return 256; }
  // Runs the program on the batch (already validated): reads the inputs, updates the slots of the batch's
  // sequences, fills the outputs. An error leaves the slots of this batch undefined.
  virtual Status step(const Program& program, const Batch& batch, std::span<const PortIn> inputs,
                      std::span<const PortOut> outputs) = 0;

  // Whether `draw` works.
  virtual bool can_draw() const { return false; }
  // Draws from the logits that the last step put to port_logits: request i from the row of its wanted row i.
  // Faults of a row are in its result. The step itself need not ask for the logits as an output.
  virtual Status draw(std::span<const DrawRequest>, std::span<DrawResult>) {
    return usage_error("this device draws no tokens (sampling): use the host's sampler");
  }

  virtual OpCounts last_counts() const = 0;  // of the last program that was recorded or run
  virtual MemoryUse memory() const = 0;
};

struct DeviceOptions {
  DType dtype = DType::f32;  // how matrices are stored
  int threads = 0;           // 0: one per available core
  int index = 0;             // which of several: 1 in "cuda:1"
  // Inputs of products stay float32; else a device may round them as its kernels like (8 bits with weights in
  // blocks).
  bool exact_activations = false;
  // Only kernels whose results do not depend on the batch, the chunks and the threads
  // (Backend::deterministic).
  bool deterministic = false;
};

struct Backend {
  std::string_view name;      // the device word of a strategy
  std::vector<DType> dtypes;  // what it can store
  Result<std::unique_ptr<Device>> (*create)(const DeviceOptions& options);
  bool numbered = false;       // there may be several: "cuda:1"
  bool deterministic = false;  // logits have the same bits whatever the batch, the chunks and the threads
  Status (*available)() = nullptr;  // why this machine cannot use it now; null: it always can
  // Bytes free for weights on device `index`; null: those of the machine (base/cpu_info.h).
  std::int64_t (*free_memory)(int index) = nullptr;
};

// The backends of this build, fastest first. find_backend: an error lists what there is.
std::span<const Backend> backends();
Result<const Backend*> find_backend(std::string_view name);

// A model that was exported to a graph of a foreign runtime (ncnn, onnx), which executes it: no Ops, no
// weights of ours. The device is ready: weights and state layout are the file's, and step ignores the
// program's emit.
struct Exported {
  ModelInfo info;
  StateSpec state;
  std::string format;        // "ncnn", "onnx"
  DType dtype = DType::f32;  // of its matrices, as a strategy asks for them
  std::int64_t n_parameters = 0;
  std::string fingerprint;  // of the model that was exported; of the files if they do not say
  std::string path;         // what messages name
  std::vector<std::shared_ptr<const MappedFile>> files;
  std::vector<float> initial_state;  // canonical; empty: the blocks' initial values
  std::unique_ptr<Device> device;
};

struct GraphRunner {
  std::string_view name;  // the device word of a strategy: "ncnn", "onnx"
  // path: NAME, NAME.param or NAME.bin (ncnn), NAME.onnx. options.dtype is not looked at: the caller compares
  // Exported::dtype with what was asked for. Errors: damaged or foreign files.
  Result<Exported> (*open)(const std::string& path, const DeviceOptions& options);
};

// The runners of this build. find_runner: null if it is not in this build.
std::span<const GraphRunner> runners();
const GraphRunner* find_runner(std::string_view name);

}  // namespace fr
