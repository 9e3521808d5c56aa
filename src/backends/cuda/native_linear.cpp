// Native kernels of core/fused_linear.h: products with fused epilogues.
#include "backends/cuda/cuda_ops.h"
#include "backends/cuda/native.h"
#include "core/fused_linear.h"

namespace fr::cuda {
namespace {

CudaOps& cuda(Ops& op) { return static_cast<CudaOps&>(op); }

Tensor low_rank_kernel(Ops& op, Tensor x, const LowRank& m) {
  FR_CHECK(!m.bias || !m.up.bias);
  const Tensor inner = op.linear(x, m.down, m.inner);
  return cuda(op).product(inner, m.up, m.outer, m.bias ? m.bias.t : m.up.bias.t, {});
}

Tensor lerp_kernel(Ops& ops, Tensor a, Tensor b, Tensor t) {
  CudaOps& op = cuda(ops);
  FR_CHECK(a.shape == b.shape && a.shape == t.shape && a.extent == b.extent && a.extent == t.extent);
  const Operand from = op.use(a), to = op.use(b), weight = op.use(t);
  const auto [out, y] = op.make(a.shape, a.extent);
  op.add([=, y = y, extent = a.extent, shape = a.shape](const Frame& f) {
    fr::cuda::lerp(f.stream, f.count(extent, shape.d[0]), shape.d[1] * shape.d[2], f.rows(from), f.rows(to),
                   f.rows(weight), f.out(y));
  });
  return out;
}

// The matrices carry their roles: the product with `value` may leave out what meets a zero.
Tensor channel_mix_kernel(Ops& op, Tensor xk, const Mat& key, const Mat& value) {
  return op.linear(op.linear(xk, key, Act::relu2), value);
}

Tensor channel_mix_gated_kernel(Ops& op, Tensor xk, Tensor xr, const Mat& key, const Mat& value,
                                const Mat& receptance) {
  const Tensor gate = op.linear(xr, receptance, Act::sigmoid);
  const Tensor hidden = op.linear(xk, key, Act::relu2);
  return cuda(op).product(hidden, value, Act::none, value.bias.t, gate);
}

}  // namespace

void add_linear_kernels(KernelTable& table) {
  table.set(fr::low_rank, &low_rank_kernel);
  table.set(fr::lerp, &lerp_kernel);
  table.set(fr::channel_mix, &channel_mix_kernel);
  table.set(fr::channel_mix_gated, &channel_mix_gated_kernel);
}

}  // namespace fr::cuda
