#include "backends/ncnn/device.h"

#include <algorithm>
#include <cmath>

#include "core/storage.h"

namespace fr::ncnn_backend {
namespace {

class NcnnDevice final : public Device {
 public:
  explicit NcnnDevice(DeviceParts parts) : p_(std::move(parts)) {}

  std::string description() const override {
    std::string text = "ncnn " + std::string(storage_name(p_.dtype)) + ", " +
                       std::to_string(p_.pool->size()) + (p_.pool->size() == 1 ? " thread" : " threads");
    if (p_.sequence) text += ", chunks of " + std::to_string(p_.sequence->graph().tokens());
    return text;
  }

  Result<Tensor> add_vector(std::span<const float>, Shape) override { return no_weights(); }
  Result<Mat> add_matrix(const TensorView&, MatRole, const Checkpoint&) override { return no_weights(); }
  Status set_state(const StateSpec&, int, int) override { return no_weights(); }

  Status reserve_slots(int count) override {
    const auto wanted = static_cast<std::size_t>(count);
    try {
      for (std::size_t i = slots_.size(); i < wanted; ++i) slots_.push_back(p_.initial);
    } catch (const std::bad_alloc&) {
      return runtime_error("not enough memory for " + std::to_string(count) + " states of " +
                           std::to_string(p_.initial.size() * sizeof(float)) + " bytes (" + p_.path +
                           "): use fewer sequences at a time");
    }
    return {};
  }
  void reset_slot(int slot) override { at(slot) = p_.initial; }
  void copy_slot(int from, int to) override {
    if (from != to) at(to) = at(from);
  }
  void export_slot(int slot, std::span<float> out) const override {
    const std::vector<float>& s = slots_.at(static_cast<std::size_t>(slot));
    FR_CHECK(out.size() == s.size());
    std::copy(s.begin(), s.end(), out.begin());
  }
  void import_slot(int slot, std::span<const float> in) override {
    FR_CHECK(in.size() == p_.initial.size());
    at(slot).assign(in.begin(), in.end());
  }

  Status step(const Program&, const Batch& batch, std::span<const PortIn> inputs,
              std::span<const PortOut> outputs) override {
    Outputs out{{}, {}, 0};
    for (const PortOut& o : outputs) {
      if (o.port == port_logits) out.logits = o.data;
      if (o.port == port_hidden) out.hidden = o.data;
      if (o.port != port_logits && o.port != port_hidden) return whole_models_only();
    }
    if (!inputs.empty()) return whole_models_only();
    if (!out.hidden.empty() && graph().hidden_blob.empty()) {
      return usage_error("this export does not give hidden rows (" + p_.path + "): export the model again");
    }
    for (const Sequence& s : batch.sequences) FR_OK(run_sequence(batch, s, out));
    const bool finite =
        std::all_of(out.logits.begin(), out.logits.end(), [](float x) { return std::isfinite(x); });
    if (!finite) {
      return runtime_error("the model gives numbers that are not finite (" + p_.path +
                           "): the files are damaged, export the model again");
    }
    return {};
  }

  OpCounts last_counts() const override { return {}; }
  MemoryUse memory() const override {
    MemoryUse use;
    use.mapped = static_cast<std::int64_t>(p_.weights->bytes().size());
    use.states = static_cast<std::int64_t>(slots_.size() * p_.initial.size() * sizeof(float));
    use.scratch = static_cast<std::int64_t>(rows_.capacity() * sizeof(float));
    return use;
  }

 private:
  struct Outputs {
    std::span<float> logits, hidden;  // empty: not asked for
    std::size_t next = 0;             // of batch.wanted
  };

  const Graph& graph() const { return p_.decode->graph(); }
  std::vector<float>& at(int slot) { return slots_.at(static_cast<std::size_t>(slot)); }
  static Error no_weights() {
    return usage_error("an ncnn export brings its own weights and state (ncnn): load it as a whole");
  }
  Error whole_models_only() const {
    return usage_error("an ncnn export runs whole models only (" + p_.path +
                       "): do not split it over devices");
  }

  Status run_sequence(const Batch& batch, const Sequence& s, Outputs& out) {
    const std::span<const std::int32_t> tokens(batch.tokens);
    for (int row = s.begin, end = s.begin + s.count; row < end;) {
      const int chunk = p_.sequence ? p_.sequence->graph().tokens() : 0;
      Net& net = chunk > 0 && end - row >= chunk ? *p_.sequence : *p_.decode;
      const int count = net.graph().tokens();
      const bool direct = net.graph().hidden_blob.empty();
      const auto width = static_cast<std::size_t>(direct ? net.graph().vocabulary() : net.graph().width());
      rows_.resize(static_cast<std::size_t>(count) * width);
      FR_OK(net.run(tokens.subspan(static_cast<std::size_t>(row), static_cast<std::size_t>(count)),
                    at(s.slot), rows_));
      take_wanted(batch, row, count, width, direct, out);
      row += count;
    }
    return {};
  }

  // Of the rows [row, row + count), which rows_ holds, those that are wanted.
  void take_wanted(const Batch& batch, int row, int count, std::size_t width, bool direct, Outputs& out) {
    std::size_t n = 0;  // moved to the front of rows_
    const std::size_t first = out.next;
    for (; out.next < batch.wanted.size() && batch.wanted[out.next] < row + count; ++out.next, ++n) {
      const auto from = static_cast<std::size_t>(batch.wanted[out.next] - row);
      std::copy_n(rows_.begin() + static_cast<std::ptrdiff_t>(from * width), width,
                  rows_.begin() + static_cast<std::ptrdiff_t>(n * width));
    }
    if (n == 0) return;
    if (!out.hidden.empty())
      std::copy_n(rows_.begin(), n * width, out.hidden.begin() + static_cast<std::ptrdiff_t>(first * width));
    if (out.logits.empty()) return;
    const auto vocabulary = static_cast<std::size_t>(graph().vocabulary());
    float* const logits = out.logits.data() + first * vocabulary;
    if (direct) {
      std::copy_n(rows_.begin(), n * vocabulary, logits);
    } else {
      multiply(graph().linears[graph().head].matrix, rows_.data(), static_cast<int>(n), logits, *p_.pool);
    }
  }

  DeviceParts p_;
  std::vector<std::vector<float>> slots_;
  std::vector<float> rows_;
};

}  // namespace

std::unique_ptr<Device> make_device(DeviceParts parts) {
  return std::make_unique<NcnnDevice>(std::move(parts));
}

}  // namespace fr::ncnn_backend
