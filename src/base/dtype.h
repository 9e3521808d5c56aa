// Number formats of stored tensors: plain numbers, and the block formats of GGUF files (base/quant.h).
// Conversions of the 16-bit formats to float32 and back (IEEE, round to nearest even).
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace fr {

enum class DType : std::uint8_t {
  f32,
  f16,
  bf16,
  f64,
  i64,
  i32,
  i16,
  i8,
  u8,
  boolean,
  q8_0,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
  iq4_nl,
};

namespace detail {
struct DTypeTraits {
  std::string_view name;
  std::uint8_t size;        // bytes of a number, or of a block
  std::uint16_t block = 1;  // numbers in a block
};
inline constexpr DTypeTraits dtype_traits[] = {
    {"fp32", 4},        {"fp16", 2},        {"bf16", 2},        {"fp64", 8},        {"int64", 8},
    {"int32", 4},       {"int16", 2},       {"int8", 1},        {"uint8", 1},       {"bool", 1},
    {"q8_0", 34, 32},   {"q4_0", 18, 32},   {"q4_1", 20, 32},   {"q5_0", 22, 32},   {"q5_1", 24, 32},
    {"q2_k", 84, 256},  {"q3_k", 110, 256}, {"q4_k", 144, 256}, {"q5_k", 176, 256}, {"q6_k", 210, 256},
    {"iq4_nl", 18, 32},
};
constexpr const DTypeTraits& traits(DType t) { return dtype_traits[static_cast<std::size_t>(t)]; }
}  // namespace detail

// Numbers that are stored together: 1, or the length of a block along a row.
constexpr std::int64_t block_size(DType t) { return detail::traits(t).block; }
// Bytes of one number, or of one block.
constexpr std::size_t dtype_size(DType t) { return detail::traits(t).size; }
constexpr std::string_view dtype_name(DType t) { return detail::traits(t).name; }

constexpr bool is_float_dtype(DType t) { return t <= DType::bf16; }
constexpr bool is_block_dtype(DType t) { return t >= DType::q8_0; }
// The formats that a model's weights may have.
constexpr bool is_weight_dtype(DType t) { return is_float_dtype(t) || is_block_dtype(t); }
inline float bf16_to_float(std::uint16_t h) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(h) << 16);
}

inline std::uint16_t float_to_bf16(float f) {
  const auto u = std::bit_cast<std::uint32_t>(f);
  if ((u & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>((u >> 16) | 0x40u);  // quiet NaN
  return static_cast<std::uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

inline float half_to_float(std::uint16_t h) {
  const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000u) << 16;
  const std::uint32_t exponent = (h >> 10) & 0x1fu, mantissa = h & 0x3ffu;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent == 0) {  // zero and subnormals: mantissa * 2^-24, exact in float
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(magnitude));
  }
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

inline std::uint16_t float_to_half(float f) {
  const auto u = std::bit_cast<std::uint32_t>(f);
  const auto sign = static_cast<std::uint16_t>((u >> 16) & 0x8000u);
  const std::uint32_t a = u & 0x7fffffffu;
  if (a > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u);   // NaN
  if (a >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);  // rounds to infinity
  if (a < 0x38800000u) {  // subnormal result: let the float adder round at 2^-24
    const float scaled = std::bit_cast<float>(a) + 0.5f;
    return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(scaled) - 0x3f000000u));
  }
  const std::uint32_t rounded = a + 0xfffu + ((a >> 13) & 1u);
  return static_cast<std::uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

}  // namespace fr
