#include "backends/cuda/pack.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <atomic>
#include <cstring>

#include "backends/cuda/layout.h"
#include "base/cpu_info.h"
#include "base/quant.h"
#include "core/storage.h"

namespace fr::cuda {
namespace {

constexpr std::size_t alignment = 256, smallest_block = std::size_t{1} << 20,
                      largest_block = std::size_t{32} << 20;
constexpr std::size_t staging_bytes = std::size_t{8} << 20;

std::string megabytes(std::size_t bytes) { return std::to_string((bytes + 999999) / 1000000) + " MB"; }

std::string device_name() {
  int device = 0;
  static_cast<void>(cudaGetDevice(&device));
  return "cuda:" + std::to_string(device);
}

// Clears the runtime's record of the error: it is reported here.
Error failed(const std::string& what, cudaError_t error) {
  static_cast<void>(cudaGetLastError());
  return runtime_error(what + ": " + cudaGetErrorString(error) + " (" + device_name() +
                       "): restart the program, or use the cpu");
}

Error out_of_memory(const std::string& what, std::size_t bytes) {
  static_cast<void>(cudaGetLastError());
  std::size_t free = 0, total = 0;
  if (cudaMemGetInfo(&free, &total) != cudaSuccess) static_cast<void>(cudaGetLastError());
  return runtime_error(what + ": need " + megabytes(bytes) + ", have " + megabytes(free) + " free (" +
                       device_name() + "): try int8 or int4, or leave layers on the cpu");
}

// A piece of a matrix in packed order: rows [first, first + rows) of a view with `cols` columns.
struct Piece {
  const TensorView& view;  // [rows of the packed matrix][its columns]
  std::int64_t cols;
  std::int64_t first, rows;
};

// Numbers as they will be stored. False: one does not fit.
bool convert(std::span<const float> from, WeightType type, std::byte* to) {
  if (type == WeightType::f32) {
    std::memcpy(to, from.data(), from.size_bytes());
    return true;
  }
  bool fits = true;
  const std::uint16_t infinite = type == WeightType::f16 ? 0x7c00 : 0x7f80;
  for (std::size_t i = 0; i < from.size(); ++i) {
    const std::uint16_t h = type == WeightType::f16 ? float_to_half(from[i]) : float_to_bf16(from[i]);
    fits = fits && (h & infinite) != infinite;
    std::memcpy(to + 2 * i, &h, 2);
  }
  return fits;
}

// The file has the view's columns side by side, or (false) its rows, which are then read a square at a time.
bool in_order(const TensorView& view) { return view.stride[1] <= view.stride[0] || view.row_gap != 0; }

// Rows [p.first, ...) as floats to out, cols to a row.
void read_rows(const Piece& p, float* out) {
  const auto count = [](std::int64_t n) { return static_cast<std::size_t>(n); };
  if (in_order(p.view)) {
    for (std::int64_t r = 0; r < p.rows; ++r)
      p.view.read((p.first + r) * p.cols, {out + r * p.cols, count(p.cols)});
    return;
  }
  const TensorView other = p.view.transposed();
  std::vector<float> column(count(p.rows));
  for (std::int64_t c = 0; c < p.cols; ++c) {
    other.read(c * other.shape[1] + p.first, column);
    for (std::int64_t r = 0; r < p.rows; ++r) out[r * p.cols + c] = column[count(r)];
  }
}

// Plain numbers, rows of `pitch` bytes. False: one does not fit.
bool pack_plain(const Piece& p, DType stored, std::size_t pitch, std::byte* to) {
  const WeightType type = weight_type(stored);
  const std::size_t bytes = static_cast<std::size_t>(p.cols) * dtype_size(stored);
  const bool copied = p.view.dtype == stored && p.view.plain() && p.view.stride[1] == 1;
  std::vector<float> numbers;
  if (!copied) {
    numbers.resize(static_cast<std::size_t>(p.rows * p.cols));
    read_rows(p, numbers.data());
  }
  bool fits = true;
  for (std::int64_t r = 0; r < p.rows; ++r) {
    std::byte* row = to + static_cast<std::size_t>(r) * pitch;
    if (copied) {
      const std::int64_t element = (p.first + r) * p.view.stride[0];
      std::memcpy(row,
                  p.view.data + element * static_cast<std::int64_t>(dtype_size(stored)) +
                      (p.first + r) * p.view.row_gap,
                  bytes);
    } else {
      fits = convert({numbers.data() + r * p.cols, static_cast<std::size_t>(p.cols)}, type, row) && fits;
    }
    std::memset(row + bytes, 0, pitch - bytes);
  }
  return fits;
}

// One block of the file's format, taken apart: codes in chunks, scales as layout.h has them.
void split_block(DType type, const std::byte* block, std::byte*& codes, std::byte*& scales) {
  if (type != DType::q4_k) {
    const std::size_t bytes = dtype_size(type) - 2;
    std::memcpy(scales, block, 2);
    std::memcpy(codes, block + 2, bytes);
    scales += 2, codes += bytes;
    return;
  }
  std::memcpy(scales, block, 4);
  const auto nibble = [&](int j, int i) {  // number i of group j
    return std::to_integer<unsigned>(block[16 + j / 2 * 32 + i] >> (j % 2 * 4)) & 15u;
  };
  for (int j = 0; j < 8; ++j) {
    const ScaleMin s = q4_k_scale_min(block, j);
    scales[4 + 2 * j] = std::byte{s.scale};
    scales[5 + 2 * j] = std::byte{s.min};
    for (int i = 0; i < 16; ++i) *codes++ = static_cast<std::byte>(nibble(j, i) | nibble(j, i + 16) << 4);
  }
  scales += super_block_bytes;
}

// False: a number does not fit. Blocks of the file are taken as they are.
bool pack_blocks(const Piece& p, DType stored, std::byte* codes, std::byte* scales) {
  const auto length = static_cast<std::size_t>(block_size(stored)), size = dtype_size(stored);
  const bool as_they_are = has_blocks(p.view, stored);
  const std::size_t blocks = static_cast<std::size_t>(p.cols) / length;
  std::vector<float> numbers;
  if (!as_they_are) {
    numbers.resize(static_cast<std::size_t>(p.rows * p.cols));
    read_rows(p, numbers.data());
  }
  bool fits = true;
  std::byte own[144];
  FR_CHECK(size <= sizeof own && blocks * length == static_cast<std::size_t>(p.cols));
  for (std::int64_t r = 0; r < p.rows; ++r) {
    const std::byte* row = p.view.data + (p.first + r) * p.view.stride[0] /
                                             static_cast<std::int64_t>(length) *
                                             static_cast<std::int64_t>(size);
    for (std::size_t b = 0; b < blocks; ++b) {
      if (!as_they_are) {
        fits = quantise(stored, {numbers.data() + static_cast<std::size_t>(r * p.cols) + b * length, length},
                        own) &&
               fits;
      }
      split_block(stored, as_they_are ? row + b * size : own, codes, scales);
    }
  }
  return fits;
}

// fill(first row, rows, place in the piece) for pieces of at most as many rows as fit into `bytes` of the
// staging buffer, in parallel; then upload(first row, rows). False: fill did not succeed.
template <class Fill, class Upload>
Result<bool> in_pieces(ThreadPool& pool, std::int64_t rows, std::int64_t rows_at_once, Fill fill,
                       Upload upload) {
  for (std::int64_t first = 0; first < rows; first += rows_at_once) {
    const std::int64_t count = std::min(rows_at_once, rows - first);
    constexpr std::int64_t strip = 32;  // rows: where the file has columns, a square of whole cache lines
    std::atomic<bool> fits = true;
    pool.run(static_cast<int>((count + strip - 1) / strip), [&](int, int begin, int end) {
      for (std::int64_t r = begin * strip; r < std::min(end * strip, count); r += strip) {
        if (!fill(first + r, std::min(strip, count - r), r)) fits = false;
      }
    });
    if (!fits) return false;
    FR_OK(upload(first, count));
  }
  return true;
}

Status copy_to_device(std::byte* to, const std::byte* from, std::size_t bytes, const std::string& what) {
  const cudaError_t error = cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice);
  if (error != cudaSuccess) return failed(what, error);
  return {};
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

DeviceMemory::~DeviceMemory() {
  for (std::byte* block : blocks_) static_cast<void>(cudaFree(block));
}

Result<std::byte*> DeviceMemory::allocate(std::size_t bytes, const std::string& what) {
  std::byte* block = nullptr;
  const cudaError_t error = cudaMalloc(&block, bytes);
  if (error == cudaErrorMemoryAllocation) return out_of_memory(what, bytes);
  if (error != cudaSuccess) return failed(what, error);
  blocks_.push_back(block);
  return block;
}

Result<std::byte*> DeviceMemory::take(std::size_t bytes, const std::string& what) {
  bytes = (std::max<std::size_t>(bytes, 1) + alignment - 1) / alignment * alignment;
  std::byte* data = free_;
  if (bytes > free_bytes_) {
    const std::size_t block = std::clamp(taken_, smallest_block, largest_block);
    if (bytes > block / 16) {  // alone, and the block at hand stays in use
      FR_TRY(data, allocate(bytes, what));
      taken_ += bytes;
      return data;
    }
    FR_TRY(data, allocate(block, what));
    free_bytes_ = block;
  }
  free_ = data + bytes;
  free_bytes_ -= bytes;
  taken_ += bytes;
  return data;
}

Result<std::byte*> Staging::at_least(std::size_t bytes) {
  if (bytes <= size_) return data_;
  release();
  const std::size_t size = std::max(bytes, staging_bytes);
  const cudaError_t error = cudaMallocHost(&data_, size);
  if (error != cudaSuccess) {
    data_ = nullptr;
    return failed("a pinned buffer of " + megabytes(size), error);
  }
  size_ = size;
  return data_;
}

void Staging::release() {
  if (data_ != nullptr) static_cast<void>(cudaFreeHost(data_));
  data_ = nullptr;
  size_ = 0;
}

Status Weights::start() {
  if (pool_ == nullptr) {
    FR_TRY(pool_, ThreadPool::create(available_cores()));
  }
  return {};
}

void Weights::finish() {
  staging_.release();
  pool_.reset();
}

Result<Tensor> Weights::add_vector(std::span<const float> values, Shape shape) {
  FR_CHECK(static_cast<std::int64_t>(values.size()) == shape.size());
  const std::string what = "a vector of weights";
  FR_TRY(std::byte * staged, staging_.at_least(values.size_bytes()));
  FR_TRY(std::byte * data, memory_.take(values.size_bytes(), what));
  std::memcpy(staged, values.data(), values.size_bytes());
  FR_OK(copy_to_device(data, staged, values.size_bytes(), what));
  vectors_.push_back(reinterpret_cast<const float*>(data));
  return Tensor{vectors() - 1, shape, Extent::one};
}

Status Weights::upload_plain(const TensorView& w, DType stored, bool padded, const Checkpoint& file,
                             DeviceMatrix& m) {
  const TensorView view = m.transposed ? w.transposed() : w;
  const std::int64_t rows = view.shape[0], cols = view.shape[1];
  m.type = weight_type(stored);
  const std::size_t pitch =
      padded ? static_cast<std::size_t>(row_chunks(m.type, static_cast<int>(cols))) * chunk_bytes
             : static_cast<std::size_t>(cols) * dtype_size(stored);
  const std::string what = "tensor " + w.name;
  FR_TRY(std::byte * staged, staging_.at_least(pitch));
  FR_TRY(std::byte * data, memory_.take(pitch * static_cast<std::size_t>(rows), what));
  FR_TRY(const bool fits, in_pieces(
                              *pool_, rows, static_cast<std::int64_t>(staging_.size() / pitch),
                              [&](std::int64_t first, std::int64_t count, std::int64_t at) {
                                return pack_plain({view, cols, first, count}, stored, pitch,
                                                  staged + static_cast<std::size_t>(at) * pitch);
                              },
                              [&](std::int64_t first, std::int64_t count) {
                                return copy_to_device(data + static_cast<std::size_t>(first) * pitch, staged,
                                                      static_cast<std::size_t>(count) * pitch, what);
                              }));
  if (!fits) return cannot_store(w, stored, file);
  m.codes = data;
  return {};
}

Status Weights::upload_blocks(const TensorView& w, DType stored, const Checkpoint& file, DeviceMatrix& m) {
  m.type = weight_type(stored);
  const auto rows = static_cast<std::size_t>(m.out);
  const std::size_t code_pitch = static_cast<std::size_t>(row_chunks(m.type, m.in)) * chunk_bytes;
  const auto scale_pitch = static_cast<std::size_t>(row_scale_bytes(m.type, m.in));
  const std::string what = "tensor " + w.name;
  FR_TRY(std::byte * staged, staging_.at_least(code_pitch + scale_pitch));
  FR_TRY(std::byte * codes, memory_.take(code_pitch * rows, what));
  FR_TRY(std::byte * scales, memory_.take(scale_pitch * rows, what));
  const std::size_t at_once = std::min(rows, staging_.size() / (code_pitch + scale_pitch));
  std::byte* staged_scales = staged + at_once * code_pitch;
  FR_TRY(const bool fits,
         in_pieces(
             *pool_, m.out, static_cast<std::int64_t>(at_once),
             [&](std::int64_t first, std::int64_t count, std::int64_t at) {
               const auto place = static_cast<std::size_t>(at);
               return pack_blocks({w, m.in, first, count}, stored, staged + place * code_pitch,
                                  staged_scales + place * scale_pitch);
             },
             [&](std::int64_t first, std::int64_t count) -> Status {
               const auto from = static_cast<std::size_t>(first), n = static_cast<std::size_t>(count);
               FR_OK(copy_to_device(codes + from * code_pitch, staged, n * code_pitch, what));
               return copy_to_device(scales + from * scale_pitch, staged_scales, n * scale_pitch, what);
             }));
  if (!fits) return cannot_store(w, stored, file);
  m.codes = codes;
  m.scales = scales;
  return {};
}

Result<Mat> Weights::add_matrix(const TensorView& w, MatRole role, const Checkpoint& file) {
  FR_CHECK(w.shape.size() == 2 && w.readable() && w.shape[0] > 0 && w.shape[1] > 0);
  FR_OK(start());
  DeviceMatrix m;
  m.out = static_cast<int>(w.shape[0]);
  m.in = static_cast<int>(w.shape[1]);
  if (role == MatRole::embedding) {
    const bool own_format = is_float_dtype(w.dtype) && w.scales == nullptr && w.delta == nullptr;
    FR_OK(upload_plain(w, own_format ? w.dtype : DType::f16, false, file, m));
  } else {
    const DType stored = stored_dtype(asked_, role, w);
    if (is_block_dtype(stored)) {
      FR_OK(upload_blocks(w, stored, file, m));
    } else {
      m.transposed = role == MatRole::sparse_input;
      FR_OK(upload_plain(w, stored, true, file, m));
    }
  }
  file.release(w.bytes());
  matrices_.push_back(m);
  Mat mat;
  mat.id = static_cast<int>(matrices_.size()) - 1;
  mat.out = m.out;
  mat.in = m.in;
  mat.role = role;
  return mat;
}

}  // namespace fr::cuda
