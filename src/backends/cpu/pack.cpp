#include "backends/cpu/pack.h"

#include <algorithm>
#include <atomic>

#include "backends/cpu/pack_panel.h"
#include "core/storage.h"

namespace fr::cpu {
namespace {

// Panels side by side in a matrix whose rows are left out where inputs are zero: what is read of a row should
// be one long piece, but there must be a group for every thread, and equal ones. On Zen 4 rows of 256 bytes
// of codes are read about as fast as longer ones, rows of 2 KB of halves faster than shorter ones.
int sparse_group(WeightType type, int panels, int threads) {
  const int widest = type >= WeightType::q8_0 ? 16 : 32;
  constexpr int narrowest = 4;
  const auto groups = [panels](int of) { return (panels + of - 1) / of; };
  const int wanted = (groups(widest) + threads - 1) / threads * threads;
  const int number = std::min(wanted, groups(narrowest));
  return std::max(2, groups(number));  // one panel is no group: codes of its inputs would not lie in rows
}

}  // namespace

WeightType weight_type(DType stored) {
  switch (stored) {
    case DType::f32:
      return WeightType::f32;
    case DType::f16:
      return WeightType::f16;
    case DType::bf16:
      return WeightType::bf16;
    case DType::q8_0:
      return WeightType::q8_0;
    case DType::q4_0:
      return WeightType::q4_0;
    default:
      FR_CHECK(stored == DType::q4_k);
      return WeightType::q4_k;
  }
}

bool pack(const TensorView& w, DType stored, const PackedMatrix& m, ThreadPool& pool, std::byte* data) {
  const Source source(w);
  std::atomic<bool> fits = true;
  pool.run(m.panels, [&](int, int begin, int end) {
    for (int panel = begin; panel < end; ++panel) {
      if (!pack_panel(source, stored, Target(m, panel, data))) fits = false;
    }
  });
  return fits;
}

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
  FR_CHECK(w.shape.size() == 2 && w.readable());
  PackedMatrix m;
  m.out = static_cast<int>(w.shape[0]);
  m.in = static_cast<int>(w.shape[1]);
  if (role == MatRole::embedding) {
    m.table = w;
    m.table_owner = file.keep_alive();
    mapped_ += static_cast<std::int64_t>(w.bytes().size());
  } else {
    const DType stored = stored_dtype(asked_, role, w);
    m.type = weight_type(stored);
    m.sparse = role == MatRole::sparse_input;
    m.panels = (m.out + panel_cols - 1) / panel_cols;
    m.group = m.sparse ? sparse_group(m.type, m.panels, pool_.size()) : 1;
    const std::ptrdiff_t bytes = packed_bytes(m.type, m.panels, m.group, m.in);
    FR_TRY(std::byte * data, matrix_memory_.take(static_cast<std::size_t>(bytes), "tensor " + w.name));
    if (!pack(w, stored, m, pool_, data)) return cannot_store(w, stored, file);
    m.data = data;
    file.release(w.bytes());
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
