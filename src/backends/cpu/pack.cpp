#include "backends/cpu/pack.h"

#include <algorithm>
#include <cstring>

namespace fr::cpu {
namespace {

constexpr int sparse_group = 32;  // panels: rows of up to 2 or 4 KB

constexpr std::size_t element_size(WeightType t) { return t == WeightType::f32 ? 4 : 2; }

// Numbers as they are stored. Equal types are copied bit by bit.
template <WeightType type>
using Stored = std::conditional_t<type == WeightType::f32, float, std::uint16_t>;

template <WeightType type>
float to_float(Stored<type> x) {
  if constexpr (type == WeightType::f32) return x;
  if constexpr (type == WeightType::f16) return half_to_float(x);
  if constexpr (type == WeightType::bf16) return bf16_to_float(x);
}
template <WeightType type>
Stored<type> from_float(float x) {
  if constexpr (type == WeightType::f32) return x;
  if constexpr (type == WeightType::f16) return float_to_half(x);
  if constexpr (type == WeightType::bf16) return float_to_bf16(x);
}

// One panel: outputs [c0, c0 + 32) for every input. Blocks of inputs keep both sides in the first-level
// cache.
template <WeightType from, WeightType to>
void pack_panel(const TensorView& w, int panel, const PackedMatrix& m, std::byte* data) {
  const int c0 = panel * panel_cols, cols = std::min(panel_cols, m.out - c0);
  const std::int64_t out_stride = w.stride[0], in_stride = w.stride[1];
  const int first = panel / m.group * m.group;  // of the panel's group
  const std::int64_t ld = std::int64_t{std::min(m.group, m.panels - first)} * panel_cols;
  auto* packed = reinterpret_cast<Stored<to>*>(data) + std::int64_t{first} * m.in * panel_cols +
                 (panel - first) * panel_cols;
  const auto copy = [&](int k, int c) {
    const std::int64_t at = k * ld + stored_column(to, c);
    Stored<from> x;
    const std::int64_t element = (c0 + c) * out_stride + k * in_stride;
    std::memcpy(&x, w.data + element * static_cast<std::int64_t>(sizeof x), sizeof x);
    if constexpr (from == to) {
      packed[at] = x;
    } else {
      packed[at] = from_float<to>(to_float<from>(x));
    }
  };
  constexpr int block = 64;
  for (int k0 = 0; k0 < m.in; k0 += block) {
    const int k1 = std::min(k0 + block, m.in);
    if (out_stride < in_stride) {
      for (int k = k0; k < k1; ++k) {
        for (int c = 0; c < cols; ++c) copy(k, c);
      }
    } else {
      for (int c = 0; c < cols; ++c) {
        for (int k = k0; k < k1; ++k) copy(k, c);
      }
    }
    for (int c = cols; c < panel_cols; ++c) {
      for (int k = k0; k < k1; ++k) packed[k * ld + stored_column(to, c)] = {};
    }
  }
}

using PackPanel = void (*)(const TensorView&, int, const PackedMatrix&, std::byte*);
template <WeightType from>
PackPanel pack_to(WeightType to) {
  switch (to) {
    case WeightType::f32:
      return &pack_panel<from, WeightType::f32>;
    case WeightType::f16:
      return &pack_panel<from, WeightType::f16>;
    case WeightType::bf16:
      return &pack_panel<from, WeightType::bf16>;
  }
  return nullptr;
}
PackPanel pack_function(DType from, WeightType to) {
  switch (from) {
    case DType::f32:
      return pack_to<WeightType::f32>(to);
    case DType::f16:
      return pack_to<WeightType::f16>(to);
    case DType::bf16:
      return pack_to<WeightType::bf16>(to);
    default:
      return nullptr;
  }
}

}  // namespace

Result<std::byte*> BumpMemory::take(std::size_t bytes, const std::string& what) {
  bytes = (bytes + AlignedBuffer::alignment - 1) / AlignedBuffer::alignment * AlignedBuffer::alignment;
  if (blocks_.empty() || bytes > blocks_.back().size() - used_) {
    FR_TRY(AlignedBuffer block, AlignedBuffer::allocate(std::max(bytes, block_), what));
    blocks_.push_back(std::move(block));
    used_ = 0;
  }
  std::byte* data = blocks_.back().data() + used_;
  used_ += bytes;
  taken_ += bytes;
  return data;
}

Result<Tensor> Weights::add_vector(std::span<const float> values, Shape shape) {
  FR_CHECK(static_cast<std::int64_t>(values.size()) == shape.size());
  const std::size_t padded = (values.size() + panel_cols - 1) / panel_cols * panel_cols;
  FR_TRY(std::byte * data, vector_memory_.take(padded * sizeof(float), "a vector of weights"));
  auto* copy = reinterpret_cast<float*>(data);
  std::fill(std::copy(values.begin(), values.end(), copy), copy + padded, 0.0f);
  vectors_.push_back(copy);
  return Tensor{vectors() - 1, shape, Extent::one};
}

Result<Mat> Weights::add_matrix(const TensorView& w, MatRole role, const Checkpoint& file) {
  FR_CHECK(w.shape.size() == 2 && is_weight_dtype(w.dtype));
  PackedMatrix m;
  m.type = type_;
  m.out = static_cast<int>(w.shape[0]);
  m.in = static_cast<int>(w.shape[1]);
  if (role == MatRole::embedding) {
    m.table = w;
    m.table_owner = file.keep_alive();
    mapped_ += static_cast<std::int64_t>(w.bytes().size());
  } else {
    m.sparse = role == MatRole::sparse_input;
    m.group = m.sparse ? sparse_group : 1;
    m.panels = (m.out + panel_cols - 1) / panel_cols;
    const std::size_t size = static_cast<std::size_t>(m.panels) * panel_cols * static_cast<std::size_t>(m.in);
    FR_TRY(std::byte * data, matrix_memory_.take(size * element_size(type_), "tensor " + w.name));
    const PackPanel pack = pack_function(w.dtype, type_);
    pool_.run(m.panels, [&](int, int begin, int end) {
      for (int panel = begin; panel < end; ++panel) pack(w, panel, m, data);
    });
    m.data = data;
    if (file.file) file.file->release(w.bytes());
  }
  matrices_.push_back(std::move(m));
  Mat mat;
  mat.id = static_cast<int>(matrices_.size()) - 1;
  mat.out = static_cast<int>(w.shape[0]);
  mat.in = static_cast<int>(w.shape[1]);
  mat.role = role;
  return mat;
}

}  // namespace fr::cpu
