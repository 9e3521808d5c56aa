#include "backends/cpu/pack.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "base/quant.h"
#include "core/storage.h"

namespace fr::cpu {
namespace {

constexpr int sparse_group = 32;  // panels: rows of up to 2 or 4 KB

// What the packing of one panel works on: the matrix, and the memory of the panel's group.
struct Target {
  Target(const PackedMatrix& m, int panel, std::byte* data)
      : type(m.type), in(m.in), first_out(panel * panel_cols), outs(std::min(panel_cols, m.out - first_out)) {
    const int first = panel / m.group * m.group;  // of the group
    group = data + packed_bytes(type, std::ptrdiff_t{first} * panel_cols, in);
    cols = std::ptrdiff_t{std::min(m.group, m.panels - first)} * panel_cols;
    number = panel - first;
  }
  std::byte* row(std::ptrdiff_t k) const {  // of float types
    return group + k * row_bytes(type, cols) + number * row_bytes(type, panel_cols);
  }

  WeightType type;
  int in, first_out, outs;  // outs: of the panel's columns, those that the matrix has
  std::byte* group;
  std::ptrdiff_t cols;
  int number;
};

// Numbers that are stored as the file has them, bit by bit. Blocks of inputs keep both sides in the
// first-level cache.
template <class Bits>
void copy_panel(const TensorView& w, const Target& t) {
  const std::int64_t out_stride = w.stride[0], in_stride = w.stride[1];
  const auto copy = [&](int k, int c) {
    const std::int64_t element = (t.first_out + c) * out_stride + k * in_stride;
    std::memcpy(t.row(k) + stored_column(t.type, c) * static_cast<int>(sizeof(Bits)),
                w.data + element * static_cast<std::int64_t>(sizeof(Bits)), sizeof(Bits));
  };
  constexpr int block = 64;
  for (int k0 = 0; k0 < t.in; k0 += block) {
    const int k1 = std::min(k0 + block, t.in);
    for (int k = k0; k < k1 && t.outs < panel_cols; ++k) std::memset(t.row(k), 0, panel_cols * sizeof(Bits));
    if (out_stride < in_stride) {
      for (int k = k0; k < k1; ++k) {
        for (int c = 0; c < t.outs; ++c) copy(k, c);
      }
    } else {
      for (int c = 0; c < t.outs; ++c) {
        for (int k = k0; k < k1; ++k) copy(k, c);
      }
    }
  }
}

// Numbers of any readable matrix, in the order in which the file has them.
class Source {
 public:
  explicit Source(const TensorView& w)
      : by_inputs_(w.stride[0] < w.stride[1] && w.row_gap == 0), view_(by_inputs_ ? w.transposed() : w) {}

  static constexpr int most = 256;  // inputs at once
  // out[c][i] = the weight of input k + i for output first_out + c.
  void read(const Target& t, int k, int count, float (*out)[most]) const {
    if (!by_inputs_) {
      for (int c = 0; c < t.outs; ++c) {
        view_.read(std::int64_t{t.first_out + c} * t.in + k, {out[c], static_cast<std::size_t>(count)});
      }
      return;
    }
    float row[panel_cols];
    for (int i = 0; i < count; ++i) {
      view_.read((std::int64_t{k} + i) * view_.shape[1] + t.first_out,
                 {row, static_cast<std::size_t>(t.outs)});
      for (int c = 0; c < t.outs; ++c) out[c][i] = row[c];
    }
  }

