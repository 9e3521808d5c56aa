#include "formats/writer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/quant.h"
#include "formats/reader.h"

namespace fr {
namespace {

constexpr std::int64_t piece_numbers = 1 << 18;

std::string name_of(const TensorView& view) { return "tensor " + printable(view.name); }

// The elements of a strided tensor in row-major order, a buffer at a time.
template <std::size_t width>
Status copy_strided(AtomicFile& out, const TensorView& view) {
  constexpr std::size_t capacity = std::size_t{1} << 18;
  std::vector<std::byte> buffer;
  buffer.reserve(capacity);
  std::vector<std::int64_t> index(view.shape.size());
  std::int64_t offset = 0;
  for (std::int64_t left = view.size(); left > 0; --left) {
    const std::int64_t gap = index.empty() ? 0 : index[0] * view.row_gap;
    const std::byte* element = view.data + offset * static_cast<std::int64_t>(width) + gap;
    buffer.insert(buffer.end(), element, element + width);
    if (buffer.size() == capacity || left == 1) {
      FR_OK(out.write(buffer));
      buffer.clear();
    }
    for (std::size_t d = index.size(); d-- > 0;) {  // odometer
      offset += view.stride[d];
      if (++index[d] < view.shape[d]) break;
      offset -= index[d] * view.stride[d];
      index[d] = 0;
    }
  }
  return {};
}

Status copy(AtomicFile& out, const TensorView& view, const Checkpoint& source) {
  if (view.contiguous() || view.size() == 0) {  // in pieces, so that pages can go
    const auto all = view.bytes();
    constexpr std::size_t piece = std::size_t{64} << 20;
    for (std::size_t at = 0; at < all.size(); at += piece) {
      const auto part = all.subspan(at, std::min(piece, all.size() - at));
      FR_OK(out.write(part));
      source.release(part);
    }
    return {};
  }
  switch (dtype_size(view.dtype)) {
    case 1:
      return copy_strided<1>(out, view);
    case 2:
      return copy_strided<2>(out, view);
    case 4:
      return copy_strided<4>(out, view);
    default:
      return copy_strided<8>(out, view);
  }
}

Status no_room(const TensorView& view, float value, DType dtype, const Checkpoint& source) {
  return runtime_error(name_of(view) + " holds " + std::to_string(value) + ", which " +
                       std::string(dtype_name(dtype)) + " cannot hold (" + source.path +
                       "): choose --dtype " + (dtype == DType::bf16 ? "fp32" : "bf16 or fp32"));
}

// Converts `numbers` to `dtype` into `bytes`, which has the right size.
Status encode(const TensorView& view, std::span<const float> numbers, DType dtype, std::span<std::byte> bytes,
              const Checkpoint& source) {
  if (dtype == DType::f32) {
    std::memcpy(bytes.data(), numbers.data(), bytes.size());
    return {};
  }
  if (is_block_dtype(dtype)) {
    if (quantise(dtype, numbers, bytes.data())) return {};
    const auto bad =
        std::find_if(numbers.begin(), numbers.end(), [](float x) { return !(std::abs(x) < 1e30f); });
    return no_room(view, bad == numbers.end() ? *std::max_element(numbers.begin(), numbers.end()) : *bad,
                   dtype, source);
  }
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    const float x = numbers[i];
    const std::uint16_t h = dtype == DType::f16 ? float_to_half(x) : float_to_bf16(x);
    const float back = dtype == DType::f16 ? half_to_float(h) : bf16_to_float(h);
    if (std::isfinite(x) && !std::isfinite(back)) return no_room(view, x, dtype, source);
    std::memcpy(bytes.data() + 2 * i, &h, 2);
  }
  return {};
}

}  // namespace

std::uint64_t stored_bytes(const TensorView& view, DType dtype) {
  return static_cast<std::uint64_t>(view.size() / block_size(dtype)) * dtype_size(dtype);
}

Status report_writing(const Progress& progress, std::string_view path, std::uint64_t done,
                      std::uint64_t total) {
  if (!progress || progress("writing", done, total)) return {};
  return Error{ErrorCode::interrupted, "writing was interrupted (" + std::string(path) + "): start it again"};
}

Status write_tensor(AtomicFile& out, const TensorView& view, DType dtype, const Checkpoint& source) {
  const bool whole_blocks = is_block_dtype(dtype) && view.contiguous() && !view.delta;
  if (view.dtype == dtype && (view.plain() || whole_blocks)) {
    FR_OK(copy(out, view, source));
  } else {
    FR_CHECK(view.readable() && (is_float_dtype(dtype) || can_quantise(dtype)));
    const std::int64_t n = view.size(), block = block_size(dtype);
    FR_CHECK(n == 0 || view.shape.back() % block == 0);
    std::vector<float> numbers;
    std::vector<std::byte> bytes;
    for (std::int64_t at = 0; at < n; at += piece_numbers) {  // pieces are whole blocks
      const std::int64_t count = std::min(piece_numbers, n - at);
      numbers.resize(static_cast<std::size_t>(count));
      bytes.resize(static_cast<std::size_t>(count / block) * dtype_size(dtype));
      view.read(at, numbers);
      FR_OK(encode(view, numbers, dtype, bytes, source));
      FR_OK(out.write(bytes));
    }
  }
  source.release(view.bytes());
  return {};
}

}  // namespace fr
