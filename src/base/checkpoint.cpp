#include "base/checkpoint.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace fr {
namespace {

template <DType type>
float load(const std::byte* p) {
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

template <DType type>
void read_strided(const TensorView& t, std::int64_t begin, std::span<float> out) {
  constexpr auto width = static_cast<std::int64_t>(dtype_size(type));
  if (t.contiguous()) {
    for (std::size_t i = 0; i < out.size(); ++i)
      out[i] = load<type>(t.data + (begin + static_cast<std::int64_t>(i)) * width);
    return;
  }
  const std::size_t rank = t.shape.size();
  std::vector<std::int64_t> index(rank);
  std::int64_t rest = begin, offset = 0;
  for (std::size_t d = rank; d-- > 0;) {
    index[d] = rest % t.shape[d];
    rest /= t.shape[d];
    offset += index[d] * t.stride[d];
  }
  for (float& value : out) {
    value = load<type>(t.data + offset * width);
    for (std::size_t d = rank; d-- > 0;) {  // odometer
      offset += t.stride[d];
      if (++index[d] < t.shape[d]) break;
      offset -= index[d] * t.stride[d];
      index[d] = 0;
    }
  }
}

}  // namespace

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
  return true;
}

std::span<const std::byte> TensorView::bytes() const {
  std::int64_t last = 0;
  for (std::size_t d = 0; d < shape.size(); ++d) {
    if (shape[d] == 0) return {data, 0};
    last += (shape[d] - 1) * stride[d];
  }
  return {data, static_cast<std::size_t>(last + 1) * dtype_size(dtype)};
}

void TensorView::read(std::int64_t begin, std::span<float> out) const {
  FR_CHECK(is_weight_dtype(dtype));
  FR_CHECK(begin >= 0 && begin + static_cast<std::int64_t>(out.size()) <= size());
  if (out.empty()) return;  // also: a shape with a zero, which has no index to start from
  switch (dtype) {
    case DType::f32:
      return read_strided<DType::f32>(*this, begin, out);
    case DType::f16:
      return read_strided<DType::f16>(*this, begin, out);
    case DType::bf16:
      return read_strided<DType::bf16>(*this, begin, out);
    default:
      return;
  }
}

std::string TensorView::shape_string() const {
  std::string s = "[";
  for (std::size_t d = 0; d < shape.size(); ++d) s += (d ? ", " : "") + std::to_string(shape[d]);
  return s + "]";
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
