#include "engine/engine.h"

#include <algorithm>
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

}  // namespace

Result<std::shared_ptr<Engine>> Engine::load(const std::string& path, const LoadOptions& options) {
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
  FR_TRY(engine->tokenizer_, find_tokenizer(options.vocab, file, engine->info().n_vocab));
  engine->fingerprint_ = model_fingerprint(file);
  FR_OK(engine->load_weights(file, options));
  FR_OK(engine->set_initial_state(file, options));
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
  const std::int64_t table = std::int64_t{info().n_vocab} * info().n_embd, free = available_memory();
  const DType automatic = automatic_dtype(file_dtype_, n_parameters_ - table, free);
  FR_TRY(segments_, parse_strategy(options.strategy, automatic, n_layer));
  if (std::any_of(segments_.begin(), segments_.end(), [](const Segment& s) { return s.automatic; }))
    tell_about(automatic);
  for (const Segment& segment : segments_) {
    FR_TRY(const Backend* backend, find_backend(segment.device));
    FR_TRY(auto device, backend->create({segment.dtype, options.threads}));
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

Status Engine::set_initial_state(const Checkpoint& file, const LoadOptions& options) {
  FR_TRY(initial_state_, tuned_state(file, *model_));
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
Status Engine::run_segments(const Batch& batch, std::span<float> logits, std::span<float> hidden) {
  const bool with_logits = !logits.empty(), with_hidden = !hidden.empty();
  const std::size_t crossing =
      static_cast<std::size_t>(batch.rows()) * static_cast<std::size_t>(info().n_embd);
  std::vector<float> from[3], to[3];
  const int n_ports = model_->has_v_first() ? 3 : 2;
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
      if (with_logits) outputs.push_back({port_logits, logits});
      if (with_hidden) outputs.push_back({port_hidden, hidden});
    }
    FR_OK(devices_[i]->step(program(i, with_logits, with_hidden), batch, inputs, outputs));
    for (int p = 0; p < n_ports; ++p) std::swap(from[p], to[p]);
  }
  return {};
}

// Long batches run in pieces of at most max_rows rows, so that scratch memory does not grow with the prompt.
Status Engine::run(const Batch& batch, std::span<float> logits, std::span<float> hidden) {
  constexpr int max_rows = 256;
  const auto vocab = static_cast<std::size_t>(info().n_vocab), embd = static_cast<std::size_t>(info().n_embd);
  std::size_t first_wanted = 0;
  for (int begin = 0; begin < batch.rows(); begin += max_rows) {
    const int end = std::min(begin + max_rows, batch.rows());
    Batch piece;
    piece.tokens.assign(batch.tokens.begin() + begin, batch.tokens.begin() + end);
    for (const Sequence& s : batch.sequences) {
      const int from = std::max(s.begin, begin), to = std::min(s.begin + s.count, end);
      if (from < to) piece.sequences.push_back({s.slot, from - begin, to - from});
    }
    std::size_t wanted = first_wanted;
    for (; wanted < batch.wanted.size() && batch.wanted[wanted] < end; ++wanted)
      piece.wanted.push_back(batch.wanted[wanted] - begin);
    const std::size_t n = wanted - first_wanted;
    FR_OK(run_segments(
        piece, n && !logits.empty() ? logits.subspan(first_wanted * vocab, n * vocab) : std::span<float>{},
        n && !hidden.empty() ? hidden.subspan(first_wanted * embd, n * embd) : std::span<float>{}));
    first_wanted = wanted;
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
  FR_OK(run(batch, logits.first(need_logits), hidden.empty() ? hidden : hidden.first(need_hidden)));
  for (const SequenceInput& s : sequences) s.state->tokens_seen_ += s.tokens.size();
  return {};
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
  sample_logits_.resize(vocab * last.size());
  FR_OK(run(batch, sample_logits_, {}));
  for (const SequenceInput& s : last) s.state->tokens_seen_ += s.tokens.size();
  for (std::size_t i = 0; i < last.size(); ++i) {
    FR_TRY(tokens[i], samplers[i]->sample(std::span(sample_logits_).subspan(i * vocab, vocab)));
    FR_OK(samplers[i]->accept(tokens[i]));
  }
  return {};
}

}  // namespace fr
