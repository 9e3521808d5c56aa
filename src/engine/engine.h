// A loaded model on its devices, and the states of its sequences. Everything that runs a model goes through
// Engine::step.
#pragma once
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "backends/backend.h"
#include "base/checkpoint.h"
#include "base/log.h"
#include "base/result.h"
#include "engine/strategy.h"
#include "models/model.h"
#include "sample/sampler.h"
#include "text/tokenizer.h"

namespace fr {

struct LoadOptions {
  std::string strategy;        // empty: the default
  std::string vocab;           // vocabulary file; empty: found by find_tokenizer
  std::string state;           // initial state of new sequences; empty: the file's own tuned state, or zero
  int threads = 0;             // 0: one per available core
  bool deterministic = false;  // refuse devices whose logits depend on the batch, the chunks or the threads
  bool exact_activations = false;  // inputs of products stay float32, with weights in blocks too
  int max_states = 0;              // 0: as many as memory holds
  Progress progress;
};

enum class Want { none, last, all };

class State;

// The tokens one sequence feeds in a step.
struct SequenceInput {
  State* state = nullptr;
  std::span<const std::int32_t> tokens;  // at least one
  Want want = Want::last;                // whose logits (and hidden rows) are wanted
};

// Thread safe: steps and slot operations run one at a time.
class Engine : public std::enable_shared_from_this<Engine> {
 public:
  // Errors: those of the readers, of make_model and of the Binder; an unknown strategy; not enough memory.
  static Result<std::shared_ptr<Engine>> load(const std::string& path, const LoadOptions& options);
  // path may also name an exported model (locate.h: exported_kind), which its runner executes.
  // From tensors that are in memory already (random weights).
  static Result<std::shared_ptr<Engine>> make(Checkpoint file, const LoadOptions& options);

  const ModelInfo& info() const { return info_; }
  const StateSpec& state_spec() const { return state_spec_; }
  const std::string& path() const { return path_; }
  const std::string& format() const { return format_; }
  const std::string& fingerprint() const { return fingerprint_; }
  DType file_dtype() const { return file_dtype_; }
  std::int64_t n_parameters() const { return n_parameters_; }
  const std::vector<Segment>& segments() const { return segments_; }
  std::string devices() const;  // one line
  MemoryUse memory() const;
  OpCounts op_counts() const;
  std::shared_ptr<const Tokenizer> tokenizer() const { return tokenizer_; }  // null when unknown

  // Feeds all sequences and advances their states. logits: n_vocab floats for every wanted token, sequence by
  // sequence; hidden: n_embd floats for the same (empty: not wanted). Errors found before the step leave the
  // states untouched.
  Status step(std::span<const SequenceInput> sequences, std::span<float> logits,
              std::span<float> hidden = {});
  // Feeds all sequences, draws one token for each from its last logits, and lets the sampler count it.
  Status step_sample(std::span<const SequenceInput> sequences, std::span<Sampler* const> samplers,
                     std::span<std::int32_t> tokens);

 private:
  friend class State;
  Engine() = default;
  static Result<std::shared_ptr<Engine>> load_exported(std::string_view kind, const std::string& path,
                                                       const LoadOptions& options);
  void tell_about(DType chosen) const;
  Status load_weights(const Checkpoint& file, const LoadOptions& options);
  Status read_initial_state(const LoadOptions& options);
  Status check_file() const;
  Result<Batch> make_batch(std::span<const SequenceInput> sequences) const;
  // What a step is to give for its wanted rows, in their order; what is empty is not wanted. draws and drawn:
  // tokens, drawn by the last device.
  struct Results {
    std::span<float> logits, hidden;
    std::span<const DrawRequest> draws;
    std::span<DrawResult> drawn;
  };
  Results part(const Results& results, std::size_t begin, std::size_t count) const;  // of those rows
  Status run(const Batch& batch, const Results& results);
  Status run_segments(const Batch& batch, const Results& results);
  bool make_draws(std::span<Sampler* const> samplers);
  Program program(std::size_t segment, bool with_logits, bool with_hidden) const;

  // Slots: the same number names a sequence's place on every device.
  Result<int> acquire_slot();
  void release_slot(int slot);
  void reset_slot(int slot);
  void copy_slot(int from, int to);
  void export_slot(int slot, std::span<float> out) const;
  void import_slot(int slot, std::span<const float> in);

  mutable std::mutex mutex_;
  std::string path_, format_, fingerprint_;
  std::vector<std::shared_ptr<const MappedFile>> files_;  // empty when the tensors were made in memory
  DType file_dtype_ = DType::f32;
  std::int64_t n_parameters_ = 0;
  ModelInfo info_;
  StateSpec state_spec_;
  std::unique_ptr<Model> model_;  // null: an exported model
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::vector<Segment> segments_;
  std::vector<std::unique_ptr<Device>> devices_;  // one per segment
  std::vector<std::int64_t> state_offsets_;       // floats; segment i owns [i, i + 1) of the canonical form
  std::vector<float> initial_state_;              // canonical; empty: the blocks' initial values
  int max_states_ = 0;
  int n_slots_ = 0;
  std::vector<int> free_slots_;
  // Of step_sample, which draws on the last device or here.
  std::vector<DrawRequest> draws_;
  std::vector<DrawResult> drawn_;
  std::vector<float> sample_logits_;
};

// The memory of one sequence: a slot on the engine's devices. Movable; one thread at a time.
class State {
 public:
  static Result<State> make(std::shared_ptr<Engine> engine);  // the initial state
  State(State&& other) noexcept;
  State& operator=(State&& other) noexcept;
  ~State();

  Result<State> clone() const;
  void copy_from(const State& other);  // both of one engine
  void reset();                        // the initial state
  // The canonical form (core/state.h), state_spec().size floats.
  std::vector<float> values() const;
  void set_values(std::span<const float> values, std::uint64_t tokens_seen);

  std::uint64_t tokens_seen() const { return tokens_seen_; }
  const std::shared_ptr<Engine>& engine() const { return engine_; }

 private:
  friend class Engine;
  State(std::shared_ptr<Engine> engine, int slot) : engine_(std::move(engine)), slot_(slot) {}
  std::shared_ptr<Engine> engine_;
  int slot_ = -1;
  std::uint64_t tokens_seen_ = 0;
};

}  // namespace fr
