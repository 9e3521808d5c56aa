#include "runner.h"

#include <array>
#include <cstdlib>
#include <stdexcept>
#include <utility>

#include "base/cpu_info.h"

namespace fr::test {

std::vector<Target> targets() {
  std::vector<Target> all;
  for (const Backend& b : backends()) {
    if (b.available != nullptr && !b.available().ok()) continue;  // a machine without a GPU
    const std::string name(b.name);
    if (name == "cpu") {
      int threads = 2;
      for (const auto& [isa, present] :
           {std::pair{"amx", request_amx()}, std::pair{"avx512bf16", cpu_features().fast_bf16},
            std::pair{"avx512vnni", cpu_features().avx512_vnni}, std::pair{"avx512", cpu_features().avx512},
            std::pair{"avx2", cpu_features().avx2}, std::pair{"generic", true}}) {
        if (present) all.push_back({name, isa, std::exchange(threads, 1)});
      }
    } else {
      all.push_back({name, "", 1});
    }
  }
  return all;
}

RandomShape variant_shape(const std::string& variant) {
  RandomShape s;
  const bool bare = variant == "7_bare";
  s.version = bare ? "7" : variant;
  s.ln0 = !bare;
  s.biases = bare;
  return s;
}

namespace {

std::unique_ptr<Device> create_device(const Target& target, DType dtype) {
  const Backend* backend = need(find_backend(target.backend));
  const char* const before = std::getenv("FR_ISA");
  const std::string kept = before != nullptr ? before : "";
  if (!target.isa.empty()) setenv("FR_ISA", target.isa.c_str(), 1);
  Result<std::unique_ptr<Device>> device =
      backend->create({dtype, target.threads, 0, target.exact_activations});
  if (!target.isa.empty()) setenv("FR_ISA", kept.c_str(), 1);
  return need(std::move(device));
}

}  // namespace

DeviceRunner::DeviceRunner(Checkpoint file, const DeviceRunnerOptions& options) : file_(std::move(file)) {
  model_ = need(make_model(file_));
  std::vector<int> ends = options.cuts;
  ends.push_back(info().n_layer);
  int begin = 0;
  for (const int end : ends) {
    segments_.push_back({create_device(options.target, options.dtype), begin, end, 0, 0});
    begin = end;
  }
  Binder binder(file_, [this](int layer) -> WeightStore& { return *segments_[segment_of(layer)].device; });
  model_->bind(binder);
  need(binder.finish());
  set_states();
  initial_state_ =
      need(tuned_state(options.tuned != nullptr ? *options.tuned : file_, model_->info(), model_->state()));
}

std::size_t DeviceRunner::segment_of(int layer) const {
  std::size_t i = 0;
  while (i + 1 < segments_.size() && layer >= segments_[i].end) ++i;
  return i;
}

void DeviceRunner::set_states() {
  const std::vector<StateBlock>& blocks = state_spec().blocks;
  std::size_t offset = 0;
  int first = 0;
  for (Segment& s : segments_) {
    int last = first;
    s.state_offset = offset;
    while (static_cast<std::size_t>(last) < blocks.size() &&
           blocks[static_cast<std::size_t>(last)].layer < s.end) {
      s.state_size += static_cast<std::size_t>(blocks[static_cast<std::size_t>(last++)].size);
    }
    need(s.device->set_state(state_spec(), first, last));
    offset += s.state_size;
    first = last;
  }
}

void DeviceRunner::reserve(int slots) {
  for (const Segment& s : segments_) need(s.device->reserve_slots(slots));
  for (; n_slots_ < slots; ++n_slots_) reset(n_slots_);
}

void DeviceRunner::reset(int slot) {
  if (initial_state_.empty()) {
    for (const Segment& s : segments_) s.device->reset_slot(slot);
  } else {
    import_state(slot, initial_state_);
  }
}

std::vector<float> DeviceRunner::export_state(int slot) {
  std::vector<float> values(static_cast<std::size_t>(state_spec().size));
  for (const Segment& s : segments_) {
    s.device->export_slot(slot, std::span(values).subspan(s.state_offset, s.state_size));
  }
  return values;
}

void DeviceRunner::import_state(int slot, std::span<const float> values) {
  for (const Segment& s : segments_)
    s.device->import_slot(slot, values.subspan(s.state_offset, s.state_size));
}

Program DeviceRunner::program(std::size_t segment, bool with_logits) const {
  const Segment& s = segments_[segment];
  const bool first = segment == 0, last = segment + 1 == segments_.size();
  const auto emit = [this, &s, first, last, with_logits](Ops& op) {
    Stream stream;
    if (first) {
      stream = model_->embed(op);
    } else {
      stream.residual = {op.input(port_x, info().n_embd), op.input(port_pending, info().n_embd)};
      if (model_->has_v_first()) stream.v_first = op.input(port_v_first, info().n_embd);
    }
    model_->layers(op, stream, s.begin, s.end);
    if (!last) {
      op.output(port_x, stream.residual.x);
      op.output(port_pending, stream.residual.pending);
      if (model_->has_v_first()) op.output(port_v_first, stream.v_first);
    } else if (with_logits) {
      op.output(port_logits, model_->logits(op, model_->hidden(op, stream)));
    }
  };
  return {with_logits ? 1 : 0, emit};
}

std::vector<float> DeviceRunner::step(const Batch& batch) {
  need(validate(batch, info().n_vocab, n_slots_));
  const auto rows = static_cast<std::size_t>(batch.rows());
  std::vector<float> logits(batch.wanted.size() * static_cast<std::size_t>(info().n_vocab));
  std::array<std::vector<float>, 3> in, out;  // x, pending, v_first
  for (std::size_t i = 0; i < segments_.size(); ++i) {
    std::vector<PortIn> inputs;
    std::vector<PortOut> outputs;
    const std::size_t n_ports = model_->has_v_first() ? 3 : 2;
    for (std::size_t p = 0; i > 0 && p < n_ports; ++p)
      inputs.push_back({port_x + static_cast<int>(p), in[p]});
    if (i + 1 < segments_.size()) {
      for (std::size_t p = 0; p < n_ports; ++p) {
        out[p].assign(rows * static_cast<std::size_t>(info().n_embd), 0);
        outputs.push_back({port_x + static_cast<int>(p), out[p]});
      }
    } else if (!batch.wanted.empty()) {
      outputs.push_back({port_logits, logits});
    }
    need(segments_[i].device->step(program(i, !batch.wanted.empty()), batch, inputs, outputs));
    std::swap(in, out);
  }
  return logits;
}

}  // namespace fr::test
