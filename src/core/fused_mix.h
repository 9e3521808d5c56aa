// Fused ops at the seam between two blocks: residual add, layer norm, token shift and the interpolations
// ("lerps") between a token and its predecessor.
#pragma once
#include "core/ops.h"
#include "core/weights.h"

namespace fr {

inline constexpr float layer_norm_eps = 1e-5f;

// The residual stream is x + pending: whoever normalises next adds, so that the addition fuses with the norm.
struct Residual {
  Tensor x, pending;
};

inline void settle(Ops& op, Residual& r) {
  if (r.pending) r.x = add(op, r.x, r.pending);
  r.pending = {};
}

// x += pending; layer_norm(x) * weight + bias. {T, 1, D}.
inline Tensor expand_add_norm(Ops& op, Residual& r, const Norm& ln) {
  settle(op, r);
  return add(op, mul(op, op.norm(r.x, layer_norm_eps, NormKind::layer), ln.weight.t), ln.bias.t);
}
inline constexpr Fused<Tensor(Ops&, Residual&, const Norm&)> add_norm{"add_norm", &expand_add_norm};

// h = add_norm(residual); out[i] = h + (shift(h) - h) mix[i], N tensors {T, 1, D}.
// v4 and v5 files hold the complement (h mix + prev (1 - mix)): their models bind it as one_minus.
template <std::size_t N>
std::array<Tensor, N> expand_norm_mix(Ops& op, Residual& r, const Norm& ln, StateRef previous,
                                      const Mixes<N>& mixes) {
  const Tensor h = add_norm(op, r, ln);
  const Tensor dx = sub(op, op.shift(h, previous), h);
  std::array<Tensor, N> out;
  for (std::size_t i = 0; i < N; ++i) out[i] = add(op, h, mul(op, dx, mixes[i].t));
  return out;
}
template <std::size_t N>
using NormMix = Fused<std::array<Tensor, N>(Ops&, Residual&, const Norm&, StateRef, const Mixes<N>&)>;
inline constexpr NormMix<1> norm_mix1{"norm_mix1", &expand_norm_mix<1>};
inline constexpr NormMix<2> norm_mix2{"norm_mix2", &expand_norm_mix<2>};
inline constexpr NormMix<3> norm_mix3{"norm_mix3", &expand_norm_mix<3>};
inline constexpr NormMix<4> norm_mix4{"norm_mix4", &expand_norm_mix<4>};
inline constexpr NormMix<6> norm_mix6{"norm_mix6", &expand_norm_mix<6>};

// v6's data-dependent mix (Finch, arXiv:2404.05892): the weights of the five lerps depend on the token.
struct DataMix {
  Vec maa_x;               // {1, 1, D}
  Mat w1;                  // D -> 5 r
  std::array<Mat, 5> w2;   // r -> D each
  std::array<Vec, 5> maa;  // w, k, v, r, g
};
// h = add_norm(residual); dx = shift(h) - h; t = tanh((h + dx maa_x) w1), cut into 5 parts of r columns;
// out[i] = h + dx (maa[i] + t_i w2[i]).
inline std::array<Tensor, 5> expand_norm_data_mix5(Ops& op, Residual& r, const Norm& ln, StateRef previous,
                                                   const DataMix& m) {
  const Tensor h = add_norm(op, r, ln);
  const Tensor dx = sub(op, op.shift(h, previous), h);
  const Tensor t = op.linear(add(op, h, mul(op, dx, m.maa_x.t)), m.w1, Act::tanh);
  std::array<Tensor, 5> out;
  for (std::size_t i = 0; i < 5; ++i) {
    const int rank = m.w2[i].in;
    const Tensor part = op.slice(t, static_cast<int>(i) * rank, rank);
    out[i] = add(op, h, mul(op, dx, add(op, op.linear(part, m.w2[i]), m.maa[i].t)));
  }
  return out;
}
inline constexpr Fused<std::array<Tensor, 5>(Ops&, Residual&, const Norm&, StateRef, const DataMix&)>
    norm_data_mix5{"norm_data_mix5", &expand_norm_data_mix5};

}  // namespace fr
