#include "tools_core/arithmetic.h"

#include <bit>
#include <cstdint>

#include "base/cpu_info.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace fr {
namespace {

// Independent sums: enough to cover the latency of two units, few enough for 16 registers.
constexpr int sums = 12;

// Fixed points of x = x / 2 + 1 / 2 are ones: no overflow, no subnormals. The compiler must not know.
volatile float half = 0.5f;

#if defined(__x86_64__)
volatile int byte_ones = 0x01010101, bf16_ones = 0x3f803f80;

__attribute__((target("avx2,fma"))) float fp32_avx2(int rounds) {
  const __m256 h = _mm256_set1_ps(half);
  __m256 x[sums];
  for (__m256& s : x) s = h;
  for (int r = 0; r < rounds; ++r) {
#pragma GCC unroll 12
    for (int i = 0; i < sums; ++i) x[i] = _mm256_fmadd_ps(x[i], h, h);
  }
  for (int i = 1; i < sums; ++i) x[0] = _mm256_add_ps(x[0], x[i]);
  return _mm256_cvtss_f32(x[0]);
}

// Unsigned times signed bytes, pairs summed in 16 bits, then in 32: the products without VNNI.
__attribute__((target("avx2"))) float int8_avx2(int rounds) {
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i a = _mm256_set1_epi32(byte_ones);
  const __m256i b = a;
  __m256i x[sums / 2] = {};
  for (int r = 0; r < rounds; ++r) {
#pragma GCC unroll 6
    for (int i = 0; i < sums / 2; ++i) {
      __asm__ volatile("" : "+x"(a));  // the products are made anew
      x[i] = _mm256_add_epi32(x[i], _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), ones));
    }
  }
  for (int i = 1; i < sums / 2; ++i) x[0] = _mm256_add_epi32(x[0], x[i]);
  return static_cast<float>(_mm256_cvtsi256_si32(x[0]));
}

__attribute__((target("avx512f"))) float fp32_avx512(int rounds) {
  const __m512 h = _mm512_set1_ps(half);
  __m512 x[sums];
  for (__m512& s : x) s = h;
  for (int r = 0; r < rounds; ++r) {
#pragma GCC unroll 12
    for (int i = 0; i < sums; ++i) x[i] = _mm512_fmadd_ps(x[i], h, h);
  }
  for (int i = 1; i < sums; ++i) x[0] = _mm512_add_ps(x[0], x[i]);
  return _mm512_cvtss_f32(x[0]);
}

__attribute__((target("avx512f,avx512vnni"))) float int8_vnni(int rounds) {
  const __m512i a = _mm512_set1_epi32(byte_ones), b = a;
  __m512i x[sums];
  for (__m512i& s : x) s = _mm512_setzero_si512();
  for (int r = 0; r < rounds; ++r) {
#pragma GCC unroll 12
    for (int i = 0; i < sums; ++i) x[i] = _mm512_dpbusd_epi32(x[i], a, b);
  }
  for (int i = 1; i < sums; ++i) x[0] = _mm512_add_epi32(x[0], x[i]);
  alignas(64) int out[16];
  _mm512_store_si512(out, x[0]);
  return static_cast<float>(out[0]);
}

__attribute__((target("avx512f,avx512bf16"))) float bf16_avx512(int rounds) {
  const __m512bh ones = reinterpret_cast<__m512bh>(_mm512_set1_epi32(bf16_ones));
  __m512 x[sums];
  for (__m512& s : x) s = _mm512_setzero_ps();
  for (int r = 0; r < rounds; ++r) {
#pragma GCC unroll 12
    for (int i = 0; i < sums; ++i) x[i] = _mm512_dpbf16_ps(x[i], ones, ones);
  }
  for (int i = 1; i < sums; ++i) x[0] = _mm512_add_ps(x[0], x[i]);
  return _mm512_cvtss_f32(x[0]);
}

// Palette 1 of the tile configuration: 8 tiles of 16 rows of 64 bytes (Intel SDM, volume 1, chapter 18).
struct alignas(64) TileConfig {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfig) == 64);

struct alignas(64) Tile {
  std::uint32_t words[16][16];
};

