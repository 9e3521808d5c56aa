// What follows a product: bias, activation, gate. Included after a vec header and kernels.h.
#pragma once
#include "backends/cpu/vec_math-inl.h"

namespace fr::cpu {
namespace {

// Bias, activation and gate of panels [first, last).
inline void finish(const Product& p, int first, int last) {
  if (p.bias == nullptr && p.gate == nullptr && p.act == Epilogue::none) return;
  for (int t = 0; t < p.rows; ++t) {
    float* y = p.y + t * p.ldy;
    for (int c = first * panel_cols; c < last * panel_cols; c += lanes) {
      F32 value = load(y + c);
      if (p.bias != nullptr) value = value + load(p.bias + c);
      value = apply(p.act, value);
      if (p.gate != nullptr) value = value * load(p.gate + t * p.ld_gate + c);
      store(y + c, value);
    }
  }
}

}  // namespace
}  // namespace fr::cpu
