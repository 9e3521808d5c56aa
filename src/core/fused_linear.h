// Fused ops around matrix products: low-rank pairs, channel mix, the value residual.
#pragma once
#include "core/ops.h"
#include "core/weights.h"

namespace fr {

// outer(up(inner(down(x))) + bias): {T, 1, in} -> {T, 1, out}.
inline Tensor expand_low_rank(Ops& op, Tensor x, const LowRank& m) {
  Tensor y = op.linear(op.linear(x, m.down, m.inner), m.up);
  if (m.bias) y = add(op, y, m.bias.t);
  return m.outer == Act::none ? y : op.unary(m.outer, y);
}
inline constexpr Fused<Tensor(Ops&, Tensor, const LowRank&)> low_rank{"low_rank", &expand_low_rank};

// a + (b - a) t, element by element.
inline Tensor expand_lerp(Ops& op, Tensor a, Tensor b, Tensor t) {
  return add(op, a, mul(op, sub(op, b, a), t));
}
inline constexpr Fused<Tensor(Ops&, Tensor, Tensor, Tensor)> lerp{"lerp", &expand_lerp};

// v7: value(relu(key(xk))^2). The squared ReLU stays inside, so a backend can skip the rows of `value` that
// meet zeros.
inline Tensor expand_channel_mix(Ops& op, Tensor xk, const Mat& key, const Mat& value) {
  return op.linear(op.linear(xk, key, Act::relu2), value);
}
inline constexpr Fused<Tensor(Ops&, Tensor, const Mat&, const Mat&)> channel_mix{"channel_mix",
                                                                                 &expand_channel_mix};

// v4 to v6: sigmoid(receptance(xr)) * value(relu(key(xk))^2).
inline Tensor expand_channel_mix_gated(Ops& op, Tensor xk, Tensor xr, const Mat& key, const Mat& value,
                                       const Mat& receptance) {
  return mul(op, op.linear(xr, receptance, Act::sigmoid), channel_mix(op, xk, key, value));
}
inline constexpr Fused<Tensor(Ops&, Tensor, Tensor, const Mat&, const Mat&, const Mat&)> channel_mix_gated{
    "channel_mix_gated", &expand_channel_mix_gated};

}  // namespace fr
