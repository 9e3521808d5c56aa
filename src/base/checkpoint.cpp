#include "base/checkpoint.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <type_traits>

#include "base/quant.h"
#include "base/rows.h"

namespace fr {
namespace {

// Numbers of one format at offset `element` (in row-major steps of the strides) and `gap` bytes.
template <DType type>
struct Plain {
  const TensorView& t;
  float operator()(std::int64_t element, std::int64_t gap) const {
    const std::byte* p = t.data + element * static_cast<std::int64_t>(dtype_size(type)) + gap;
    if constexpr (type == DType::f32) {
      float f;
      std::memcpy(&f, p, sizeof f);
      return f;
    } else {
      std::uint16_t h;
      std::memcpy(&h, p, sizeof h);
      return type == DType::f16 ? half_to_float(h) : bf16_to_float(h);
    }
  }
};

// Keeps the block that was used last: rows are read in order.
struct Blocked {
  const TensorView& t;
  std::int64_t block = -1;
  float numbers[256];
  float operator()(std::int64_t element, std::int64_t) {
    const std::int64_t n = block_size(t.dtype);
    if (element / n != block) {
      block = element / n;
      dequantise(t.dtype, t.data + block * static_cast<std::int64_t>(dtype_size(t.dtype)),
                 {numbers, static_cast<std::size_t>(n)});
    }
    return numbers[element % n];
  }
};

// out = load(offset, gap) of elements [begin, ...). `load` may be asked for neighbours again and again.
template <class Load>
void read_strided(const TensorView& t, std::int64_t begin, std::span<float> out, Load load) {
  const std::size_t rank = t.shape.size();
  std::vector<std::int64_t> index(rank);
  std::int64_t rest = begin, offset = 0;
  for (std::size_t d = rank; d-- > 0;) {
    index[d] = rest % t.shape[d];
    rest /= t.shape[d];
    offset += index[d] * t.stride[d];
  }
  for (float& value : out) {
    value = load(offset, index[0] * t.row_gap);
    for (std::size_t d = rank; d-- > 0;) {  // odometer
      offset += t.stride[d];
      if (++index[d] < t.shape[d]) break;
      offset -= index[d] * t.stride[d];
      index[d] = 0;
    }
  }
}

// Contiguous blocks: whole ones go straight to `out`.
void read_blocks(const TensorView& t, std::int64_t begin, std::span<float> out) {
  const std::int64_t n = block_size(t.dtype), count = static_cast<std::int64_t>(out.size());
  const std::int64_t first = std::min((begin + n - 1) / n * n - begin, count);  // until a block begins
  const std::int64_t whole = (count - first) / n * n;
  const auto part = [&](std::int64_t from, std::int64_t length) {
    return out.subspan(static_cast<std::size_t>(from), static_cast<std::size_t>(length));
  };
  Blocked edge{t, -1, {}};
  for (std::int64_t i = 0; i < first; ++i) part(i, 1)[0] = edge(begin + i, 0);
  dequantise(t.dtype, t.data + (begin + first) / n * static_cast<std::int64_t>(dtype_size(t.dtype)),
             part(first, whole));
  for (std::int64_t i = first + whole; i < count; ++i) part(i, 1)[0] = edge(begin + i, 0);
}

void read_bytes(const TensorView& t, std::int64_t begin, std::span<float> out) {
  const ByteScales& s = *t.scales;
  const std::int64_t cols = t.shape[1];
  for (std::size_t n = 0; n < out.size(); ++n) {
    const std::int64_t at = begin + static_cast<std::int64_t>(n);
    const auto i = static_cast<std::size_t>(at / cols), j = static_cast<std::size_t>(at % cols);
    const std::byte q =
        t.data[static_cast<std::int64_t>(i) * t.stride[0] + static_cast<std::int64_t>(j) * t.stride[1]];
    out[n] = (static_cast<float>(q) + 0.5f) * s.range[0][i] * s.range[1][j] + s.least[0][i] + s.least[1][j];
  }
}

void add_delta(const TensorView& t, std::int64_t begin, std::span<float> out) {
  const LowRankDelta& d = *t.delta;
  const std::int64_t cols = t.shape[1];
  for (std::size_t n = 0; n < out.size(); ++n) {
    const std::int64_t at = begin + static_cast<std::int64_t>(n);
    const float* a = d.factor[0].data() + static_cast<std::size_t>(at / cols) * d.rank;
    const float* b = d.factor[1].data() + static_cast<std::size_t>(at % cols) * d.rank;
    float sum = 0;
    for (std::size_t r = 0; r < d.rank; ++r) sum += a[r] * b[r];
    out[n] += d.scale * sum;
  }
}

void read_stored(const TensorView& t, std::int64_t begin, std::span<float> out) {
  if (t.scales) return read_bytes(t, begin, out);
  if (is_float_dtype(t.dtype) && t.contiguous())
    return read_row(t.dtype, t.data + begin * static_cast<std::int64_t>(dtype_size(t.dtype)), out);
  switch (t.dtype) {
    case DType::f32:
      return read_strided(t, begin, out, Plain<DType::f32>{t});
    case DType::f16:
      return read_strided(t, begin, out, Plain<DType::f16>{t});
    case DType::bf16:
      return read_strided(t, begin, out, Plain<DType::bf16>{t});
    default:
      return t.contiguous() ? read_blocks(t, begin, out) : read_strided(t, begin, out, Blocked{t, -1, {}});
  }
}

}  // namespace

std::vector<std::int64_t> dense_strides(std::span<const std::int64_t> shape) {
  std::vector<std::int64_t> stride(shape.size(), 1);
  for (std::size_t d = shape.size(); d-- > 1;) stride[d - 1] = stride[d] * shape[d];
  return stride;
}

std::int64_t TensorView::size() const {
  std::int64_t n = 1;
  for (const std::int64_t d : shape) n *= d;
  return n;
}

bool TensorView::contiguous() const {
  std::int64_t expected = 1;
  for (std::size_t d = shape.size(); d-- > 0;) {
    if (shape[d] != 1 && stride[d] != expected) return false;
    expected *= shape[d];
  }
  return row_gap == 0;
}

std::span<const std::byte> TensorView::bytes() const {
  std::int64_t last = 0;
  for (std::size_t d = 0; d < shape.size(); ++d) {
    if (shape[d] == 0) return {data, 0};
    last += (shape[d] - 1) * stride[d];
  }
  const std::int64_t gaps = shape.empty() ? 0 : (shape[0] - 1) * row_gap;
  return {data, static_cast<std::size_t>(last / block_size(dtype) + 1) * dtype_size(dtype) +
                    static_cast<std::size_t>(gaps)};
}

void TensorView::read(std::int64_t begin, std::span<float> out) const {
  FR_CHECK(readable());
  FR_CHECK(begin >= 0 && begin + static_cast<std::int64_t>(out.size()) <= size());
  if (out.empty()) return;  // also: a shape with a zero, which has no index to start from
  read_stored(*this, begin, out);
  if (delta) add_delta(*this, begin, out);
}

TensorView TensorView::transposed() const {
  FR_CHECK(shape.size() >= 2 && (row_gap == 0));
  TensorView t = *this;
  const std::size_t last = shape.size() - 1;
  std::swap(t.shape[last], t.shape[last - 1]);
  std::swap(t.stride[last], t.stride[last - 1]);
  if (scales) {
    auto swapped = std::make_shared<ByteScales>(*scales);
    std::swap(swapped->least[0], swapped->least[1]);
    std::swap(swapped->range[0], swapped->range[1]);
    t.scales = std::move(swapped);
  }
  if (delta) {
    auto swapped = std::make_shared<LowRankDelta>(*delta);
    std::swap(swapped->factor[0], swapped->factor[1]);
    t.delta = std::move(swapped);
  }
  return t;
}

TensorView TensorView::rows(std::int64_t begin, std::int64_t end) const {
  FR_CHECK(!shape.empty() && 0 <= begin && begin <= end && end <= shape[0] && !scales && !delta);
  TensorView t = *this;
  t.shape[0] = end - begin;
  t.data +=
      begin * stride[0] / block_size(dtype) * static_cast<std::int64_t>(dtype_size(dtype)) + begin * row_gap;
  return t;
}

TensorView TensorView::reshaped(std::vector<std::int64_t> new_shape) const {
  FR_CHECK(contiguous() && !scales && !delta);
  TensorView t = *this;
  t.shape = std::move(new_shape);
  t.stride = dense_strides(t.shape);
  FR_CHECK(t.size() == size());
  return t;
}

std::string TensorView::shape_string() const {
  std::string s = "[";
  for (std::size_t d = 0; d < shape.size(); ++d) s += (d ? ", " : "") + std::to_string(shape[d]);
  return s + "]";
}

std::shared_ptr<const void> Checkpoint::keep_alive() const {
  if (files.empty()) return memory;
  return std::make_shared<const std::vector<std::shared_ptr<const MappedFile>>>(files);
}

std::uint64_t Checkpoint::file_size() const {
  std::uint64_t size = 0;
  for (const auto& file : files) size += file->bytes().size();
  return size;
}

void Checkpoint::release(std::span<const std::byte> range) const {
  if (files.empty() && read_once) return drop_pages(range);
  for (const auto& file : files) {
    const auto bytes = file->bytes();
    if (range.data() >= bytes.data() && range.data() < bytes.data() + bytes.size())
      return file->release(range);
  }
}

const TensorView* Checkpoint::find(std::string_view name) const {
  const auto it = std::lower_bound(by_name_.begin(), by_name_.end(), name,
                                   [&](std::uint32_t i, std::string_view n) { return tensors[i].name < n; });
  return it != by_name_.end() && tensors[*it].name == name ? &tensors[*it] : nullptr;
}

void Checkpoint::index() {
  by_name_.resize(tensors.size());
  std::iota(by_name_.begin(), by_name_.end(), 0u);
  std::stable_sort(by_name_.begin(), by_name_.end(),
                   [&](std::uint32_t a, std::uint32_t b) { return tensors[a].name < tensors[b].name; });
}

}  // namespace fr
