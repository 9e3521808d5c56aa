// What the tests that span folders need from anything that runs a model, and the implementation over devices.
// Failures are exceptions, which GoogleTest reports.
#pragma once
#include <memory>
#include <ostream>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "backends/backend.h"
#include "base/checkpoint.h"
#include "core/batch.h"
#include "core/state.h"
#include "models/model.h"
#include "models/random_checkpoint.h"

namespace fr::test {

class Runner {
 public:
  virtual ~Runner() = default;
  virtual const ModelInfo& info() const = 0;
  virtual const StateSpec& state_spec() const = 0;
  virtual void reserve(int slots) = 0;
  virtual void reset(int slot) = 0;  // the initial state: zero, or the tuned one
  // Logits of the wanted rows, [wanted][n_vocab].
  virtual std::vector<float> step(const Batch& batch) = 0;
  virtual std::vector<float> export_state(int slot) = 0;
  virtual void import_state(int slot, std::span<const float> values) = 0;
};

template <class T>
T need(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().message);
  return std::move(result).value();
}
inline void need(const Status& status) {
  if (!status) throw std::runtime_error(status.error().message);
}

// A backend, and one of its instruction sets where it has several.
struct Target {
  std::string backend = "reference";
  std::string isa;  // value of FR_ISA; empty: the backend's choice
  int threads = 1;
  bool exact_activations = false;
  std::string name() const { return isa.empty() ? backend : backend + "_" + isa; }
};
inline void PrintTo(const Target& t, std::ostream* out) { *out << t.name(); }
// Every backend of this build with every instruction set of this machine; the best of these with two threads.
std::vector<Target> targets();

// What the tests with random weights go through: every version, and one without ln0 and with optional biases.
inline constexpr const char* variants[] = {"4", "5.0", "5.1", "5.2", "6", "7", "7_bare"};
RandomShape variant_shape(const std::string& variant);

struct DeviceRunnerOptions {
  Target target;
  DType dtype = DType::f32;
  std::vector<int> cuts;              // layers at which the model is split over further devices, ascending
  const Checkpoint* tuned = nullptr;  // file with a tuned initial state; null: the model's own, if it has one
};

// A model on one device per segment.
class DeviceRunner final : public Runner {
 public:
  DeviceRunner(Checkpoint file, const DeviceRunnerOptions& options);

  const ModelInfo& info() const override { return model_->info(); }
  const StateSpec& state_spec() const override { return model_->state(); }
  void reserve(int slots) override;
  void reset(int slot) override;
  std::vector<float> step(const Batch& batch) override;
  std::vector<float> export_state(int slot) override;
  void import_state(int slot, std::span<const float> values) override;

  const Model& model() const { return *model_; }
  Device& device(std::size_t segment) { return *segments_.at(segment).device; }

 private:
  struct Segment {
    std::unique_ptr<Device> device;
    int begin = 0, end = 0;  // layers
    std::size_t state_offset = 0, state_size = 0;
  };
  std::size_t segment_of(int layer) const;
  void set_states();
  Program program(std::size_t segment, bool with_logits) const;

  Checkpoint file_;
  std::unique_ptr<Model> model_;
  std::vector<Segment> segments_;
  std::vector<float> initial_state_;
  int n_slots_ = 0;
};

}  // namespace fr::test
