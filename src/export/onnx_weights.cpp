#include "export/onnx_weights.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace fr::onnx {
namespace {

// Big tensors start at a page, so that runtimes can map them.
constexpr std::uint64_t page = 4096, cache_line = 64, big = 64 * 1024;
constexpr std::int64_t piece_numbers = 1 << 18;

template <class T>
std::span<const std::byte> bytes_of(const std::vector<T>& v) {
  return std::as_bytes(std::span<const T>(v));
}

Error unusable(const TensorView& view, float value, Type type, const Checkpoint& source) {
  const bool fp16 = type == Type::f16 && std::isfinite(value);
  return fp16 ? runtime_error("tensor " + view.name + " holds " + std::to_string(value) +
                              ", which fp16 cannot hold (" + source.path + "): choose --dtype fp32")
              : file_error("tensor " + view.name + " holds NaN or infinity (" + source.path +
                           "): the file is damaged, get the original");
}

// Appends zeros up to an offset, then the bytes; keeps count.
class Appender {
 public:
  explicit Appender(AtomicFile& out) : out_(out) {}
  Status pad_to(std::uint64_t offset) {
    static constexpr std::byte zeros[page]{};
    FR_CHECK(offset >= at_ && offset - at_ < page);
    return append({zeros, static_cast<std::size_t>(offset - at_)});
  }
  Status append(std::span<const std::byte> bytes) {
    at_ += bytes.size();
    return out_.write(bytes);
  }

 private:
  AtomicFile& out_;
  std::uint64_t at_ = 0;
};

// The numbers of one matrix, row by row, as `type`.
Status append_matrix(Appender& out, const TensorView& view, Type type, const Checkpoint& source) {
  std::vector<float> numbers;
  std::vector<std::uint16_t> halves;
  for (std::int64_t at = 0; at < view.size(); at += piece_numbers) {
    numbers.resize(static_cast<std::size_t>(std::min(piece_numbers, view.size() - at)));
    view.read(at, numbers);
    for (const float x : numbers) {
      if (!std::isfinite(type == Type::f16 ? half_to_float(float_to_half(x)) : x))
        return unusable(view, x, type, source);
    }
    if (type == Type::f32) {
      FR_OK(out.append(bytes_of(numbers)));
      continue;
    }
    halves.resize(numbers.size());
    std::transform(numbers.begin(), numbers.end(), halves.begin(), float_to_half);
    FR_OK(out.append(bytes_of(halves)));
  }
  source.release(view.bytes());
  return {};
}

}  // namespace

Weights::Weights(const TraceWeights& weights, const StateSpec& state, std::vector<float> initial, DType dtype)
    : weights_(weights), state_(state), initial_values_(std::move(initial)) {
  std::map<std::string, int> slices;  // of one tensor, in v6: matrices of the same name
  for (const TraceWeights::Matrix& m : weights.matrices()) ++slices[m.view.name];
  std::map<std::string, int> seen;
  for (const TraceWeights::Matrix& m : weights.matrices()) {
    std::string name = m.view.name;
    if (slices[name] > 1) name.append(".").append(std::to_string(seen[m.view.name]++));
    matrices_.push_back(place(std::move(name), dtype == DType::f16 ? Type::f16 : Type::f32,
                              {m.view.shape[0], m.view.shape[1]}));
    parameters_ += m.view.size();
  }
  for (const TraceWeights::Vector& v : weights.vectors()) {
    const auto [one, heads, cols] = v.shape.d;
    const Dims dims = heads > 1 ? Dims{heads, cols} : Dims{cols};
    vectors_.push_back(place("vector_" + std::to_string(vectors_.size()), Type::f32, dims));
    parameters_ += v.shape.size();
  }
  for (std::size_t i = 0; i < state.blocks.size() && !initial_values_.empty(); ++i) {
    const StateBlock& block = state.blocks[i];
    initial_.push_back(
        place("initial_state." + block.name, Type::f32, Dims(block.shape.begin(), block.shape.end())));
  }
}

External Weights::place(std::string name, Type type, Dims dims) {
  External t{std::move(name), type, std::move(dims)};
  t.bytes = type == Type::f16 ? 2 : 4;
  for (const std::int64_t d : t.dims) t.bytes *= static_cast<std::uint64_t>(d);
  const std::uint64_t alignment = t.bytes >= big ? page : cache_line;
  t.offset = (end_ + alignment - 1) / alignment * alignment;
  end_ = t.offset + t.bytes;
  return t;
}

Status Weights::write(AtomicFile& file, const Checkpoint& source, const Progress& progress) const {
  Appender out(file);
  for (std::size_t i = 0; i < matrices_.size(); ++i) {
    FR_OK(out.pad_to(matrices_[i].offset));
    FR_OK(append_matrix(out, weights_.matrices()[i].view, matrices_[i].type, source));
    if (progress && !progress("writing", matrices_[i].offset + matrices_[i].bytes, end_)) {
      return Error{ErrorCode::interrupted, "writing was interrupted (" + source.path + "): start it again"};
    }
  }
  for (std::size_t i = 0; i < vectors_.size(); ++i) {
    const std::vector<float>& values = weights_.vectors()[i].values;
    if (!std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); })) {
      return file_error("a vector of weights holds NaN or infinity (" + source.path +
                        "): the file is damaged, get the original");
    }
    FR_OK(out.pad_to(vectors_[i].offset));
    FR_OK(out.append(bytes_of(values)));
  }
  for (std::size_t i = 0; i < initial_.size(); ++i) {
    const StateBlock& block = state_.blocks[i];
    FR_OK(out.pad_to(initial_[i].offset));
    FR_OK(out.append(std::as_bytes(
        std::span(initial_values_)
            .subspan(static_cast<std::size_t>(block.offset), static_cast<std::size_t>(block.size)))));
  }
  return {};
}

}  // namespace fr::onnx
