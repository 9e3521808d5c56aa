#include "base/quant.h"

#include <cstring>

#include "base/result.h"

namespace fr {
namespace {

float half_at(const std::uint8_t* p) {
  std::uint16_t h;
  std::memcpy(&h, p, sizeof h);
  return half_to_float(h);
}
float signed_byte(std::uint8_t b) { return static_cast<float>(static_cast<std::int8_t>(b)); }

// {d fp16, int8[32]}
void q8_0(const std::uint8_t* b, float* y) {
  const float d = half_at(b);
  for (int i = 0; i < 32; ++i) y[i] = d * signed_byte(b[2 + i]);
}

// {d fp16, [m fp16], [bit 4 of all: 4 bytes], nibbles[16]}: byte i holds number i (low) and i + 16 (high).
template <bool with_min, bool five_bits>
void legacy(const std::uint8_t* b, float* y) {
  const float d = half_at(b);
  const float m = with_min ? half_at(b + 2) : (five_bits ? -16.0f : -8.0f) * d;
  b += with_min ? 4 : 2;
  std::uint32_t high = 0;
  if constexpr (five_bits) {
    std::memcpy(&high, b, sizeof high);
    b += 4;
  }
  for (int i = 0; i < 16; ++i) {
    const std::uint32_t low = (b[i] & 15u) | (high >> i & 1u) << 4;
    const std::uint32_t up = (b[i] >> 4u) | (high >> (i + 16) & 1u) << 4;
    y[i] = with_min ? d * static_cast<float>(low) + m : d * (static_cast<float>(low) - (five_bits ? 16 : 8));
    y[i + 16] =
        with_min ? d * static_cast<float>(up) + m : d * (static_cast<float>(up) - (five_bits ? 16 : 8));
  }
}

constexpr std::int8_t iq4_nl_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                           1,    13,   25,  38,  53,  69,  89,  113};

void iq4_nl(const std::uint8_t* b, float* y) {
  const float d = half_at(b);
  for (int i = 0; i < 16; ++i) {
    y[i] = d * static_cast<float>(iq4_nl_values[b[2 + i] & 15u]);
    y[i + 16] = d * static_cast<float>(iq4_nl_values[b[2 + i] >> 4u]);
  }
}

// {scales[16]: scale low nibble, minimum high; 2-bit codes[64]; d, dmin fp16}. Two halves of 128 numbers; in
// a half, byte i holds numbers i, i + 32, i + 64, i + 96; 16 numbers share a scale.
void q2_k(const std::uint8_t* b, float* y) {
  const float d = half_at(b + 80), dmin = half_at(b + 82);
  for (int n = 0; n < 256; ++n) {
    const int half = n / 128, shift = n % 128 / 32 * 2, i = n % 32;
    const std::uint32_t code = b[16 + half * 32 + i] >> shift & 3u, scale = b[n / 16];
    y[n] = d * static_cast<float>(scale & 15u) * static_cast<float>(code) -
           dmin * static_cast<float>(scale >> 4u);
  }
}

// {high bits[32]; 2-bit codes[64], as q2_k; 16 6-bit scales in 12 bytes; d fp16}. Bit n / 32 of byte n % 32
// is the high bit, and says that 4 is not subtracted.
void q3_k(const std::uint8_t* b, float* y) {
  const std::uint8_t *high = b, *low = b + 32, *packed = b + 96;
  const float d = half_at(b + 108);
  for (int n = 0; n < 256; ++n) {
    const int s = n / 16;
    const std::uint32_t four = s < 8 ? packed[s] & 15u : packed[s - 8] >> 4u;
    const std::uint32_t two = packed[8 + s % 4] >> (2 * (s / 4)) & 3u;
    const int scale = static_cast<int>(four | two << 4) - 32;
    const std::uint32_t code = low[n / 128 * 32 + n % 32] >> (n % 128 / 32 * 2) & 3u;
    const int q = static_cast<int>(code) - ((high[n % 32] >> (n / 32) & 1u) ? 0 : 4);
    y[n] = d * static_cast<float>(scale) * static_cast<float>(q);
  }
}

// {d, dmin fp16; scales[12]; [high bits[32]]; nibbles[128]}: 64 numbers lie in 32 bytes, the first 32 low.
template <bool five_bits>
void q45_k(const std::uint8_t* b, float* y) {
  const float d = half_at(b), dmin = half_at(b + 2);
  const std::uint8_t *high = b + 16, *codes = b + (five_bits ? 48 : 16);
  for (int j = 0; j < 8; ++j) {
    const ScaleMin s = q4_k_scale_min(reinterpret_cast<const std::byte*>(b), j);
    const float scale = d * static_cast<float>(s.scale), min = dmin * static_cast<float>(s.min);
    for (int i = 0; i < 32; ++i) {
      std::uint32_t code = codes[j / 2 * 32 + i] >> (j % 2 * 4) & 15u;
      if (five_bits) code |= (high[i] >> j & 1u) << 4;
      y[j * 32 + i] = scale * static_cast<float>(code) - min;
    }
  }
}

// {low nibbles[128]; high 2 bits[64]; scales int8[16]; d fp16}. Two halves of 128 numbers: number n of a half
// has its low bits in byte n % 64, its high ones in byte n % 32.
void q6_k(const std::uint8_t* b, float* y) {
  const float d = half_at(b + 208);
  for (int n = 0; n < 256; ++n) {
    const int half = n / 128, i = n % 128;
    const std::uint32_t low = b[half * 64 + i % 64] >> (i / 64 * 4) & 15u;
    const std::uint32_t up = b[128 + half * 32 + i % 32] >> (i / 32 * 2) & 3u;
    const int q = static_cast<int>(low | up << 4) - 32;
    y[n] = d * signed_byte(b[192 + n / 16]) * static_cast<float>(q);
  }
}

using Block = void (*)(const std::uint8_t*, float*);
Block block_function(DType type) {
  switch (type) {
    case DType::q8_0:
      return q8_0;
    case DType::q4_0:
      return legacy<false, false>;
    case DType::q4_1:
      return legacy<true, false>;
    case DType::q5_0:
      return legacy<false, true>;
    case DType::q5_1:
      return legacy<true, true>;
    case DType::q2_k:
      return q2_k;
    case DType::q3_k:
      return q3_k;
    case DType::q4_k:
      return q45_k<false>;
    case DType::q5_k:
      return q45_k<true>;
    case DType::q6_k:
      return q6_k;
    case DType::iq4_nl:
      return iq4_nl;
    default:
      return nullptr;
  }
}

}  // namespace

void dequantise(DType type, const std::byte* blocks, std::span<float> out) {
  const Block block = block_function(type);
  const auto n = static_cast<std::size_t>(block_size(type));
  FR_CHECK(block != nullptr && out.size() % n == 0);
  const auto* b = reinterpret_cast<const std::uint8_t*>(blocks);
  for (std::size_t i = 0; i < out.size(); i += n, b += dtype_size(type)) block(b, out.data() + i);
}

}  // namespace fr
