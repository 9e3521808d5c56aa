#include "tools_core/layerwise.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "backends/backend.h"
#include "models/model.h"

namespace fr {
namespace {

// Takes weights that this pass does not need and keeps nothing.
class NoStore final : public WeightStore {
 public:
  Result<Tensor> add_vector(std::span<const float>, Shape shape) override {
    return Tensor{0, shape, Extent::one};
  }
  Result<Mat> add_matrix(const TensorView& w, MatRole role, const Checkpoint&) override {
    return Mat{0, static_cast<int>(w.shape[0]), static_cast<int>(w.shape[1]), role, {}};
  }
};

// What crosses from part to part: residual x and pending, v_first; [tokens][n_embd] each.
constexpr int n_ports = 3;
using Crossing = std::vector<float>[n_ports];

class Runner {
 public:
  Runner(const Checkpoint& file, std::span<const std::int32_t> tokens, int threads)
      : file_(file), threads_(threads) {
    batch_.tokens.assign(tokens.begin(), tokens.end());
    batch_.sequences.push_back({0, 0, static_cast<int>(tokens.size())});
    for (int row = 0; row < batch_.rows(); ++row) batch_.wanted.push_back(row);
  }

  Result<std::vector<float>> run(const Progress& progress) {
    FR_TRY(model_, make_model(file_));
    FR_TRY(initial_, tuned_state(file_, model_->info(), model_->state()));
    const ModelInfo& info = model_->info();
    FR_OK(validate(batch_, info.n_vocab, 1));
    const auto rows = static_cast<std::size_t>(batch_.rows());
    logits_.resize(rows * static_cast<std::size_t>(info.n_vocab));
    for (auto& values : crossing_) values.assign(rows * static_cast<std::size_t>(info.n_embd), 0.0f);
    const int parts = info.n_layer + 1;  // each layer (the first with the embedding), then the head
    for (int part = 0; part < parts; ++part) {
      if (progress &&
          !progress("checking", static_cast<std::uint64_t>(part), static_cast<std::uint64_t>(parts))) {
        return Error{ErrorCode::interrupted,
                     "the check was interrupted (" + file_.path + "): start it again"};
      }
      FR_OK(run_part(part));
    }
    return std::move(logits_);
  }

 private:
  static std::size_t index(int i) { return static_cast<std::size_t>(i); }

  // Layer `part`, or the head when part == n_layer. The stores of Binder count the embedding as layer -1.
  Status run_part(int part) {
    const int n_layer = model_->info().n_layer;
    FR_TRY(const Backend* backend, find_backend("cpu"));
    DeviceOptions options;
    options.threads = threads_;
    FR_TRY(const auto device, backend->create(options));
    const bool first = part == 0, last = part == n_layer;
    NoStore nowhere;
    const auto store = [&](int layer) -> WeightStore& {
      const bool here = layer == part || (first && layer == -1);
      return here ? static_cast<WeightStore&>(*device) : nowhere;
    };
    Binder binder(file_, store);
    model_->bind(binder);
    FR_OK(binder.finish());

    const std::vector<StateBlock>& blocks = model_->state().blocks;
    const auto block_of = [&](int layer) {
      return static_cast<int>(
          std::find_if(blocks.begin(), blocks.end(), [&](const StateBlock& b) { return b.layer >= layer; }) -
          blocks.begin());
    };
    FR_OK(device->set_state(model_->state(), block_of(part), block_of(part + 1)));
    FR_OK(device->reserve_slots(1));
    if (!initial_.empty() && !last) {
      const StateBlock &begin = blocks[index(block_of(part))], &end = blocks[index(block_of(part + 1) - 1)];
      device->import_slot(
          0, std::span(initial_).subspan(static_cast<std::size_t>(begin.offset),
                                         static_cast<std::size_t>(end.offset + end.size - begin.offset)));
    }

    std::vector<PortIn> inputs;
    std::vector<PortOut> outputs;
    Crossing next;
    const int ports = model_->has_v_first() ? n_ports : n_ports - 1;
    for (int p = 0; p < ports; ++p) {
      if (!first) inputs.push_back({port_x + p, crossing_[p]});
      next[p].resize(crossing_[p].size());
      if (!last) outputs.push_back({port_x + p, next[p]});
    }
    if (last) outputs.push_back({port_logits, logits_});
    FR_OK(device->step({0, [&](Ops& op) { emit(op, part); }}, batch_, inputs, outputs));
    if (!last) std::swap(crossing_, next);
    return {};
  }

  void emit(Ops& op, int part) const {
    const ModelInfo& info = model_->info();
    Stream stream;
    if (part == 0) {
      stream = model_->embed(op);
    } else {
      stream.residual = {op.input(port_x, info.n_embd), op.input(port_pending, info.n_embd)};
      if (model_->has_v_first()) stream.v_first = op.input(port_v_first, info.n_embd);
    }
    if (part == info.n_layer) return op.output(port_logits, model_->logits(op, model_->hidden(op, stream)));
    model_->layers(op, stream, part, part + 1);
    op.output(port_x, stream.residual.x);
    op.output(port_pending, stream.residual.pending);
    if (model_->has_v_first()) op.output(port_v_first, stream.v_first);
  }

  const Checkpoint& file_;
  int threads_;
  Batch batch_;
  std::unique_ptr<Model> model_;
  std::vector<float> initial_;  // of a file with a tuned state; empty: fresh
  Crossing crossing_;
  std::vector<float> logits_;
};

}  // namespace

Result<std::vector<float>> layerwise_logits(const Checkpoint& file, std::span<const std::int32_t> tokens,
                                            int threads, const Progress& progress) {
  return Runner(file, tokens, threads).run(progress);
}

LogitDifference compare_logits(std::span<const float> a, std::span<const float> b, std::size_t n_vocab) {
  FR_CHECK(a.size() == b.size() && n_vocab > 0 && a.size() % n_vocab == 0);
  LogitDifference d;
  d.positions = a.size() / n_vocab;
  double difference = 0, reference = 0;
  std::size_t same = 0;
  for (std::size_t row = 0; row < a.size(); row += n_vocab) {
    for (std::size_t i = row; i < row + n_vocab; ++i) {
      const double error = std::abs(double{a[i]} - double{b[i]});
      d.max_abs = error > d.max_abs || std::isnan(error) ? error : d.max_abs;
      difference += error * error;
      reference += double{b[i]} * double{b[i]};
    }
    const auto top = [&](std::span<const float> x) {
      const auto part = x.subspan(row, n_vocab);
      return std::max_element(part.begin(), part.end()) - part.begin();
    };
    const auto numbers = [&](std::span<const float> x) {
      const auto part = x.subspan(row, n_vocab);
      return std::none_of(part.begin(), part.end(), [](float v) { return std::isnan(v); });
    };
    same += numbers(a) && numbers(b) && top(a) == top(b) ? 1 : 0;
  }
  d.relative_l2 = difference == 0 ? 0 : std::sqrt(difference / reference);
  d.argmax_agreement = static_cast<double>(same) / static_cast<double>(std::max<std::size_t>(d.positions, 1));
  return d;
}

}  // namespace fr