// Tiles 0 to 5 are sums, 6 and 7 factors.
#define FR_START_TILES(tile)                                                                               \
  const TileConfig config;                                                                                 \
  __asm__ volatile("" ::"r"(&config) : "memory"); /* GCC 12 takes _tile_loadconfig to read 8 bytes only */ \
  _tile_loadconfig(&config);                                                                               \
  _tile_zero(0);                                                                                           \
  _tile_zero(1);                                                                                           \
  _tile_zero(2);                                                                                           \
  _tile_zero(3);                                                                                           \
  _tile_zero(4);                                                                                           \
  _tile_zero(5);                                                                                           \
  __asm__ volatile("" ::"r"(&tile) : "memory");                                                            \
  _tile_loadd(6, &tile, 64);                                                                               \
  _tile_loadd(7, &tile, 64)

#define FR_SIX_PRODUCTS(product) \
  product(0, 6, 7);              \
  product(1, 6, 7);              \
  product(2, 6, 7);              \
  product(3, 6, 7);              \
  product(4, 6, 7);              \
  product(5, 6, 7)

Tile filled(std::uint32_t word) {
  Tile tile;
  for (auto& row : tile.words) {
    for (std::uint32_t& w : row) w = word;
  }
  return tile;
}

__attribute__((target("amx-tile,amx-bf16"))) float bf16_amx(int rounds) {
  Tile tile = filled(0x3f803f80);  // ones
  FR_START_TILES(tile);
  for (int r = 0; r < rounds; ++r) {
    FR_SIX_PRODUCTS(_tile_dpbf16ps);
  }
  _tile_stored(0, &tile, 64);
  __asm__ volatile("" ::"r"(&tile) : "memory");
  _tile_release();
  return std::bit_cast<float>(tile.words[0][0]);
}

__attribute__((target("amx-tile,amx-int8"))) float int8_amx(int rounds) {
  Tile tile = filled(0x01010101);
  FR_START_TILES(tile);
  for (int r = 0; r < rounds; ++r) {
    FR_SIX_PRODUCTS(_tile_dpbssd);
  }
  _tile_stored(0, &tile, 64);
  __asm__ volatile("" ::"r"(&tile) : "memory");
  _tile_release();
  return static_cast<float>(tile.words[0][0]);
}

#undef FR_START_TILES
#undef FR_SIX_PRODUCTS
#elif defined(__aarch64__)
float fp32_neon(int rounds) {
  const float32x4_t h = vdupq_n_f32(half);
  float32x4_t x[sums];
  for (float32x4_t& s : x) s = h;
  for (int r = 0; r < rounds; ++r) {
#pragma GCC unroll 12
    for (int i = 0; i < sums; ++i) x[i] = vfmaq_f32(h, x[i], h);
  }
  for (int i = 1; i < sums; ++i) x[0] = vaddq_f32(x[0], x[i]);
  return vaddvq_f32(x[0]);
}
#endif

// What every machine has: a vector of four, product and sum apart.
float fp32_portable(int rounds) {
  typedef float Vector __attribute__((vector_size(16)));
  const float h = half;
  Vector x[sums];
  for (Vector& s : x) s = Vector{h, h, h, h};
  for (int r = 0; r < rounds; ++r) {
#pragma GCC unroll 12
    for (int i = 0; i < sums; ++i) x[i] = x[i] * h + h;
  }
  for (int i = 1; i < sums; ++i) x[0] += x[i];
  return x[0][0];
}

}  // namespace

std::vector<ArithmeticLoop> arithmetic_loops() {
  std::vector<ArithmeticLoop> loops{{"fp32", "portable", 2 * 4 * sums, fp32_portable}};
#if defined(__x86_64__)
  const CpuFeatures& has = cpu_features();
  if (has.avx2) loops = {{"fp32", "avx2", 2 * 8 * sums, fp32_avx2}, {"int8", "avx2", 32 * sums, int8_avx2}};
  if (has.avx512) loops.push_back({"fp32", "avx512", 2 * 16 * sums, fp32_avx512});
  if (has.avx512_vnni) loops.push_back({"int8", "avx512_vnni", 2 * 64 * sums, int8_vnni});
  if (has.fast_bf16) loops.push_back({"bf16", "avx512_bf16", 2 * 32 * sums, bf16_avx512});
  if (request_amx()) {
    loops.push_back({"bf16", "amx", 2 * 16 * 16 * 32 * 6, bf16_amx});
    loops.push_back({"int8", "amx", 2 * 16 * 16 * 64 * 6, int8_amx});
  }
#elif defined(__aarch64__)
  loops = {{"fp32", "neon", 2 * 4 * sums, fp32_neon}};
#endif
  return loops;
}

}  // namespace fr
