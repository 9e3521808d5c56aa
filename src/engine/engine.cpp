#include "engine/engine.h"

#include <algorithm>
#include <limits>
#include <map>
#include <utility>

#include "base/cpu_info.h"
#include "core/storage.h"
#include "engine/fingerprint.h"
#include "engine/locate.h"
#include "engine/state_file.h"
#include "formats/formats.h"

namespace fr {
namespace {

// The number format that most of the numbers have.
DType main_dtype(const Checkpoint& file) {
  std::map<DType, std::int64_t> count;
  for (const TensorView& t : file.tensors) count[t.dtype] += t.readable() ? t.size() : 0;
  const auto most = std::max_element(count.begin(), count.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == count.end() ? DType::f32 : most->first;
}

std::int64_t count_parameters(const Checkpoint& file) {
  std::int64_t n = 0;
  for (const TensorView& t : file.tensors) n += t.readable() ? t.size() : 0;
  return n;
}

Error not_deterministic(std::string_view device) {
  return usage_error(std::string(device) +
                     " has no deterministic mode (--deterministic): use the cpu, or leave the option out");
}

}  // namespace

Result<std::shared_ptr<Engine>> Engine::load(const std::string& path, const LoadOptions& options) {
  if (const std::string_view kind = exported_kind(path); !kind.empty())
    return load_exported(kind, path, options);
  FR_TRY(Checkpoint file, open_checkpoint(path, options.progress));
  return make(std::move(file), options);
}

Result<std::shared_ptr<Engine>> Engine::make(Checkpoint file, const LoadOptions& options) {
  const std::shared_ptr<Engine> engine(new Engine);
  engine->path_ = file.path;
  engine->format_ = file.format;
  engine->max_states_ = options.max_states;
  engine->files_ = file.files;
  engine->file_dtype_ = main_dtype(file);
  engine->n_parameters_ = count_parameters(file);
  FR_TRY(engine->model_, make_model(file));
  engine->info_ = engine->model_->info();
  engine->state_spec_ = engine->model_->state();
  FR_TRY(engine->tokenizer_, find_tokenizer(options.vocab, file, engine->info().n_vocab));
  engine->fingerprint_ = model_fingerprint(file);
  FR_OK(engine->load_weights(file, options));
  FR_TRY(engine->initial_state_, tuned_state(file, engine->info_, engine->state_spec_));
  FR_OK(engine->read_initial_state(options));
  return engine;
}

Result<std::shared_ptr<Engine>> Engine::load_exported(std::string_view kind, const std::string& path,
                                                      const LoadOptions& options) {
  const GraphRunner* runner = find_runner(kind);
  if (runner == nullptr) return missing_runner(kind, path);
  if (options.deterministic) return not_deterministic(kind);
  FR_TRY(Exported model, runner->open(path, {DType::f32, options.threads, 0}));
  FR_OK(check_exported_strategy(options.strategy, kind, model.dtype, path));
  const std::shared_ptr<Engine> engine(new Engine);
  engine->path_ = model.path;
  engine->format_ = model.format;
  engine->max_states_ = options.max_states;
  engine->files_ = std::move(model.files);
  engine->file_dtype_ = model.dtype;
  engine->n_parameters_ = model.n_parameters;
  engine->fingerprint_ = std::move(model.fingerprint);
  engine->info_ = std::move(model.info);
  engine->state_spec_ = std::move(model.state);
  engine->segments_ = {{std::string(kind), model.dtype, 0, engine->info_.n_layer}};
  engine->devices_.push_back(std::move(model.device));
  engine->state_offsets_ = {0, engine->state_spec_.size};
  Checkpoint no_tensors;
  no_tensors.path = model.path;
  FR_TRY(engine->tokenizer_, find_tokenizer(options.vocab, no_tensors, engine->info_.n_vocab));
  engine->initial_state_ = std::move(model.initial_state);
  FR_OK(engine->read_initial_state(options));
  return engine;
}

// One line about the dtype that was chosen, if it is not that of the file.
void Engine::tell_about(DType chosen) const {
  const bool same = chosen == file_dtype_ || (chosen == int4_weights && file_dtype_ == DType::q4_0);
  if (same) return;
  log(LogLevel::info,
      "the file's " + std::string(dtype_name(file_dtype_)) + " weights become " +
          std::string(storage_name(chosen)) + " while loading" +
          (is_float_dtype(file_dtype_) ? ", since 70 % of the free memory cannot hold them" : "") + " (" +
          path_ + "): choose with --strategy");
}

Status Engine::load_weights(const Checkpoint& file, const LoadOptions& options) {
  const int n_layer = info().n_layer;
  const std::int64_t table = std::int64_t{info().n_vocab} * info().n_embd;
  FR_TRY(segments_, parse_strategy(options.strategy, file_dtype_, n_layer));
  bool told = false;
  for (Segment& segment : segments_) {
    FR_TRY(const Backend* backend, find_backend(segment.device));
    if (options.deterministic && !backend->deterministic) return not_deterministic(segment.device);
    if (backend->available) FR_OK(backend->available());
    if (segment.automatic) {
      const std::int64_t free =
          backend->free_memory ? backend->free_memory(segment.index) : available_memory();
      const std::int64_t share = (n_parameters_ - table) / n_layer * (segment.end - segment.begin);
      segment.dtype = automatic_dtype(file_dtype_, share, free);
      if (!std::exchange(told, true)) tell_about(segment.dtype);
    }
    FR_TRY(auto device, backend->create({segment.dtype, options.threads, segment.index,
                                         options.exact_activations, options.deterministic}));
    devices_.push_back(std::move(device));
  }
  const auto store = [this](int layer) -> WeightStore& {
    for (std::size_t i = 0; i + 1 < segments_.size(); ++i) {
      if (layer < segments_[i].end) return *devices_[i];
    }
    return *devices_.back();
  };
  Binder binder(file, store, options.progress);
  model_->bind(binder);
  FR_OK(binder.finish());

  const StateSpec& spec = state_spec();
  const auto first_block = [&](int layer) {
    const auto it = std::find_if(spec.blocks.begin(), spec.blocks.end(),
                                 [&](const StateBlock& b) { return b.layer >= layer; });
    return static_cast<int>(it - spec.blocks.begin());
  };
  for (std::size_t i = 0; i < segments_.size(); ++i) {
    const int first = first_block(segments_[i].begin), last = first_block(segments_[i].end);
    FR_OK(devices_[i]->set_state(spec, first, last));
    state_offsets_.push_back(spec.blocks[static_cast<std::size_t>(first)].offset);
  }
  state_offsets_.push_back(spec.size);
  return {};
}

// What --state names replaces the model's own.
Status Engine::read_initial_state(const LoadOptions& options) {
  if (options.state.empty()) return {};
  FR_TRY(StateFile state, read_state_file(options.state, *this));
  initial_state_ = std::move(state.values);
  return {};
}

std::string Engine::devices() const {
  std::string s;
  for (const auto& device : devices_) s += (s.empty() ? "" : "; ") + device->description();
  return s;
}

MemoryUse Engine::memory() const {
  const std::lock_guard lock(mutex_);
  MemoryUse sum;
  for (const auto& device : devices_) {
    const MemoryUse m = device->memory();
    sum.weights += m.weights;
    sum.mapped += m.mapped;
    sum.states += m.states;
    sum.scratch += m.scratch;
  }
  return sum;
}

OpCounts Engine::op_counts() const {
  const std::lock_guard lock(mutex_);
  OpCounts sum;
  for (const auto& device : devices_) {
    const OpCounts counts = device->last_counts();
    sum.native += counts.native;
    sum.expanded += counts.expanded;
    sum.sparse_inputs += counts.sparse_inputs;
    sum.zeros += counts.zeros;
  }
  return sum;
}

// Reading a mapping beyond the end of its file kills the process: see first that the file was not cut.
Status Engine::check_file() const {
  for (const auto& file : files_) {
    if (file->size_on_disk() >= file->bytes().size()) continue;
    return file_error("the model file was cut while it was in use (" + file->path() + "): load it again");
  }
  return {};
}

Result<Batch> Engine::make_batch(std::span<const SequenceInput> sequences) const {
  Batch batch;
  for (const SequenceInput& s : sequences) {
    FR_CHECK(s.state != nullptr && s.state->engine_.get() == this);
    const int begin = batch.rows(), count = static_cast<int>(s.tokens.size());
    batch.tokens.insert(batch.tokens.end(), s.tokens.begin(), s.tokens.end());
    batch.sequences.push_back({s.state->slot_, begin, count});
    if (s.want == Want::none) continue;
    for (int row = s.want == Want::all ? begin : begin + count - 1; row < begin + count; ++row)
      batch.wanted.push_back(row);
  }
  FR_OK(validate(batch, info().n_vocab, n_slots_));
  return batch;
}

Program Engine::program(std::size_t segment, bool with_logits, bool with_hidden) const {
  const bool first = segment == 0, last = segment + 1 == segments_.size();
  const Segment& s = segments_[segment];
  const auto emit = [this, first, last, begin = s.begin, end = s.end, with_logits, with_hidden](Ops& op) {
    const int cols = info().n_embd;
    Stream stream;
    if (first) {
      stream = model_->embed(op);
    } else {
      stream.residual = {op.input(port_x, cols), op.input(port_pending, cols)};
      if (model_->has_v_first()) stream.v_first = op.input(port_v_first, cols);
    }
    model_->layers(op, stream, begin, end);
    if (!last) {
      op.output(port_x, stream.residual.x);
      op.output(port_pending, stream.residual.pending);
      if (model_->has_v_first()) op.output(port_v_first, stream.v_first);
    } else if (with_logits || with_hidden) {
      const Tensor hidden = model_->hidden(op, stream);
      if (with_hidden) op.output(port_hidden, hidden);
      if (with_logits) op.output(port_logits, model_->logits(op, hidden));
    }
  };
  return {(with_logits ? 1 : 0) | (with_hidden ? 2 : 0), emit};
}

// Runs the batch through every segment; what crosses a border goes through host memory.
Status Engine::run_segments(const Batch& batch, const Results& results) {
  const bool with_logits = !results.logits.empty() || !results.draws.empty();
  const bool with_hidden = !results.hidden.empty();
  const std::size_t crossing =
      static_cast<std::size_t>(batch.rows()) * static_cast<std::size_t>(info().n_embd);
  std::vector<float> from[3], to[3];
  const int n_ports = devices_.size() > 1 && model_->has_v_first() ? 3 : 2;
  for (std::size_t i = 0; i < devices_.size(); ++i) {
    std::vector<PortIn> inputs;
    std::vector<PortOut> outputs;
    for (int p = 0; i > 0 && p < n_ports; ++p) inputs.push_back({port_x + p, from[p]});
    if (i + 1 < devices_.size()) {
      for (int p = 0; p < n_ports; ++p) {
        to[p].resize(crossing);
        outputs.push_back({port_x + p, to[p]});
      }
    } else {
      if (!results.logits.empty()) outputs.push_back({port_logits, results.logits});
      if (with_hidden) outputs.push_back({port_hidden, results.hidden});
    }
    FR_OK(devices_[i]->step(program(i, with_logits, with_hidden), batch, inputs, outputs));
    for (int p = 0; p < n_ports; ++p) std::swap(from[p], to[p]);
  }
  if (results.draws.empty()) return {};
  return devices_.back()->draw(results.draws, results.drawn);
}

Engine::Results Engine::part(const Results& results, std::size_t begin, std::size_t count) const {
  const auto rows = [&](auto all, int cols) {
    const auto n = static_cast<std::size_t>(cols);
    return all.empty() ? all : all.subspan(begin * n, count * n);
  };
  return {rows(results.logits, info().n_vocab), rows(results.hidden, info().n_embd), rows(results.draws, 1),
          rows(results.drawn, 1)};
}

// Long batches run in pieces, so that scratch memory does not grow with the prompt.
Status Engine::run(const Batch& batch, const Results& results) {
  int max_rows = std::numeric_limits<int>::max();
  for (const auto& device : devices_) max_rows = std::min(max_rows, device->rows_per_step());
  std::size_t first_wanted = 0;
  for (int begin = 0; begin < batch.rows(); begin += max_rows) {
    const Batch piece = part_of(batch, begin, std::min(begin + max_rows, batch.rows()));
    FR_OK(run_segments(piece, part(results, first_wanted, piece.wanted.size())));
    first_wanted += piece.wanted.size();
  }
  return {};
}

Status Engine::step(std::span<const SequenceInput> sequences, std::span<float> logits,
                    std::span<float> hidden) {
  const std::lock_guard lock(mutex_);
  FR_OK(check_file());
  FR_TRY(const Batch batch, make_batch(sequences));
  const std::size_t n = batch.wanted.size();
  const std::size_t need_logits = n * static_cast<std::size_t>(info().n_vocab),
                    need_hidden = n * static_cast<std::size_t>(info().n_embd);
  if (logits.size() < need_logits) {
    return usage_error("room for " + std::to_string(logits.size()) + " logits, " +
                       std::to_string(need_logits) +
                       " are wanted (step): give n_vocab floats for each wanted token");
  }
  if (!hidden.empty() && hidden.size() < need_hidden) {
    return usage_error("room for " + std::to_string(hidden.size()) + " hidden values, " +
                       std::to_string(need_hidden) +
                       " are wanted (step): give n_embd floats for each wanted token");
  }
  FR_OK(run(batch, {logits.first(need_logits), hidden.empty() ? hidden : hidden.first(need_hidden), {}, {}}));
  for (const SequenceInput& s : sequences) s.state->tokens_seen_ += s.tokens.size();
  return {};
}

// Requests to the last device, if it and all samplers can do with them. A sampler that draws several of the
// tokens has to draw them one after the other.
bool Engine::make_draws(std::span<Sampler* const> samplers) {
  if (!devices_.back()->can_draw()) return false;
  draws_.resize(samplers.size());
  drawn_.resize(samplers.size());
  for (std::size_t i = 0; i < samplers.size(); ++i) {
    const Sampler& s = *samplers[i];
    const auto others = samplers.first(i);
    if (std::find(others.begin(), others.end(), &s) != others.end()) return false;
    if (s.vocab_size() != info().n_vocab || !s.draw_request(draws_[i])) return false;
  }
  return true;
}

Status Engine::step_sample(std::span<const SequenceInput> sequences, std::span<Sampler* const> samplers,
                           std::span<std::int32_t> tokens) {
  FR_CHECK(samplers.size() == sequences.size() && tokens.size() == sequences.size());
  std::vector<SequenceInput> last(sequences.begin(), sequences.end());
  for (SequenceInput& s : last) s.want = Want::last;
  const std::lock_guard lock(mutex_);
  FR_OK(check_file());
  FR_TRY(const Batch batch, make_batch(last));
  const auto vocab = static_cast<std::size_t>(info().n_vocab);
  const bool on_device = make_draws(samplers);
  if (on_device) {
    FR_OK(run(batch, {{}, {}, draws_, drawn_}));
  } else {
    sample_logits_.resize(vocab * last.size());
    FR_OK(run(batch, {sample_logits_, {}, {}, {}}));
  }
  for (const SequenceInput& s : last) s.state->tokens_seen_ += s.tokens.size();
  for (std::size_t i = 0; i < last.size(); ++i) {
    FR_TRY(tokens[i], on_device ? samplers[i]->drawn(drawn_[i])
                                : samplers[i]->sample(std::span(sample_logits_).subspan(i * vocab, vocab)));
    FR_OK(samplers[i]->accept(tokens[i]));
  }
  return {};
}

}  // namespace fr
