// Tests only: AMX tile instructions in plain C++, after Intel's description of their operation (Software
// Developer's Manual, volume 2, TDPBF16PS and others), so that machines without AMX check the very sources of
// its kernels too.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

namespace {

struct EmulatedTiles {
  uint8_t rows[8];
  uint16_t bytes[8];
  uint32_t words[8][16][16];
};
thread_local EmulatedTiles emulated_tiles;

inline void load_configuration(const void* from) {
  const auto* c = static_cast<const uint8_t*>(from);
  for (int i = 0; i < 8; ++i) {
    memcpy(&emulated_tiles.bytes[i], c + 16 + 2 * i, 2);
    emulated_tiles.rows[i] = c[48 + i];
  }
}
inline void clear_tile(int tile) { memset(emulated_tiles.words[tile], 0, sizeof emulated_tiles.words[tile]); }
inline void load_tile(int tile, const void* from, ptrdiff_t stride) {
  clear_tile(tile);
  for (int i = 0; i < emulated_tiles.rows[tile]; ++i)
    memcpy(emulated_tiles.words[tile][i], static_cast<const char*>(from) + i * stride,
           emulated_tiles.bytes[tile]);
}
inline void store_tile(int tile, void* to, ptrdiff_t stride) {
  for (int i = 0; i < emulated_tiles.rows[tile]; ++i)
    memcpy(static_cast<char*>(to) + i * stride, emulated_tiles.words[tile][i], emulated_tiles.bytes[tile]);
}
inline float bf16_half(uint32_t word, int half) {
  const uint32_t bits = half == 0 ? word << 16 : word & 0xffff0000u;
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}
inline void multiply_bf16(int sums, int a, int b) {
  EmulatedTiles& t = emulated_tiles;
  for (int m = 0; m < t.rows[sums]; ++m) {
    for (int n = 0; n < t.bytes[sums] / 4; ++n) {
      float total;
      memcpy(&total, &t.words[sums][m][n], sizeof total);
      for (int k = 0; k < t.bytes[a] / 4; ++k) {
        for (int half = 0; half < 2; ++half)
          total += bf16_half(t.words[a][m][k], half) * bf16_half(t.words[b][k][n], half);
      }
      memcpy(&t.words[sums][m][n], &total, sizeof total);
    }
  }
}

}  // namespace

#define _tile_loadconfig load_configuration
#define _tile_release() ((void)0)
#define _tile_loadd load_tile
#define _tile_stored store_tile
#define _tile_zero clear_tile
#define _tile_dpbf16ps multiply_bf16
