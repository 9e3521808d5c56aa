#include "backends/onnx/onnx_device.h"

#include <algorithm>
#include <new>
#include <string_view>

#include "core/storage.h"

namespace fr::onnx_backend {
namespace {

constexpr auto f32 = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
constexpr auto i64 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
// Rows of a sequence in one run: bounds the memory of activations.
constexpr int most_rows = 256;

std::size_t index(int i) { return static_cast<std::size_t>(i); }

class OnnxDevice final : public Device {
 public:
  explicit OnnxDevice(OnnxModel model) : model_(std::move(model)) {
    for (const StateBlock& b : model_.state.blocks) {
      state_in_.push_back("state." + b.name);
      state_out_.push_back("new_state." + b.name);
    }
    next_.resize(static_cast<std::size_t>(model_.state.size));
  }

  std::string description() const override {
    const std::string threads = model_.threads > 0 ? std::to_string(model_.threads) + " threads, " : "";
    return "onnx " + std::string(storage_name(model_.dtype)) + ", " + threads + runtime_name();
  }

  Result<Tensor> add_vector(std::span<const float>, Shape) override { return no_weights(); }
  Result<Mat> add_matrix(const TensorView&, MatRole, const Checkpoint&) override { return no_weights(); }
  Status set_state(const StateSpec&, int, int) override { return no_weights(); }

  Status reserve_slots(int count) override;
  void reset_slot(int slot) override {
    for (const StateBlock& b : model_.state.blocks)
      std::fill_n(slots_.at(index(slot)).data() + b.offset, b.size, b.initial);
  }
  void copy_slot(int from, int to) override { slots_.at(index(to)) = slots_.at(index(from)); }
  void export_slot(int slot, std::span<float> out) const override {
    FR_CHECK(out.size() == next_.size());
    std::copy_n(slots_.at(index(slot)).begin(), out.size(), out.begin());
  }
  void import_slot(int slot, std::span<const float> in) override {
    FR_CHECK(in.size() == next_.size());
    std::copy(in.begin(), in.end(), slots_.at(index(slot)).begin());
  }
  Status step(const Program& program, const Batch& batch, std::span<const PortIn> inputs,
              std::span<const PortOut> outputs) override;
  OpCounts last_counts() const override { return {}; }
  MemoryUse memory() const override {
    MemoryUse use = model_.memory;
    if (sequence_) use.weights *= 2;
    use.states = static_cast<std::int64_t>((slots_.size() + 1) * next_.size() * sizeof(float));
    return use;
  }

 private:
  // Rows [begin, end) of one sequence, and which of them are wanted: rows [first_wanted, last_wanted) of the
  // outputs.
  struct Piece {
    int slot = 0, begin = 0, end = 0;
    std::size_t first_wanted = 0, last_wanted = 0;
  };
  Error no_weights() const {
    return usage_error("an exported model takes no weights (" + model_.path + "): run it as it is");
  }
  Status run(const Batch& batch, const Piece& piece, std::span<const PortOut> outputs);
  Result<Session*> session(bool decode);

