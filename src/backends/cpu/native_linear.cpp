// Native kernels of core/fused_linear.h: products with fused epilogues.
#include "backends/cpu/cpu_ops.h"
#include "backends/cpu/native.h"
#include "core/fused_linear.h"

namespace fr::cpu {
namespace {

CpuOps& cpu(Ops& op) { return static_cast<CpuOps&>(op); }

Tensor low_rank_kernel(Ops& op, Tensor x, const LowRank& m) {
  FR_CHECK(!m.bias || !m.up.bias);
  const Tensor inner = op.linear(x, m.down, m.inner);
  return product(cpu(op), inner, m.up, m.outer, m.bias ? m.bias.t : m.up.bias.t, {});
}

Tensor lerp_kernel(Ops& ops, Tensor a, Tensor b, Tensor t) {
  CpuOps& op = cpu(ops);
  FR_CHECK(a.shape == b.shape && a.shape == t.shape && a.extent == b.extent && a.extent == t.extent);
  const Operand from = op.use(a), to = op.use(b), weight = op.use(t);
  const auto [out, y] = op.make(a.shape, a.extent);
  const int n = a.shape.d[1] * a.shape.d[2];
  op.add(CpuOps::each_row(a),
         [=, y = y, &simd = op.simd()](const Frame& f, const Worker&, int begin, int end) {
           for (int row = begin; row < end; ++row)
             simd.lerp(f.at(from, row), f.at(to, row), f.at(weight, row), n, f.at(y, row));
         });
  return out;
}

// The matrices carry their roles: the product with `value` leaves out what meets a zero.
Tensor channel_mix_kernel(Ops& op, Tensor xk, const Mat& key, const Mat& value) {
  return op.linear(op.linear(xk, key, Act::relu2), value);
}

Tensor channel_mix_gated_kernel(Ops& op, Tensor xk, Tensor xr, const Mat& key, const Mat& value,
                                const Mat& receptance) {
  const Tensor gate = op.linear(xr, receptance, Act::sigmoid);
  const Tensor hidden = op.linear(xk, key, Act::relu2);
  return product(cpu(op), hidden, value, Act::none, value.bias.t, gate);
}

}  // namespace

void add_linear_kernels(KernelTable& table) {
  table.set(low_rank, &low_rank_kernel);
  table.set(lerp, &lerp_kernel);
  table.set(channel_mix, &channel_mix_kernel);
  table.set(channel_mix_gated, &channel_mix_gated_kernel);
}

}  // namespace fr::cpu