 private:
  bool by_inputs_;  // the file has all outputs of an input side by side
  TensorView view_;
};

// False if a number does not fit.
bool convert_panel(const Source& source, const Target& t) {
  float values[panel_cols][Source::most];
  bool fits = true;
  for (int k0 = 0; k0 < t.in; k0 += Source::most) {
    const int count = std::min(Source::most, t.in - k0);
    source.read(t, k0, count, values);
    for (int c = t.outs; c < panel_cols; ++c) std::fill_n(values[c], count, 0.0f);
    for (int i = 0; i < count; ++i) {
      std::byte* row = t.row(k0 + i);
      for (int c = 0; c < panel_cols; ++c) {
        const float x = values[c][i];
        if (t.type == WeightType::f32) {
          std::memcpy(row + c * 4, &x, 4);
          continue;
        }
        const std::uint16_t h = t.type == WeightType::f16 ? float_to_half(x) : float_to_bf16(x);
        const std::uint16_t infinite = t.type == WeightType::f16 ? 0x7c00 : 0x7f80;
        fits = fits && (h & infinite) != infinite;
        std::memcpy(row + 2 * stored_column(t.type, c), &h, 2);
      }
    }
  }
  return fits;
}

// Blocks of the 32 columns of a panel
// -------------------------------------------------------------------------

using Codes = std::uint8_t[block_inputs][panel_cols];

// Code i of a block of 32, as the file format holds it.
std::uint8_t nibble(const std::uint8_t* bytes,
                    int i) {  // of 16 bytes: the first 16 numbers are the low halves
  return static_cast<std::uint8_t>(i < 16 ? bytes[i] & 15 : bytes[i - 16] >> 4);
}

void write_codes(const Target& t, std::byte* rows, const Codes& codes) {
  const std::ptrdiff_t step = row_bytes(t.type, t.cols), bytes = row_bytes(t.type, panel_cols);
  for (int k = 0; k < block_inputs; ++k) {
    std::byte* row = rows + k * step + t.number * bytes;
    if (t.type == WeightType::q8_0) {
      std::memcpy(row, codes[k], panel_cols);
      continue;
    }
    for (int word = 0; word < 4; ++word) {
      for (int pair = 0; pair < 4; ++pair) {
        const int low = codes[k][word + 8 * pair], high = codes[k][word + 8 * pair + 4];
        row[4 * word + pair] = static_cast<std::byte>(low | high << 4);
      }
    }
  }
}

// Blocks [b, b + ...) of every column, one step of q4_k or one block of another type: blocks[c] is column
// c's.
void write_blocks(const Target& t, int b, const std::byte* const (&blocks)[panel_cols]) {
  const bool q4_k = t.type == WeightType::q4_k;
  std::byte* const begin = t.group + block_offset(t.type, t.cols, b);
  const auto put_half = [&](std::byte* row, int c, const std::byte* half) {
    std::memcpy(row + 2 * (t.number * panel_cols + c), half, 2);
  };
  for (int c = 0; c < panel_cols && q4_k; ++c) {
    put_half(begin - step_bytes(t.type, t.cols), c, blocks[c]);
    put_half(begin - 2 * t.cols, c, blocks[c] + 2);
  }
  for (int j = 0; j < (q4_k ? blocks_per_step : 1); ++j) {
    std::byte* const scales = t.group + block_offset(t.type, t.cols, b + j);
    Codes codes;
    for (int c = 0; c < panel_cols; ++c) {
      const auto* bytes = reinterpret_cast<const std::uint8_t*>(blocks[c]);
      if (q4_k) {
        const ScaleMin s = q4_k_scale_min(blocks[c], j);
        scales[t.number * panel_cols + c] = std::byte{s.scale};
        scales[t.cols + t.number * panel_cols + c] = std::byte{s.min};
      } else {
        put_half(scales, c, blocks[c]);
      }
      for (int k = 0; k < block_inputs; ++k) {
        codes[k][c] = q4_k ? static_cast<std::uint8_t>(bytes[16 + j / 2 * 32 + k] >> (j % 2 * 4) & 15)
                      : t.type == WeightType::q8_0 ? bytes[2 + k]
                                                   : nibble(bytes + 2, k);
      }
    }
    write_codes(t, scales + scale_bytes(t.type, t.cols), codes);
  }
}

// False if a number does not fit. Blocks of the file are taken as they are.
bool pack_blocks(const TensorView& w, const Source& source, DType stored, const Target& t) {
  const int length = static_cast<int>(block_size(stored));
  const std::size_t size = dtype_size(stored);
  constexpr std::size_t largest = 144;  // bytes of a block
  FR_CHECK(size <= largest && length <= Source::most);
  const bool as_they_are = has_blocks(w, stored);
  float values[panel_cols][Source::most];
  std::byte own[panel_cols][largest], zeros[largest] = {};
  const std::byte* blocks[panel_cols];
  bool fits = true;
  for (int k = 0; k < t.in; k += length) {
    if (!as_they_are) source.read(t, k, length, values);
    for (int c = 0; c < panel_cols; ++c) {
      if (c >= t.outs) {
        blocks[c] = zeros;
      } else if (as_they_are) {
        const std::int64_t block = ((t.first_out + c) * w.stride[0] + k) / length;
        blocks[c] = w.data + block * static_cast<std::int64_t>(size);
      } else {
        fits = quantise(stored, {values[c], static_cast<std::size_t>(length)}, own[c]) && fits;
        blocks[c] = own[c];
      }
    }
    write_blocks(t, k / block_inputs, blocks);
  }
  return fits;
}

bool pack_panel(const TensorView& w, const Source& source, DType stored, const Target& t) {
  if (is_block_dtype(stored)) return pack_blocks(w, source, stored, t);
  if (w.dtype != stored || !w.plain() || w.row_gap != 0) return convert_panel(source, t);
  stored == DType::f32 ? copy_panel<std::uint32_t>(w, t) : copy_panel<std::uint16_t>(w, t);
  return true;
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
      if (!pack_panel(w, source, stored, Target(m, panel, data))) fits = false;
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
    m.group = m.sparse ? sparse_group : 1;
    m.panels = (m.out + panel_cols - 1) / panel_cols;
    const std::ptrdiff_t bytes = packed_bytes(m.type, std::ptrdiff_t{m.panels} * panel_cols, m.in);
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
