// Matrix products: how the work of one falls into items, and when zero inputs are left out.
#include <algorithm>

#include "backends/cpu/cpu_ops.h"

namespace fr::cpu {
namespace {

// In which form a product takes its inputs.
enum class Form : std::uint8_t { floats, codes, tiles };

// What decides it, and whether weights that meet zeros are left out: the number of rows, and what the kernels
// have for the matrix.
struct Forms {
  Forms(const Kernels& simd, const PackedMatrix& m)
      : sparse_share(simd.sparse_share),
        most_skipping(m.type == WeightType::q8_0 ? 6.5 : 3),
        coded(simd.coded != nullptr && m.type >= WeightType::q8_0),
        least_tiled(least_rows(simd.tiles, m)) {}
  Form of(int rows) const { return rows >= least_tiled ? Form::tiles : coded ? Form::codes : Form::floats; }
  bool tiled() const { return least_tiled < never; }
  bool prepares() const { return coded || tiled(); }
  // Few rows wait for memory, which leaving out weights saves; many wait for arithmetic. rows_used: how many
  // rows, if all their inputs counted, would have as many that are not zero.
  bool skips(int rows, double rows_used) const {
    if (of(rows) == Form::tiles) return false;
    if (of(rows) == Form::codes) return rows + 1.5 * rows_used < most_skipping;
    return rows == 1 || rows_used < sparse_share * (rows + 2);
  }

  double sparse_share;
  double most_skipping;  // measured on Zen 4 with AVX2 and VNNI: reading all takes longer with larger codes
  bool coded;
  int least_tiled;  // rows from which on it pays to make tiles of the weights

 private:
  static int least_rows(const TileKernels* tiles, const PackedMatrix& m) {
    if (tiles == nullptr || m.type == WeightType::f32) return never;
    const int least = m.type == WeightType::bf16  ? tiles->least_bf16
                      : m.type == WeightType::f16 ? tiles->least_f16
                                                  : tiles->least_blocks;
    return m.sparse && least < never ? tiles->least_sparse : least;
  }
};

// Rows of inputs that stand together.
int height(const Kernels& simd, Form form) {
  return form == Form::tiles ? 16 : form == Form::codes ? simd.coded->height : 1;
}

// An item is some panels times one block of rows.
struct ProductCommand {
  const Kernels& simd;
  const PackedMatrix& m;
  Epilogue act;
  Extent extent;
  Operand x, bias, gate, y;
  Operand nonzero;  // lists of the inputs that are not zero; absent: they are not looked for
  Forms forms;
  Operand prepared;  // x in the form that the number of rows asks for; absent: it is always x itself

  int rows(const Frame& f) const { return f.count(extent); }
  // Panels per item: four stream better than one, and rows of a sparse matrix should be read from one end of
  // their group to the other; but there must be work for all.
  int unit(const Frame& f) const { return m.sparse ? m.group : m.panels >= 16 * f.workers ? 4 : 1; }
  int units(const Frame& f) const { return (m.panels + unit(f) - 1) / unit(f); }
  // One block of rows unless there are too few panels for the workers.
  int row_blocks(const Frame& f) const {
    constexpr int least_rows = 48;
    const int enough = (4 * f.workers + units(f) - 1) / units(f);
    return std::clamp(rows(f) / least_rows, 1, enough);
  }
  // Where row block i begins; tiles go two by two.
  int row_begin(const Frame& f, int i) const {
    const int begin = static_cast<int>(std::int64_t{rows(f)} * i / row_blocks(f));
    const Form form = forms.of(rows(f));
    const int step = height(simd, form) * (form == Form::tiles ? 2 : 1);
    return i == row_blocks(f) ? begin : begin / step * step;
  }
  int items(const Frame& f) const { return rows(f) == 0 ? 0 : units(f) * row_blocks(f); }

  const int* list(const Frame& f, int row) const { return reinterpret_cast<const int*>(f.at(nonzero, row)); }
  // Whether weights are left out. Depends on the whole batch, but both ways give the same bits.
  bool sparse(const Frame& f) const {
    if (!nonzero || !forms.skips(rows(f), 0)) return false;
    std::int64_t count = 0;
    for (int row = 0; row < rows(f); ++row) count += *list(f, row);
    return forms.skips(rows(f), static_cast<double>(count) / m.in);
  }

  Product fill(const Frame& f, const Worker& worker, int first_row, int count) const {
    return {.type = m.type,
            .w = m.data,
            .panels = m.panels,
            .group = m.group,
            .in = m.in,
            .x = f.at(x, first_row),
            .ldx = x.stride,
            .rows = count,
            .bias = bias ? f.at(bias) : nullptr,
            .act = act,
            .gate = gate ? f.at(gate, first_row) : nullptr,
            .ld_gate = gate.stride,
            .y = f.at(y, first_row),
            .ldy = y.stride,
            .tile = worker.scratch,
            .nonzero = nonzero ? list(f, first_row) : nullptr,
            .ld_nonzero = nonzero.stride,
            .codes = prepared ? reinterpret_cast<const char*>(f.at(prepared, first_row)) : nullptr,
            .ld_codes = prepared.stride * static_cast<std::ptrdiff_t>(sizeof(float))};
  }

