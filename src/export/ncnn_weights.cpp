#include "export/ncnn_weights.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/storage.h"

namespace fr {
namespace {

// What ncnn expects before a matrix.
constexpr std::uint32_t tag_f32 = 0, tag_f16 = 0x01306B47;
constexpr std::size_t piece_size = std::size_t{1} << 20;  // numbers

class Writer {
 public:
  Writer(AtomicFile& out, const TraceWeights& weights, const Checkpoint& file, const Progress& progress)
      : out_(out), weights_(weights), file_(file), progress_(progress) {
    for (const TraceWeights::Matrix& m : weights.matrices())
      total_ += static_cast<std::uint64_t>(m.view.size());
  }

  // A layer reads its matrix, then its vectors, then the scales of the matrix' blocks.
  Status layer(const NcnnLayer& l) {
    scales_.clear();
    for (const NcnnWeight& w : l.weights) {
      if (w.matrix >= 0) {
        const TensorView& view = weights_.matrices().at(static_cast<std::size_t>(w.matrix)).view;
        FR_OK(w.storage == NcnnStorage::f32 || w.storage == NcnnStorage::f16 ? numbers(view, w.storage)
                                                                             : blocks(view, w.storage));
      } else {
        if (w.tagged) FR_OK(put<std::uint32_t>({&tag_f32, 1}));
        FR_OK(vector(
            w.vector >= 0 ? weights_.vectors().at(static_cast<std::size_t>(w.vector)).values : w.values,
            l.name));
      }
    }
    return scales_.empty() ? Status{} : put<float>(scales_);
  }

 private:
  template <class T>
  Status put(std::span<const T> numbers) {
    return out_.write(std::as_bytes(numbers));
  }

  Status vector(std::span<const float> values, const std::string& name) {
    if (!std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); })) {
      return file_error("a vector has numbers that are not finite (" + file_.path + ", layer " + name +
                        "): the file is damaged");
    }
    return put(values);
  }

  Status advance(std::size_t count) {
    done_ += count;
    if (!progress_ || progress_("exporting", done_, total_)) return {};
    return Error{ErrorCode::interrupted, "the export was stopped (" + file_.path + "): start it again"};
  }

  // Elements [begin, begin + count) of w, checked.
  Result<std::span<const float>> read(const TensorView& w, std::int64_t begin, std::size_t count,
                                      NcnnStorage storage) {
    values_.resize(count);
    w.read(begin, values_);
    const float most = storage == NcnnStorage::f16 ? 65519.0f : std::numeric_limits<float>::max();
    for (const float x : values_) {
      if (!(std::fabs(x) <= most))
        return cannot_store(w, storage == NcnnStorage::f16 ? DType::f16 : DType::f32, file_);
    }
    FR_OK(advance(count));
    return std::span<const float>(values_);
  }

  Status numbers(const TensorView& w, NcnnStorage storage) {
    const std::uint32_t tag = storage == NcnnStorage::f16 ? tag_f16 : tag_f32;
    FR_OK(put<std::uint32_t>({&tag, 1}));
    const auto size = static_cast<std::size_t>(w.size());
    for (std::size_t begin = 0; begin < size; begin += piece_size) {
      FR_TRY(const auto x,
             read(w, static_cast<std::int64_t>(begin), std::min(piece_size, size - begin), storage));
      if (storage == NcnnStorage::f32) {
        FR_OK(put(x));
        continue;
      }
      halves_.resize(x.size());
      std::transform(x.begin(), x.end(), halves_.begin(), float_to_half);
      if (begin + x.size() == size && size % 2 == 1) halves_.push_back(0);  // whole words
      FR_OK(put<std::uint16_t>(halves_));
    }
    return {};
  }

  Status blocks(const TensorView& w, NcnnStorage storage) {
    const std::int64_t rows = w.shape[0], cols = w.shape[1];
    const std::int64_t rows_at_once = std::max<std::int64_t>(1, static_cast<std::int64_t>(piece_size) / cols);
    const bool four = storage == NcnnStorage::int4;
    std::array<std::int8_t, ncnn_block> q;
    for (std::int64_t row = 0; row < rows; row += rows_at_once) {
      const std::int64_t count = std::min(rows_at_once, rows - row);
      FR_TRY(const auto x, read(w, row * cols, static_cast<std::size_t>(count * cols), storage));
      packed_.clear();
      for (std::size_t i = 0; i < x.size(); i += ncnn_block) {
        const auto block = x.subspan(i, ncnn_block);
        scales_.push_back(four ? quantise_ncnn_block4(block, q.data())
                               : quantise_ncnn_block8(block, q.data()));
        for (std::size_t j = 0; j < ncnn_block; j += four ? 2 : 1) {
          const auto low = static_cast<std::uint8_t>(q[j]);
          packed_.push_back(
              four ? static_cast<std::uint8_t>((low & 15u) | (static_cast<unsigned>(q[j + 1]) << 4)) : low);
        }
      }
      FR_OK(put<std::uint8_t>(packed_));
    }
    return {};
  }

  AtomicFile& out_;
  const TraceWeights& weights_;
  const Checkpoint& file_;
  const Progress& progress_;
  std::uint64_t done_ = 0, total_ = 0;
  std::vector<float> values_, scales_;
  std::vector<std::uint16_t> halves_;
  std::vector<std::uint8_t> packed_;
};

// The number of largest magnitude, with its sign.
float extreme(std::span<const float> x) {
  return *std::max_element(x.begin(), x.end(), [](float a, float b) { return std::fabs(a) < std::fabs(b); });
}

void round_all(std::span<const float> x, float scale, float least, float most, std::int8_t* q) {
  for (std::size_t i = 0; i < x.size(); ++i)
    q[i] = static_cast<std::int8_t>(std::clamp(std::nearbyint(x[i] * scale), least, most));
}

}  // namespace

float quantise_ncnn_block8(std::span<const float> x, std::int8_t* q) {
  const float scale = 127.0f / std::fabs(extreme(x));
  // A block of zeros, or of numbers whose scale would overflow, is stored as zeros.
  const bool empty = !(scale < std::numeric_limits<float>::max());
  round_all(x, empty ? 0.0f : scale, -127, 127, q);
  return empty ? 1.0f : scale;
}

float quantise_ncnn_block4(std::span<const float> x, std::int8_t* q) {
  const float top = extreme(x);
  if (!(8.0f / std::fabs(top) < std::numeric_limits<float>::max())) {
    std::fill_n(q, x.size(), std::int8_t{0});
    return 1;
  }
  float best = 0, best_error = std::numeric_limits<float>::max();
  // Where the extreme number lands. Towards -8 there is one step more; rounding it down spares the others.
  for (const float landing : {-8.0f, -7.6f, -7.2f, -8.5f, -9.0f, 7.0f}) {
    const float scale = landing / top, step = 1 / scale;
    float error = 0;
    for (const float v : x) {
      const float d = v - step * std::clamp(std::nearbyint(v * scale), -8.0f, 7.0f);
      error += d * d;
    }
    if (error < best_error) best = scale, best_error = error;
  }
  round_all(x, best, -8, 7, q);
  return best;
}

Status write_ncnn_weights(AtomicFile& out, const NcnnGraph& graph, const TraceWeights& weights,
                          const Checkpoint& file, const Progress& progress) {
  Writer writer(out, weights, file, progress);
  for (const NcnnLayer& l : graph.layers) FR_OK(writer.layer(l));
  return {};
}

}  // namespace fr
