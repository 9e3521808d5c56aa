// Products on AMX tiles.
#include "backends/cpu/tiles-inl.h"

namespace fr::cpu {
namespace {

// Tiles 0 to 3: sums of 2 x 16 rows by 2 x 16 columns; 4 and 5: inputs; 6 and 7: weights.
struct alignas(64) Configuration {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};
// For `top` rows above and `bottom` below, which may be none.
inline void configure(int top, int bottom) {
  Configuration c;
  for (int i = 0; i < 8; ++i) {
    c.row_bytes[i] = tile_row;
    const bool lower = i == 2 || i == 3 || i == 5;
    c.rows[i] = static_cast<uint8_t>(i >= 6 ? tile_height : !lower ? top : bottom > 0 ? bottom : 1);
  }
  __asm__ volatile("" ::"r"(&c) : "memory");  // GCC 12 takes the instruction to read 8 bytes only
  _tile_loadconfig(&c);
}

class TileSums {
 public:
  TileSums() = default;
  TileSums(const TileSums&) = delete;
  ~TileSums() { _tile_release(); }

  void begin(const RowPair& rows, float* y, ptrdiff_t ldy, bool resume) {
    if (configured_ != rows.top + rows.bottom) configure(rows.top, rows.bottom);
    configured_ = rows.top + rows.bottom;
    both_ = rows.bottom > 0;
    y_ = y;
    below_ = y + tile_height * ldy;
    bytes_ = ldy * ptrdiff_t{sizeof(float)};
    if (!resume) {
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
      return;
    }
    _tile_loadd(0, y_, bytes_);
    _tile_loadd(1, y_ + tile_height, bytes_);
    if (!both_) return;
    _tile_loadd(2, below_, bytes_);
    _tile_loadd(3, below_ + tile_height, bytes_);
  }
  void add(const Operands& o) { both_ ? multiply<true>(o) : multiply<false>(o); }
  void end() {
    _tile_stored(0, y_, bytes_);
    _tile_stored(1, y_ + tile_height, bytes_);
    if (!both_) return;
    _tile_stored(2, below_, bytes_);
    _tile_stored(3, below_ + tile_height, bytes_);
  }

 private:
  template <bool both>
  static void multiply(const Operands& o) {
    for (int i = 0; i < o.depth; ++i) {
      _tile_loadd(6, o.weights + i * 2 * tile_bytes, tile_row);
      _tile_loadd(7, o.weights + (i * 2 + 1) * tile_bytes, tile_row);
      _tile_loadd(4, o.top + i * o.top_step, tile_row);
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      if constexpr (both) {
        _tile_loadd(5, o.bottom + i * o.bottom_step, tile_row);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
      }
    }
  }

  int configured_ = 0;  // rows
  bool both_ = false;
  float *y_ = nullptr, *below_ = nullptr;
  ptrdiff_t bytes_ = 0;
};

void tile_product(const Product& p, int first, int last) {
  with_panels(p.type, p.group, [&](auto type) {
    using Panel = typename decltype(type)::Panel;
    tiled_panels<input_parts(Panel::type), TileSums, Panel>(p, first, last);
  });
  finish(p, first, last);
}

}  // namespace

// With integer products and few rows, weights are still waited for; rows of ffn.value are left out while
// there are few. Counted from instructions, not measured yet.
#ifdef FR_EMULATED_AVX512
extern const TileKernels tiles_amx_emulated;
const TileKernels tiles_amx_emulated{512, 6, 6, 17, 12, &prepare, &tile_product};
#else
const TileKernels tiles_amx{512, 6, 6, 17, 12, &prepare, &tile_product};
#endif

}  // namespace fr::cpu