  OnnxModel model_;
  std::unique_ptr<Session> sequence_;  // made when the first piece of several rows comes
  std::vector<std::string> state_in_, state_out_;
  std::vector<std::vector<float>> slots_;
  std::vector<float> next_;  // the state after a run, which is then the slot's
};

Status OnnxDevice::reserve_slots(int count) {
  const std::size_t had = slots_.size();
  if (index(count) <= had) return {};
  try {
    slots_.resize(index(count));
    for (std::size_t i = had; i < slots_.size(); ++i) slots_[i].resize(next_.size());
  } catch (const std::bad_alloc&) {
    slots_.resize(had);
    return runtime_error("not enough memory for " + std::to_string(count) + " states (" +
                         std::to_string(index(count) * next_.size() * sizeof(float)) +
                         " bytes): use fewer sequences");
  }
  for (std::size_t i = had; i < slots_.size(); ++i) reset_slot(static_cast<int>(i));
  return {};
}

// Sequences one after the other; each in pieces.
Status OnnxDevice::step(const Program&, const Batch& batch, std::span<const PortIn> inputs,
                        std::span<const PortOut> outputs) {
  FR_CHECK(inputs.empty());
  Piece piece;
  for (const Sequence& s : batch.sequences) {
    piece.slot = s.slot;
    for (piece.begin = s.begin; piece.begin < s.begin + s.count; piece.begin = piece.end) {
      piece.end = std::min(piece.begin + most_rows, s.begin + s.count);
      const auto last = std::lower_bound(batch.wanted.begin(), batch.wanted.end(), piece.end);
      piece.last_wanted = static_cast<std::size_t>(last - batch.wanted.begin());
      FR_OK(run(batch, piece, outputs));
      piece.first_wanted = piece.last_wanted;
    }
  }
  return {};
}

Result<Session*> OnnxDevice::session(bool decode) {
  if (decode) return model_.decode.get();
  if (!sequence_) {
    FR_TRY(auto opened, Session::open(model_.path, model_.threads));
    bool same = has_ports(*opened, model_.info, model_.state, false);
    for (const char* key : {"rwkv.version", "rwkv.dtype", "rwkv.data_bytes", "rwkv.fingerprint"})
      same = same && opened->metadata(key) == model_.decode->metadata(key);
    if (!same) {
      return file_error("this graph and its decode graph are of different exports (" + model_.path +
                        "): export the model again");
    }
    sequence_ = std::move(opened);
  }
  return sequence_.get();
}

Status OnnxDevice::run(const Batch& batch, const Piece& piece, std::span<const PortOut> outputs) {
  const int rows = piece.end - piece.begin;
  const bool decode = rows == 1;
  FR_TRY(Session* const graph, session(decode));
  std::vector<std::int64_t> tokens(batch.tokens.begin() + piece.begin, batch.tokens.begin() + piece.end);
  std::vector<std::int64_t> wanted;
  for (std::size_t i = piece.first_wanted; i < piece.last_wanted; ++i)
    wanted.push_back(batch.wanted[i] - piece.begin);
  const bool nothing_wanted = wanted.empty();
  if (nothing_wanted) wanted.push_back(-1);  // its row is not fetched
  const auto n_wanted = static_cast<std::int64_t>(wanted.size());

  std::vector<Binding> in{{"tokens", i64, tokens.data(), {rows}}}, out;
  if (!decode) in.push_back({"wanted", i64, wanted.data(), {n_wanted}});
  std::vector<float>& state = slots_.at(index(piece.slot));
  for (std::size_t i = 0; i < state_in_.size(); ++i) {
    const StateBlock& b = model_.state.blocks[i];
    const std::vector<std::int64_t> dims(b.shape.begin(), b.shape.end());
    in.push_back({state_in_[i].c_str(), f32, state.data() + b.offset, dims});
    out.push_back({state_out_[i].c_str(), f32, next_.data() + b.offset, dims});
  }
  for (const PortOut& port : outputs) {
    FR_CHECK(port.port == port_logits || port.port == port_hidden);
    if (nothing_wanted) continue;
    const bool logits = port.port == port_logits;
    const std::int64_t cols = logits ? model_.info.n_vocab : model_.info.n_embd;
    float* const first = port.data.data() + piece.first_wanted * static_cast<std::size_t>(cols);
    out.push_back({logits ? "logits" : "hidden", f32, first, {n_wanted, cols}});
  }
  FR_OK(graph->run(in, out));
  std::swap(state, next_);
  return {};
}

bool has(const std::vector<Port>& ports, const Port& wanted) {
  return std::any_of(ports.begin(), ports.end(), [&](const Port& p) {
    return p.name == wanted.name && p.type == wanted.type && p.dims == wanted.dims;
  });
}

}  // namespace

bool has_ports(const Session& session, const ModelInfo& info, const StateSpec& state, bool decode) {
  const std::int64_t rows = decode ? 1 : -1;
  const std::vector<Port>&in = session.inputs(), &out = session.outputs();
  bool ok = in.size() == state.blocks.size() + (decode ? 1 : 2) && has(in, {"tokens", i64, {rows}}) &&
            (decode || has(in, {"wanted", i64, {rows}})) && has(out, {"logits", f32, {rows, info.n_vocab}}) &&
            has(out, {"hidden", f32, {rows, info.n_embd}});
  for (const StateBlock& b : state.blocks) {
    const std::vector<std::int64_t> dims(b.shape.begin(), b.shape.end());
    ok = ok && has(in, {"state." + b.name, f32, dims}) && has(out, {"new_state." + b.name, f32, dims});
  }
  return ok;
}

std::unique_ptr<Device> make_device(OnnxModel model) {
  return std::make_unique<OnnxDevice>(std::move(model));
}

}  // namespace fr::onnx_backend
