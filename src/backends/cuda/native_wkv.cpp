// Native kernels of core/fused_wkv.h: recurrences and what surrounds them.
#include "backends/cuda/cuda_ops.h"
#include "backends/cuda/native.h"
#include "core/fused_wkv.h"

namespace fr::cuda {
namespace {

CudaOps& cuda(Ops& op) { return static_cast<CudaOps&>(op); }

Tensor wkv4_kernel(Ops& ops, const Wkv4State& s, Tensor k, Tensor v, const Vec& decay, const Vec& bonus) {
  CudaOps& op = cuda(ops);
  const int n = k.shape.d[2];
  const Operand key = op.use(k), value = op.use(v), w = op.use(decay.t), u = op.use(bonus.t);
  const std::int64_t aa = op.use_state(s.aa), bb = op.use_state(s.bb), pp = op.use_state(s.pp);
  const auto [out, y] = op.make(k.shape, Extent::batch);
  op.add([=, y = y](const Frame& f) {
    const Wkv4 args{n, f.rows(key), f.rows(value), f.at(w), f.at(u), aa, bb, pp, f.out(y)};
    fr::cuda::wkv4(f.stream, f.step, args);
  });
  return out;
}

// v5 and v6: w is one decay {1, H, N} for all tokens (stride 0) or one per token.
Tensor wkv56_launch(CudaOps& op, StateRef kv, Tensor r, Tensor k, Tensor v, Tensor w, const Vec& bonus) {
  const int heads = k.shape.d[1], n = k.shape.d[2];
  const Operand rr = op.use(r), kk = op.use(k), vv = op.use(v), ww = op.use(w), u = op.use(bonus.t);
  const std::int64_t block = op.use_state(kv);
  const auto [out, y] = op.make(k.shape, Extent::batch);
  op.add([=, y = y](const Frame& f) {
    const Wkv56 args{heads, n, f.rows(rr), f.rows(kk), f.rows(vv), f.rows(ww), f.at(u), block, f.out(y)};
    wkv56(f.stream, f.step, args);
  });
  return out;
}

Tensor wkv5_kernel(Ops& op, StateRef kv, Tensor r, Tensor k, Tensor v, const Vec& decay, const Vec& bonus) {
  return wkv56_launch(cuda(op), kv, r, k, v, decay.t, bonus);
}

Tensor wkv6_kernel(Ops& op, StateRef kv, Tensor r, Tensor k, Tensor v, Tensor w, const Vec& bonus) {
  return wkv56_launch(cuda(op), kv, r, k, v, w, bonus);
}

Tensor wkv7_kernel(Ops& ops, StateRef kv, Tensor r, Tensor w, Tensor k, Tensor v, Tensor a, Tensor b) {
  CudaOps& op = cuda(ops);
  const int heads = k.shape.d[1], n = k.shape.d[2];
  const Operand rr = op.use(r), ww = op.use(w), kk = op.use(k), vv = op.use(v), aa = op.use(a),
                bb = op.use(b);
  const std::int64_t block = op.use_state(kv);
  const auto [out, y] = op.make(k.shape, Extent::batch);
  op.add([=, y = y](const Frame& f) {
    const Wkv7 args{heads,      n,          f.rows(rr), f.rows(ww), f.rows(kk),
                    f.rows(vv), f.rows(aa), f.rows(bb), block,      f.out(y)};
    fr::cuda::wkv7(f.stream, f.step, args);
  });
  return out;
}

Wkv7Keys wkv7_keys_kernel(Ops& ops, Tensor k, Tensor a, const Vec& k_k, const Vec& k_a) {
  CudaOps& op = cuda(ops);
  const Operand raw = op.use(k), rate = op.use(a), kk = op.use(k_k.t), ka = op.use(k_a.t);
  const auto [key, key_y] = op.make(k.shape, k.extent);
  const auto [erase, erase_y] = op.make(k.shape, k.extent);
  const auto [write, write_y] = op.make(k.shape, k.extent);
  op.add([=, shape = k.shape, extent = k.extent, key_y = key_y, erase_y = erase_y,
          write_y = write_y](const Frame& f) {
    const Wkv7KeysArgs args{shape.d[1], shape.d[2], l2_norm_eps,  f.rows(raw),    f.rows(rate),
                            f.at(kk),   f.at(ka),   f.out(key_y), f.out(erase_y), f.out(write_y)};
    fr::cuda::wkv7_keys(f.stream, f.count(extent, shape.d[0]), args);
  });
  return {key, erase, write};
}

struct Bonus {
  Tensor r, k, v, r_k;
};
// Group norm, v7's bonus if there is one, gate if there is one.
Tensor head_out_launch(CudaOps& op, Tensor y, const Norm& ln_x, Tensor gate, const Bonus& bonus) {
  const int heads = y.shape.d[1], n = y.shape.d[2];
  const Operand from = op.use(y), weight = op.use(ln_x.weight.t), bias = op.use(ln_x.bias.t),
                g = op.use(gate);
  const Operand r = op.use(bonus.r), k = op.use(bonus.k), v = op.use(bonus.v), r_k = op.use(bonus.r_k);
  const auto [out, to] = op.make({{y.shape.d[0], 1, heads * n}}, y.extent);
  op.add([=, to = to, extent = y.extent, d0 = y.shape.d[0]](const Frame& f) {
    const HeadOut args{heads,     n,         group_norm_eps, f.rows(from), f.at(weight),  f.at(bias),
                       f.rows(g), f.rows(r), f.rows(k),      f.rows(v),    f.rows(r_k).p, f.out(to)};
    head_out(f.stream, f.count(extent, d0), args);
  });
  return out;
}

Tensor group_norm_gate_kernel(Ops& op, Tensor y, const Norm& ln_x, Tensor gate) {
  return head_out_launch(cuda(op), y, ln_x, gate, {});
}

Tensor wkv7_out_kernel(Ops& op, Tensor y, Tensor r, Tensor k, Tensor v, Tensor gate, const Norm& ln_x,
                       const Vec& r_k) {
  return head_out_launch(cuda(op), y, ln_x, gate, {r, k, v, r_k.t});
}

}  // namespace

void add_wkv_kernels(KernelTable& table) {
  table.set(fr::wkv4, &wkv4_kernel);
  table.set(wkv5, &wkv5_kernel);
  table.set(wkv6, &wkv6_kernel);
  table.set(fr::wkv7, &wkv7_kernel);
  table.set(fr::wkv7_keys, &wkv7_keys_kernel);
  table.set(group_norm_gate, &group_norm_gate_kernel);
  table.set(wkv7_out, &wkv7_out_kernel);
}

}  // namespace fr::cuda
