// Matrix products: how the work of one falls into items, dense or with the zero inputs of a squared ReLU left out.
#include <algorithm>

#include "backends/cpu/cpu_ops.h"

namespace fr::cpu {
namespace {

constexpr int most_sparse_rows = 16;  // with more rows, hardly an input is zero in all
constexpr std::int64_t tile_floats = std::int64_t{tile_rows} * panel_cols;

struct ProductCommand {
  const Kernels& simd;
  const PackedMatrix& m;
  Epilogue act;
  Extent extent;
  int d0;
  Operand x, bias, gate, y;

  int rows(const Frame& f) const { return f.count(extent, d0); }

  Product fill(const Frame& f, const Worker& worker, int first_row, int count) const {
    Product p{};
    p.type = m.type;
    p.w = m.data;
    p.ld = m.ld;
    p.panel_stride = m.panel_stride;
    p.in = m.in;
    p.x = f.at(x, first_row);
    p.ldx = x.stride;
    p.rows = count;
    p.bias = bias ? f.at(bias) : nullptr;
    p.act = act;
    p.gate = gate ? f.at(gate, first_row) : nullptr;
    p.ld_gate = gate.stride;
    p.y = f.at(y, first_row);
    p.ldy = y.stride;
    p.tile = worker.scratch;
    return p;
  }

  // Dense: an item is one panel times one block of rows. One block unless there are too few panels for the workers.
  int row_blocks(const Frame& f) const {
    constexpr int least_rows = 48;
    const int enough = (4 * f.workers + m.panels() - 1) / m.panels();
    return std::clamp(rows(f) / least_rows, 1, enough);
  }
  int dense_items(const Frame& f) const { return rows(f) == 0 ? 0 : m.panels() * row_blocks(f); }
  void run_dense(const Frame& f, const Worker& worker, int begin, int end) const {
    const int all = rows(f), blocks = row_blocks(f), panels = m.panels();
    for (int block = begin / panels; block * panels < end; ++block) {
      const int first_row = all * block / blocks, last_row = all * (block + 1) / blocks;
      const int first = std::max(begin - block * panels, 0), last = std::min(end - block * panels, panels);
      simd.product(fill(f, worker, first_row, last_row - first_row), first, last);
    }
  }

  // Sparse: an item is a range of columns for all rows; every worker finds the nonzero inputs for itself.
  bool sparse(const Frame& f) const { return m.sparse && rows(f) <= most_sparse_rows; }
  void run_sparse(const Frame& f, const Worker& worker, int begin, int end) const {
    const int first = m.panels() * begin / f.workers, last = m.panels() * end / f.workers;
    if (first == last) return;
    Product p = fill(f, worker, 0, rows(f));
    float* packed = worker.scratch + tile_floats;
    int* index = reinterpret_cast<int*>(packed + std::int64_t{p.rows} * m.in);
    const int count = simd.nonzero(p.x, p.ldx, p.rows, m.in, index);
    if (p.rows > 1 && count > m.in / 2) return simd.product(p, first, last);
    for (int t = 0; t < p.rows; ++t) {
      for (int i = 0; i < count; ++i) packed[std::int64_t{t} * count + i] = p.x[t * p.ldx + index[i]];
    }
    p.x = packed;
    p.ldx = count;
    p.in = count;
    p.index = index;
    (p.rows == 1 ? simd.sparse_row : simd.product)(p, first, last);
  }

  int items(const Frame& f) const {
    if (!sparse(f)) return dense_items(f);
    return rows(f) == 0 ? 0 : f.workers;
  }
  void run(const Frame& f, const Worker& worker, int begin, int end) const {
    sparse(f) ? run_sparse(f, worker, begin, end) : run_dense(f, worker, begin, end);
  }
};

}  // namespace

Tensor product(CpuOps& op, Tensor x, const Mat& w, Act act, Tensor bias, Tensor gate) {
  const PackedMatrix& m = op.matrix(w);
  FR_CHECK(m.data != nullptr && x.shape.d[1] == 1 && x.shape.d[2] == m.in);
  FR_CHECK(x.extent != Extent::one || x.shape.d[0] == 1);  // rows of other tensors are not padded to panels
  const Operand from = op.use(x), add_to = op.use(bias), times = op.use(gate);
  const auto [out, y] = op.make({{1, 1, m.out}}, x.extent);
  op.want_scratch(tile_floats + (m.sparse ? std::int64_t{most_sparse_rows + 1} * m.in : 0));
  const ProductCommand command{op.simd(), m, static_cast<Epilogue>(act), x.extent, 1, from, add_to, times, y};
  op.add([command](const Frame& f) { return command.items(f); },
         [command](const Frame& f, const Worker& worker, int begin, int end) { command.run(f, worker, begin, end); });
  return out;
}

}  // namespace fr::cpu
