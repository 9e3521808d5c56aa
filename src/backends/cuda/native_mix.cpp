// Native kernels of core/fused_mix.h: residual add, layer norm, token shift and lerps in one launch.
#include "backends/cuda/cuda_ops.h"
#include "backends/cuda/native.h"
#include "core/fused_mix.h"

namespace fr::cuda {
namespace {

CudaOps& cuda(Ops& op) { return static_cast<CudaOps&>(op); }

// x + pending and its layer norm, before the addresses are known.
struct Normed {
  Operand x, pending, weight, bias, sum;  // pending and sum may be absent
  int n = 0;

  AddNorm at(const Frame& f) const {
    return {n, layer_norm_eps, f.rows(x), f.rows(pending), f.at(weight), f.at(bias), f.out(sum)};
  }
};

// Reads the residual and replaces it by the sum.
Normed normed(CudaOps& op, Residual& r, const Norm& ln) {
  const int n = r.x.shape.d[2];
  FR_CHECK(r.x.shape.d[1] == 1 && ln.weight.t.shape.size() == n && ln.bias.t.shape.size() == n);
  Normed norm{op.use(r.x), op.use(r.pending), op.use(ln.weight.t), op.use(ln.bias.t), {}, n};
  if (r.pending) {
    FR_CHECK(r.pending.shape == r.x.shape && r.pending.extent == r.x.extent);
    const auto [sum, operand] = op.make(r.x.shape, r.x.extent);
    norm.sum = operand;
    r = {sum, {}};
  }
  return norm;
}

Tensor add_norm_kernel(Ops& ops, Residual& r, const Norm& ln) {
  CudaOps& op = cuda(ops);
  const Normed norm = normed(op, r, ln);
  const auto [out, h] = op.make(r.x.shape, r.x.extent);
  op.add([=, h = h, extent = r.x.extent, d0 = r.x.shape.d[0]](const Frame& f) {
    fr::cuda::add_norm(f.stream, f.count(extent, d0), norm.at(f), f.out(h));
  });
  return out;
}

// A norm_mix launch before the addresses are known.
struct Mixed {
  Normed norm;
  std::int64_t block = 0;
  int count = 0;
  std::array<Operand, 6> mix, out;
  Operand h, dx;  // absent unless wanted

  void run(const Frame& f) const {
    NormMix m;
    m.norm = norm.at(f);
    m.block = block;
    m.count = count;
    for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
      m.mix[i] = f.at(mix[i]);
      m.out[i] = f.out(out[i]);
    }
    m.h = f.out(h);
    m.dx = f.out(dx);
    norm_mix(f.stream, f.step, m);
  }
};

template <std::size_t N>
std::array<Tensor, N> norm_mix_kernel(Ops& ops, Residual& r, const Norm& ln, StateRef previous,
                                      const Mixes<N>& mixes) {
  CudaOps& op = cuda(ops);
  FR_CHECK(r.x.extent == Extent::batch);
  Mixed m{normed(op, r, ln), op.use_state(previous), static_cast<int>(N), {}, {}, {}, {}};
  std::array<Tensor, N> out;
  for (std::size_t i = 0; i < N; ++i) {
    m.mix[i] = op.use(mixes[i].t);
    const auto [tensor, operand] = op.make(r.x.shape, Extent::batch);
    m.out[i] = operand;
    out[i] = tensor;
  }
  op.add([m](const Frame& f) { m.run(f); });
  return out;
}

std::array<Tensor, 5> norm_data_mix5_kernel(Ops& ops, Residual& r, const Norm& ln, StateRef previous,
                                            const DataMix& m) {
  CudaOps& op = cuda(ops);
  FR_CHECK(r.x.extent == Extent::batch);
  Mixed mixed{normed(op, r, ln), op.use_state(previous), 1, {op.use(m.maa_x.t)}, {}, {}, {}};
  const auto [x, x_out] = op.make(r.x.shape, Extent::batch);
  const auto [h, h_out] = op.make(r.x.shape, Extent::batch);
  const auto [dx, dx_out] = op.make(r.x.shape, Extent::batch);
  mixed.out[0] = x_out;
  mixed.h = h_out;
  mixed.dx = dx_out;
  op.add([mixed](const Frame& f) { mixed.run(f); });

  const Tensor t = op.linear(x, m.w1, Act::tanh);
  std::array<Tensor, 5> parts, out;
  for (std::size_t i = 0; i < 5; ++i) {
    const int rank = m.w2[i].in;
    parts[i] = op.linear(op.slice(t, static_cast<int>(i) * rank, rank), m.w2[i], Act::none);
  }
  const Operand now = op.use(h), d = op.use(dx);
  std::array<Operand, 5> maa, part, y;
  for (std::size_t i = 0; i < 5; ++i) {
    maa[i] = op.use(m.maa[i].t);
    part[i] = op.use(parts[i]);
    const auto [tensor, operand] = op.make(r.x.shape, Extent::batch);
    out[i] = tensor;
    y[i] = operand;
  }
  op.add([=, n = r.x.shape.d[2]](const Frame& f) {
    DataMixOut last;
    last.n = n;
    last.h = f.rows(now);
    last.dx = f.rows(d);
    for (std::size_t i = 0; i < 5; ++i) {
      last.maa[i] = f.at(maa[i]);
      last.part[i] = f.rows(part[i]);
      last.out[i] = f.out(y[i]);
    }
    data_mix(f.stream, f.step.rows, last);
  });
  return out;
}

}  // namespace

void add_mix_kernels(KernelTable& table) {
  table.set(fr::add_norm, &add_norm_kernel);
  table.set(norm_mix1, &norm_mix_kernel<1>);
  table.set(norm_mix2, &norm_mix_kernel<2>);
  table.set(norm_mix3, &norm_mix_kernel<3>);
  table.set(norm_mix4, &norm_mix_kernel<4>);
  table.set(norm_mix6, &norm_mix_kernel<6>);
  table.set(norm_data_mix5, &norm_data_mix5_kernel);
}

}  // namespace fr::cuda
