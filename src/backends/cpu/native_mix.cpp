// Native kernels of core/fused_mix.h: residual add, layer norm, token shift and lerps in one pass over each
// row.
#include <algorithm>
#include <utility>
#include <vector>

#include "backends/cpu/cpu_ops.h"
#include "backends/cpu/native.h"
#include "core/fused_mix.h"

namespace fr::cpu {
namespace {

CpuOps& cpu(Ops& op) { return static_cast<CpuOps&>(op); }

// x + pending and its layer norm, row by row.
struct AddNorm {
  const Kernels& simd;
  Operand x, pending, weight, bias, sum;  // pending and sum may be absent
  int n;

  void row(const Frame& f, int row, float* h) const { simd_row(f, row, sum ? f.at(sum, row) : nullptr, h); }
  // The same without storing the sum: for a row that another item stores.
  void again(const Frame& f, int row, float* h) const { simd_row(f, row, nullptr, h); }

 private:
  void simd_row(const Frame& f, int row, float* total, float* h) const {
    simd.add_norm(f.at(x, row), pending ? f.at(pending, row) : nullptr, f.at(weight), f.at(bias),
                  layer_norm_eps, n, total, h);
  }
};

// Reads the residual and replaces it by the sum.
AddNorm add_norm_of(CpuOps& op, Residual& r, const Norm& ln) {
  FR_CHECK(r.x.shape.d[1] == 1 && ln.weight.t.shape.d[2] == r.x.shape.d[2]);
  AddNorm norm{op.simd(),         op.use(r.x), op.use(r.pending), op.use(ln.weight.t),
               op.use(ln.bias.t), no_operand,  r.x.shape.d[2]};
  if (r.pending) {
    FR_CHECK(r.pending.shape == r.x.shape && r.pending.extent == r.x.extent);
    const auto [sum, operand] = op.make(r.x.shape, r.x.extent);
    norm.sum = operand;
    r = {sum, {}};
  }
  return norm;
}

Tensor add_norm_kernel(Ops& ops, Residual& r, const Norm& ln) {
  CpuOps& op = cpu(ops);
  const AddNorm norm = add_norm_of(op, r, ln);
  const auto [out, h] = op.make(r.x.shape, r.x.extent);
  op.add(CpuOps::each_row(out), [norm, h = h](const Frame& f, const Worker&, int begin, int end) {
    for (int row = begin; row < end; ++row) norm.row(f, row, f.at(h, row));
  });
  return out;
}

// An item is a row. Row t needs the norm of row t - 1, which it takes from the item before if that was its
// own, else computes again. The item of a sequence's first row, which alone reads the old state, also writes
// the new one.
struct NormMixCommand {
  AddNorm norm;
  std::int64_t state;
  std::vector<Operand> mix, out;
  Operand h, dx;  // absent unless wanted

  void run(const Frame& f, const Worker& worker, int begin, int end) const {
    float* now = worker.scratch;
    float* before = worker.scratch + row_stride(norm.n);
    std::vector<const float*> weights;
    for (const Operand& m : mix) weights.push_back(f.at(m));
    std::vector<float*> results(out.size());
    for (int row = begin; row < end; ++row, std::swap(now, before)) {
      const Sequence& s = f.sequence(row);
      float* stored = f.state(s.slot, state);
      norm.row(f, row, now);
      if (row > s.begin && row == begin) norm.again(f, row - 1, before);
      for (std::size_t i = 0; i < out.size(); ++i) results[i] = f.at(out[i], row);
      norm.simd.mix(now, row == s.begin ? stored : before, weights.data(), static_cast<int>(out.size()),
                    norm.n, results.data(), dx ? f.at(dx, row) : nullptr);
      if (h) std::copy_n(now, norm.n, f.at(h, row));
      if (row > s.begin) continue;
      if (s.count == 1) {
        std::copy_n(now, norm.n, stored);
      } else {
        norm.again(f, s.begin + s.count - 1, stored);
      }
    }
  }
};

void record_norm_mix(CpuOps& op, NormMixCommand command, Extent extent) {
  op.want_scratch(2 * row_stride(command.norm.n));
  op.add(CpuOps::each_row(extent, 1),
         [command = std::move(command)](const Frame& f, const Worker& w, int begin, int end) {
           command.run(f, w, begin, end);
         });
}

template <std::size_t N>
std::array<Tensor, N> norm_mix_kernel(Ops& ops, Residual& r, const Norm& ln, StateRef previous,
                                      const Mixes<N>& mixes) {
  CpuOps& op = cpu(ops);
  FR_CHECK(r.x.extent == Extent::batch);
  NormMixCommand command{add_norm_of(op, r, ln), op.use_state(previous), {}, {}, no_operand, no_operand};
  std::array<Tensor, N> out;
  for (std::size_t i = 0; i < N; ++i) {
    command.mix.push_back(op.use(mixes[i].t));
    const auto [tensor, operand] = op.make(r.x.shape, Extent::batch);
    command.out.push_back(operand);
    out[i] = tensor;
  }
  record_norm_mix(op, std::move(command), Extent::batch);
  return out;
}

std::array<Tensor, 5> norm_data_mix5_kernel(Ops& ops, Residual& r, const Norm& ln, StateRef previous,
                                            const DataMix& m) {
  CpuOps& op = cpu(ops);
  FR_CHECK(r.x.extent == Extent::batch);
  const int n = r.x.shape.d[2];
  NormMixCommand command{add_norm_of(op, r, ln), op.use_state(previous), {op.use(m.maa_x.t)}, {}, {}, {}};
  const auto [x, x_operand] = op.make(r.x.shape, Extent::batch);
  const auto [h, h_operand] = op.make(r.x.shape, Extent::batch);
  const auto [dx, dx_operand] = op.make(r.x.shape, Extent::batch);
  command.out = {x_operand};
  command.h = h_operand;
  command.dx = dx_operand;
  record_norm_mix(op, std::move(command), Extent::batch);

  const Tensor t = op.linear(x, m.w1, Act::tanh);
  std::array<Tensor, 5> out;
  for (std::size_t i = 0; i < 5; ++i) {
    const int rank = m.w2[i].in;
    const Tensor part = op.linear(op.slice(t, static_cast<int>(i) * rank, rank), m.w2[i], Act::none);
    const Operand now = op.use(h), d = op.use(dx), maa = op.use(m.maa[i].t), p = op.use(part);
    const auto [mixed, y] = op.make(r.x.shape, Extent::batch);
    op.add(CpuOps::each_row(mixed),
           [=, y = y, &simd = op.simd()](const Frame& f, const Worker&, int begin, int end) {
             for (int row = begin; row < end; ++row) {
               simd.data_mix(f.at(now, row), f.at(d, row), f.at(maa), f.at(p, row), n, f.at(y, row));
             }
           });
    out[i] = mixed;
  }
  return out;
}

}  // namespace

void add_mix_kernels(KernelTable& table) {
  table.set(add_norm, &add_norm_kernel);
  table.set(norm_mix1, &norm_mix_kernel<1>);
  table.set(norm_mix2, &norm_mix_kernel<2>);
  table.set(norm_mix3, &norm_mix_kernel<3>);
  table.set(norm_mix4, &norm_mix_kernel<4>);
  table.set(norm_mix6, &norm_mix_kernel<6>);
  table.set(norm_data_mix5, &norm_data_mix5_kernel);
}

}  // namespace fr::cpu
