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
#include "base/result.h"
#include "core/batch.h"
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

  // Runs the program on the batch (already validated): reads the inputs, updates the slots of the batch's
  // sequences, fills the outputs. An error leaves the slots of this batch undefined.
  virtual Status step(const Program& program, const Batch& batch, std::span<const PortIn> inputs,
                      std::span<const PortOut> outputs) = 0;

  virtual OpCounts last_counts() const = 0;  // of the last program that was recorded or run
  virtual MemoryUse memory() const = 0;
};

struct DeviceOptions {
  DType dtype = DType::f32;  // how matrices are stored
  int threads = 0;           // 0: one per available core
};

struct Backend {
  std::string_view name;      // the device word of a strategy
  std::vector<DType> dtypes;  // what it can store
  Result<std::unique_ptr<Device>> (*create)(const DeviceOptions& options);
};

// The backends of this build, fastest first. find_backend: an error lists what there is.
std::span<const Backend> backends();
Result<const Backend*> find_backend(std::string_view name);

}  // namespace fr