  void run(const Frame& f, const Worker& worker, int begin, int end) const {
    const Form form = forms.of(rows(f));
    const bool skips = sparse(f);
    const auto kernel = form == Form::tiles   ? simd.tiles->product
                        : form == Form::codes ? (skips ? simd.coded->rows_product : simd.coded->product)
                        : skips               ? simd.sparse_product
                                              : simd.product;
    const int each = units(f);
    for (int block = begin / each; block * each < end; ++block) {
      const int first_row = row_begin(f, block), last_row = row_begin(f, block + 1);
      const int first = std::max(begin - block * each, 0), last = std::min(end - block * each, each);
      kernel(fill(f, worker, first_row, last_row - first_row), first * unit(f),
             std::min(last * unit(f), m.panels));
    }
  }
};

// The lists for a product that may leave out zeros, a row per row of x. Where it will not, zeros are only
// counted.
Tensor list_nonzero(CpuOps& op, Tensor x, const Forms& forms) {
  const int n = x.shape.d[2];
  const Operand from = op.use(x);
  const auto [out, lists] = op.make({{1, 1, n + 1}}, x.extent);
  op.add(CpuOps::each_row(out),
         [=, lists = lists, &simd = op.simd()](const Frame& f, const Worker&, int begin, int end) {
           const bool listed = forms.skips(f.count(x.extent), 0);
           std::int64_t nonzero = 0;
           for (int row = begin; row < end; ++row) {
             int* const list = reinterpret_cast<int*>(f.at(lists, row));
             *list = simd.nonzero(f.at(from, row), n, listed ? list + 1 : nullptr);
             nonzero += *list;
           }
           const std::int64_t all = std::int64_t{end - begin} * n;
           f.sparse_inputs->all.fetch_add(all, std::memory_order_relaxed);
           f.sparse_inputs->zeros.fetch_add(all - nonzero, std::memory_order_relaxed);
         });
  return out;
}

// x in the other forms that the products of a matrix take, a row per row of x.
Tensor prepare(CpuOps& op, Tensor x, WeightType type, const Forms& forms) {
  const int n = x.shape.d[2];
  const std::ptrdiff_t bytes =
      std::max(forms.coded ? coded_bytes(n) : 0, forms.tiled() ? tiled_bytes(type, n) : 0);
  const Operand from = op.use(x);
  const auto [out, to] = op.make({{1, 1, static_cast<int>(bytes / std::ptrdiff_t{sizeof(float)})}}, x.extent);
  const auto rows = CpuOps::each_row(out);
  op.add(
      [=, &simd = op.simd()](const Frame& f) {
        const Form form = forms.of(rows(f));
        const int step = height(simd, form);
        return form == Form::floats ? 0 : (rows(f) + step - 1) / step;
      },
      [=, to = to, &simd = op.simd()](const Frame& f, const Worker&, int begin, int end) {
        const Form form = forms.of(rows(f));
        for (int i = begin; i < end; ++i) {
          const int row = i * height(simd, form), count = std::min(height(simd, form), rows(f) - row);
          char* const at = reinterpret_cast<char*>(f.at(to, row));
          if (form == Form::tiles) {
            simd.tiles->prepare(f.at(from, row), from.stride, count, n, input_parts(type), at);
          } else {
            simd.coded->encode(f.at(from, row), from.stride, count, n, at);
          }
        }
      });
  return out;
}

}  // namespace

Tensor product(CpuOps& op, Tensor x, const Mat& w, Act act, Tensor bias, Tensor gate) {
  const PackedMatrix& m = op.matrix(w);
  FR_CHECK(m.data != nullptr && x.shape.d[1] == 1 && x.shape.d[2] == m.in);
  FR_CHECK(x.extent != Extent::one || x.shape.d[0] == 1);  // rows of other tensors are not padded to panels
  const Forms forms(op.simd(), m);
  const Tensor lists = m.sparse ? list_nonzero(op, x, forms) : Tensor{};
  const Tensor other_form = forms.prepares() ? prepare(op, x, m.type, forms) : Tensor{};
  const Operand from = op.use(x), offset = op.use(bias), factor = op.use(gate), nonzero = op.use(lists),
                prepared = op.use(other_form);
  const auto [out, y] = op.make({{1, 1, m.out}}, x.extent);
  op.want_scratch(op.simd().tiles != nullptr ? tile_scratch_floats : tile_floats);
  const ProductCommand command{
      op.simd(), m, static_cast<Epilogue>(act), x.extent, from, offset, factor, y, nonzero, forms, prepared};
  op.add([command](const Frame& f) { return command.items(f); },
         [command](const Frame& f, const Worker& worker, int begin, int end) {
           command.run(f, worker, begin, end);
         });
  return out;
}

}  // namespace fr::cpu
