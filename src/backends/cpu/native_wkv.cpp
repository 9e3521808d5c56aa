// Native kernels of core/fused_wkv.h: recurrences (an item is one head of one sequence, for all its tokens)
// and what surrounds them (an item is one head of one token).
#include <algorithm>

#include "backends/cpu/cpu_ops.h"
#include "backends/cpu/native.h"
#include "core/fused_wkv.h"

namespace fr::cpu {
namespace {

CpuOps& cpu(Ops& op) { return static_cast<CpuOps&>(op); }

CpuOps::Items per_sequence(int parts) {
  return [parts](const Frame& f) { return parts * static_cast<int>(f.batch->sequences.size()); };
}
CpuOps::Items per_head(Tensor x) {
  return [extent = x.extent, d0 = x.shape.d[0], heads = x.shape.d[1]](const Frame& f) {
    return heads * f.count(extent, d0);
  };
}
// run(sequence, part) for the items of per_sequence(parts).
template <class F>
void each_part(const Frame& f, int parts, int begin, int end, F run) {
  for (int i = begin; i < end; ++i) run(f.batch->sequences[static_cast<std::size_t>(i / parts)], i % parts);
}

Tensor wkv4_kernel(Ops& ops, const Wkv4State& s, Tensor k, Tensor v, const Vec& decay, const Vec& bonus) {
  CpuOps& op = cpu(ops);
  constexpr int channels = 64;  // per item
  const int n = k.shape.d[2], parts = (n + channels - 1) / channels;
  const Operand key = op.use(k), value = op.use(v), w = op.use(decay.t), u = op.use(bonus.t);
  const std::int64_t aa = op.use_state(s.aa), bb = op.use_state(s.bb), pp = op.use_state(s.pp);
  const auto [out, y] = op.make(k.shape, Extent::batch);
  op.add(per_sequence(parts),
         [=, y = y, &simd = op.simd()](const Frame& f, const Worker&, int begin, int end) {
           each_part(f, parts, begin, end, [&](const Sequence& q, int part) {
             const int c = part * channels, count = std::min(channels, n - c);
             for (int row = q.begin; row < q.begin + q.count; ++row) {
               simd.wkv4(f.at(key, row) + c, f.at(value, row) + c, f.at(w) + c, f.at(u) + c, count,
                         f.state(q.slot, aa) + c, f.state(q.slot, bb) + c, f.state(q.slot, pp) + c,
                         f.at(y, row) + c);
             }
           });
         });
  return out;
}

// v5 and v6: w is one decay {1, H, N} for all tokens (stride 0) or one per token.
Tensor wkv56(CpuOps& op, StateRef kv, Tensor r, Tensor k, Tensor v, Tensor w, const Vec& bonus) {
  const int heads = k.shape.d[1], n = k.shape.d[2];
  const Operand rr = op.use(r), kk = op.use(k), vv = op.use(v), ww = op.use(w), u = op.use(bonus.t);
  const std::int64_t block = op.use_state(kv);
  const auto [out, y] = op.make(k.shape, Extent::batch);
  op.add(per_sequence(heads),
         [=, y = y, &simd = op.simd()](const Frame& f, const Worker&, int begin, int end) {
           each_part(f, heads, begin, end, [&](const Sequence& q, int head) {
             const int c = head * n;
             float* state = f.state(q.slot, block) + std::int64_t{c} * n;
             for (int row = q.begin; row < q.begin + q.count; ++row) {
               simd.wkv56(f.at(rr, row) + c, f.at(kk, row) + c, f.at(vv, row) + c, f.at(ww, row) + c,
                          f.at(u) + c, n, state, f.at(y, row) + c);
             }
           });
         });
  return out;
}

Tensor wkv5_kernel(Ops& op, StateRef kv, Tensor r, Tensor k, Tensor v, const Vec& decay, const Vec& bonus) {
  return wkv56(cpu(op), kv, r, k, v, decay.t, bonus);
}

Tensor wkv6_kernel(Ops& op, StateRef kv, Tensor r, Tensor k, Tensor v, Tensor w, const Vec& bonus) {
  return wkv56(cpu(op), kv, r, k, v, w, bonus);
}

Tensor wkv7_kernel(Ops& ops, StateRef kv, Tensor r, Tensor w, Tensor k, Tensor v, Tensor a, Tensor b) {
  CpuOps& op = cpu(ops);
  const int heads = k.shape.d[1], n = k.shape.d[2];
  const Operand rr = op.use(r), ww = op.use(w), kk = op.use(k), vv = op.use(v), aa = op.use(a),
                bb = op.use(b);
  const std::int64_t block = op.use_state(kv);
  const auto [out, y] = op.make(k.shape, Extent::batch);
  op.add(
      per_sequence(heads), [=, y = y, &simd = op.simd()](const Frame& f, const Worker&, int begin, int end) {
        each_part(f, heads, begin, end, [&](const Sequence& q, int head) {
          const int c = head * n;
          float* state = f.state(q.slot, block) + std::int64_t{c} * n;
          for (int row = q.begin; row < q.begin + q.count; ++row) {
            const Wkv7Token token{f.at(rr, row) + c, f.at(ww, row) + c, f.at(kk, row) + c, f.at(vv, row) + c,
                                  f.at(aa, row) + c, f.at(bb, row) + c, f.at(y, row) + c};
            simd.wkv7(token, n, state);
          }
        });
      });
  return out;
}

Wkv7Keys wkv7_keys_kernel(Ops& ops, Tensor k, Tensor a, const Vec& k_k, const Vec& k_a) {
  CpuOps& op = cpu(ops);
  const int heads = k.shape.d[1], n = k.shape.d[2];
  const Operand raw = op.use(k), rate = op.use(a), kk = op.use(k_k.t), ka = op.use(k_a.t);
  const auto [key, key_y] = op.make(k.shape, k.extent);
  const auto [erase, erase_y] = op.make(k.shape, k.extent);
  const auto [write, write_y] = op.make(k.shape, k.extent);
  op.add(per_head(k), [=, &simd = op.simd(), key_y = key_y, erase_y = erase_y, write_y = write_y](
                          const Frame& f, const Worker&, int begin, int end) {
    for (int i = begin; i < end; ++i) {
      const int row = i / heads, c = i % heads * n;
      simd.wkv7_keys(f.at(raw, row) + c, f.at(rate, row) + c, f.at(kk) + c, f.at(ka) + c, l2_norm_eps, n,
                     f.at(key_y, row) + c, f.at(erase_y, row) + c, f.at(write_y, row) + c);
    }
  });
  return {key, erase, write};
}

struct Bonus {
  Tensor r, k, v, r_k;
};
// Group norm, v7's bonus if there is one, gate if there is one.
Tensor head_out(CpuOps& op, Tensor y, const Norm& ln_x, Tensor gate, const Bonus& bonus) {
  const int heads = y.shape.d[1], n = y.shape.d[2];
  const Operand from = op.use(y), weight = op.use(ln_x.weight.t), bias = op.use(ln_x.bias.t),
                g = op.use(gate);
  const Operand r = op.use(bonus.r), k = op.use(bonus.k), v = op.use(bonus.v), r_k = op.use(bonus.r_k);
  const auto [out, to] = op.make({{y.shape.d[0], 1, heads * n}}, y.extent);
  op.add(per_head(y), [=, to = to, &simd = op.simd()](const Frame& f, const Worker&, int begin, int end) {
    for (int i = begin; i < end; ++i) {
      const int row = i / heads, c = i % heads * n;
      const auto part = [&](Operand x) -> const float* { return x ? f.at(x, row) + c : nullptr; };
      const HeadOut head{part(from), part(weight), part(bias), part(g),          part(r),
                         part(k),    part(v),      part(r_k),  f.at(to, row) + c};
      simd.head_out(head, group_norm_eps, n);
    }
  });
  return out;
}

Tensor group_norm_gate_kernel(Ops& op, Tensor y, const Norm& ln_x, Tensor gate) {
  return head_out(cpu(op), y, ln_x, gate, {});
}

Tensor wkv7_out_kernel(Ops& op, Tensor y, Tensor r, Tensor k, Tensor v, Tensor gate, const Norm& ln_x,
                       const Vec& r_k) {
  return head_out(cpu(op), y, ln_x, gate, {r, k, v, r_k.t});
}

}  // namespace

void add_wkv_kernels(KernelTable& table) {
  table.set(wkv4, &wkv4_kernel);
  table.set(wkv5, &wkv5_kernel);
  table.set(wkv6, &wkv6_kernel);
  table.set(wkv7, &wkv7_kernel);
  table.set(wkv7_keys, &wkv7_keys_kernel);
  table.set(group_norm_gate, &group_norm_gate_kernel);
  table.set(wkv7_out, &wkv7_out_kernel);
}

}  // namespace fr::cpu
