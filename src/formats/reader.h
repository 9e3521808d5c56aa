// What the readers of model files share: how errors are worded, limits, arithmetic that cannot overflow,
// final checks.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/checkpoint.h"
#include "base/result.h"

namespace fr {

// Far above any RWKV file (61 layers have about 2,200 tensors of rank 1 to 4) and low enough that the index
// of a hostile file stays in a few megabytes.
inline constexpr std::size_t max_tensors = 32768;
inline constexpr std::size_t max_rank = 8;
inline constexpr std::size_t max_name_length = 1024;

inline constexpr std::string_view damaged_file = "the file is damaged, download or copy it again";

// "<what> (<path>): <what to do>"
Error file_fault(std::string_view path, std::string_view what, std::string_view what_to_do = damaged_file);

// Text of unknown origin for an error message: in quotes, printable ASCII only, shortened.
std::string printable(std::string_view text);

static_assert(std::endian::native == std::endian::little,
              "model files are little-endian and are read in place");

// The caller has checked that the bytes are there.
template <class T>
T load_le(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

// a * b and a + b, or nothing when int64 is too small.
std::optional<std::int64_t> checked_mul(std::int64_t a, std::int64_t b);
std::optional<std::int64_t> checked_add(std::int64_t a, std::int64_t b);

// Number of elements of a shape without negative sizes. Nothing when the product, taken without the zero
// sizes, does not fit: so every partial product fits too.
std::optional<std::int64_t> element_count(std::span<const std::int64_t> shape);

// Ends the reading of a file: there are tensors, their names are unique and of a sane length; builds the name
// index.
Status finish_checkpoint(Checkpoint& checkpoint);

}  // namespace fr
