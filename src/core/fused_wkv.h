// Fused recurrences ("wkv") of every version and the group norm that follows them. r, k, v, w, a, b, y: {T,
// H, N}. Formulas: v4 arXiv:2305.13048, v5 and v6 arXiv:2404.05892, v7 arXiv:2503.14456; constants as in the
// official code.
#pragma once
#include "core/ops.h"
#include "core/weights.h"

namespace fr {

inline constexpr float group_norm_eps = 64e-5f;  // training divides by head_size_divisor 8 first: 8^2 * 1e-5
inline constexpr float l2_norm_eps = 1e-12f;

// {T, H, N} -> {T, 1, H N} and back.
inline Tensor merge_heads(Ops& op, Tensor x) {
  return op.reshape(x, {{x.shape.d[0], 1, x.shape.d[1] * x.shape.d[2]}});
}
inline Tensor split_heads(Ops& op, Tensor x, int heads) {
  return op.reshape(x, {{x.shape.d[0], heads, x.shape.d[1] * x.shape.d[2] / heads}});
}

// v4, channel by channel, {T, 1, D}: numerator aa and denominator bb are kept divided by e^pp so that nothing
// overflows. decay w = -exp(time_decay), bonus u for the current token.
struct Wkv4State {
  StateRef aa, bb, pp;
};
inline Tensor expand_wkv4(Ops& op, const Wkv4State& s, Tensor k, Tensor v, const Vec& decay,
                          const Vec& bonus) {
  const StateRef refs[] = {s.aa, s.bb, s.pp};
  const Tensor inputs[] = {k, v};
  const auto body = [&](Ops& o, std::span<const Tensor> state, std::span<const Tensor> in) -> ScanStep {
    const Tensor aa = state[0], bb = state[1], pp = state[2], kt = in[0], vt = in[1];
    const Tensor now = add(o, kt, bonus.t);
    const Tensor p = max(o, pp, now);
    const Tensor e1 = o.unary(Act::exp, sub(o, pp, p)), e2 = o.unary(Act::exp, sub(o, now, p));
    const Tensor y = div(o, add(o, mul(o, e1, aa), mul(o, e2, vt)), add(o, mul(o, e1, bb), e2));
    const Tensor faded = add(o, pp, decay.t);
    const Tensor q = max(o, faded, kt);
    const Tensor f1 = o.unary(Act::exp, sub(o, faded, q)), f2 = o.unary(Act::exp, sub(o, kt, q));
    return {{add(o, mul(o, f1, aa), mul(o, f2, vt)), add(o, mul(o, f1, bb), f2), q}, {y}};
  };
  return op.scan(refs, inputs, body)[0];
}
inline constexpr Fused<Tensor(Ops&, const Wkv4State&, Tensor, Tensor, const Vec&, const Vec&)> wkv4{
    "wkv4", &expand_wkv4};

// One token of v5 and v6, S [H][key][value]: y = (S + diag(u) k v^T)^T r; S = diag(w) S + k v^T.
// w and u are {1, H, N} over keys.
inline ScanStep wkv56_step(Ops& o, Tensor s, Tensor r, Tensor k, Tensor v, Tensor w, Tensor u) {
  const int heads = s.shape.d[0], n = s.shape.d[1];
  const auto over_keys = [&](Tensor x) { return o.reshape(x, {{heads, n, 1}}); };
  const Tensor kv = o.outer(k, v);
  const Tensor y = o.matvec(add(o, s, mul(o, kv, over_keys(u))), r, true);
  return {{add(o, mul(o, s, over_keys(w)), kv)}, {y}};
}

// v5: constant decay and bonus {1, H, N} (v5.0, v5.1: one number per head, repeated).
inline Tensor expand_wkv5(Ops& op, StateRef kv, Tensor r, Tensor k, Tensor v, const Vec& decay,
                          const Vec& bonus) {
  const Tensor inputs[] = {r, k, v};
  const auto body = [&](Ops& o, std::span<const Tensor> state, std::span<const Tensor> in) {
    return wkv56_step(o, state[0], in[0], in[1], in[2], decay.t, bonus.t);
  };
  return op.scan({&kv, 1}, inputs, body)[0];
}
inline constexpr Fused<Tensor(Ops&, StateRef, Tensor, Tensor, Tensor, const Vec&, const Vec&)> wkv5{
    "wkv5", &expand_wkv5};

// v6: the decay w {T, H, N} depends on the token.
inline Tensor expand_wkv6(Ops& op, StateRef kv, Tensor r, Tensor k, Tensor v, Tensor w, const Vec& bonus) {
  const Tensor inputs[] = {r, k, v, w};
  const auto body = [&](Ops& o, std::span<const Tensor> state, std::span<const Tensor> in) {
    return wkv56_step(o, state[0], in[0], in[1], in[2], in[3], bonus.t);
  };
  return op.scan({&kv, 1}, inputs, body)[0];
}
inline constexpr Fused<Tensor(Ops&, StateRef, Tensor, Tensor, Tensor, Tensor, const Vec&)> wkv6{"wkv6",
                                                                                                &expand_wkv6};

// v7, S [H][value][key]: S = S diag(w) + (S a) b^T + v k^T; y = S r.
inline Tensor expand_wkv7(Ops& op, StateRef kv, Tensor r, Tensor w, Tensor k, Tensor v, Tensor a, Tensor b) {
  const Tensor inputs[] = {r, w, k, v, a, b};
  const auto body = [](Ops& o, std::span<const Tensor> state, std::span<const Tensor> in) -> ScanStep {
    const Tensor s = state[0];
    const int heads = s.shape.d[0], n = s.shape.d[2];
    const Tensor erased = o.outer(o.matvec(s, in[4], false), in[5]);
    const Tensor faded = mul(o, s, o.reshape(in[1], {{heads, 1, n}}));
    const Tensor next = add(o, add(o, faded, erased), o.outer(in[3], in[2]));
    return {{next}, {o.matvec(next, in[0], false)}};
  };
  return op.scan({&kv, 1}, inputs, body)[0];
}
inline constexpr Fused<Tensor(Ops&, StateRef, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)> wkv7{
    "wkv7", &expand_wkv7};

// v7: the in-context learning rate a steers how far each key overwrites. kk = l2_norm(k k_k) per head;
// returns the key to write, k (1 + (a - 1) k_a), and the pair that erases, (-kk, kk a).
struct Wkv7Keys {
  Tensor key, erase, write;
};
inline Wkv7Keys expand_wkv7_keys(Ops& op, Tensor k, Tensor a, const Vec& k_k, const Vec& k_a) {
  const Tensor kk = op.norm(mul(op, k, k_k.t), l2_norm_eps, NormKind::l2);
  const Tensor keep = op.affine(mul(op, op.affine(a, 1, -1), k_a.t), 1, 1);
  return {mul(op, k, keep), op.affine(kk, -1, 0), mul(op, kk, a)};
}
inline constexpr Fused<Wkv7Keys(Ops&, Tensor, Tensor, const Vec&, const Vec&)> wkv7_keys{"wkv7_keys",
                                                                                         &expand_wkv7_keys};

// v5, v6: group norm over each head, then the gate {T, 1, D} if there is one (v5.0 has none). {T, H, N} ->
// {T, 1, D}.
inline Tensor expand_group_norm_gate(Ops& op, Tensor y, const Norm& ln_x, Tensor gate) {
  const Tensor flat = merge_heads(op, op.norm(y, group_norm_eps, NormKind::layer));
  const Tensor normed = add(op, mul(op, flat, ln_x.weight.t), ln_x.bias.t);
  return gate ? mul(op, normed, gate) : normed;
}
inline constexpr Fused<Tensor(Ops&, Tensor, const Norm&, Tensor)> group_norm_gate{"group_norm_gate",
                                                                                  &expand_group_norm_gate};

// v7: (group_norm(y) + sum over the head of (r k r_k) * v) * gate. {T, H, N} -> {T, 1, D}; gate {T, 1, D}.
inline Tensor expand_wkv7_out(Ops& op, Tensor y, Tensor r, Tensor k, Tensor v, Tensor gate, const Norm& ln_x,
                              const Vec& r_k) {
  const Tensor normed = group_norm_gate(op, y, ln_x, {});
  const Tensor bonus = mul(op, op.sum(mul(op, mul(op, r, k), r_k.t)), v);
  return mul(op, add(op, normed, merge_heads(op, bonus)), gate);
}
inline constexpr Fused<Tensor(Ops&, Tensor, Tensor, Tensor, Tensor, Tensor, const Norm&, const Vec&)>
    wkv7_out{"wkv7_out", &expand_wkv7_out};

}  // namespace fr
