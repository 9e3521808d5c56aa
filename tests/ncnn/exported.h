// Exports a checkpoint to a temporary folder and opens it with the ncnn runner.
#pragma once
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <string>

#include "core/storage.h"
#include "export/ncnn.h"
#include "runner.h"

namespace fr::test {

// A folder of its own, removed at the end.
class Folder {
 public:
  Folder() {
    static int count = 0;
    path_ = std::filesystem::temp_directory_path() /
            ("fr_ncnn_" + std::to_string(::getpid()) + "_" + std::to_string(count++));
    std::filesystem::create_directories(path_);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::string prefix() const { return (path_ / "model").string(); }

 private:
  std::filesystem::path path_;
};

// An opened export as a Runner, so that it goes through the checks of every backend.
class ExportedRunner final : public Runner {
 public:
  explicit ExportedRunner(const std::string& path, int threads = 1)
      : e_(need(need_runner().open(path, {.threads = threads}))) {}

  const Exported& exported() const { return e_; }
  const ModelInfo& info() const override { return e_.info; }
  const StateSpec& state_spec() const override { return e_.state; }
  void reserve(int slots) override {
    need(e_.device->reserve_slots(slots));
    n_slots_ = slots;
  }
  void reset(int slot) override { e_.device->reset_slot(slot); }
  std::vector<float> step(const Batch& batch) override { return step(batch, port_logits, e_.info.n_vocab); }
  std::vector<float> hidden(const Batch& batch) { return step(batch, port_hidden, e_.info.n_embd); }
  std::vector<float> export_state(int slot) override {
    std::vector<float> values(static_cast<std::size_t>(e_.state.size));
    e_.device->export_slot(slot, values);
    return values;
  }
  void import_state(int slot, std::span<const float> values) override {
    e_.device->import_slot(slot, values);
  }

 private:
  static const GraphRunner& need_runner() {
    const GraphRunner* runner = find_runner("ncnn");
    if (runner == nullptr) throw std::runtime_error("this build has no ncnn runner");
    return *runner;
  }
  std::vector<float> step(const Batch& batch, Port port, int width) {
    need(validate(batch, e_.info.n_vocab, n_slots_));
    std::vector<float> out(batch.wanted.size() * static_cast<std::size_t>(width));
    const PortOut ports[] = {{port, out}};
    need(e_.device->step({}, batch, {}, std::span(ports).first(out.empty() ? 0 : 1)));
    return out;
  }

  Exported e_;
  int n_slots_ = 0;
};

inline NcnnExportOptions export_options(DType dtype, int chunk = 8) {
  NcnnExportOptions o;
  o.dtype = dtype;
  o.chunk = chunk;
  o.fingerprint = "0123456789abcdef";
  return o;
}

// One sequence in slot 0, all rows wanted.
inline Batch whole(std::span<const std::int32_t> tokens) {
  Batch b{{tokens.begin(), tokens.end()}, {{0, 0, static_cast<int>(tokens.size())}}, {}};
  for (int i = 0; i < b.rows(); ++i) b.wanted.push_back(i);
  return b;
}

inline double relative_l2(std::span<const float> found, std::span<const float> expected) {
  double error = 0, square = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    const double d = static_cast<double>(found[i]) - expected[i];
    error += d * d;
    square += static_cast<double>(expected[i]) * expected[i];
  }
  return square > 0 ? std::sqrt(error / square) : std::sqrt(error);
}

}  // namespace fr::test
