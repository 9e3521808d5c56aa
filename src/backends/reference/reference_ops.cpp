#include "backends/reference/reference_ops.h"

#include <algorithm>
#include <cmath>

namespace fr {
namespace {

float activate(Act f, float x) {
  const auto sigmoid = [](float v) { return 1.0f / (1.0f + std::exp(-v)); };
  switch (f) {
    case Act::none:
      return x;
    case Act::tanh:
      return std::tanh(x);
    case Act::sigmoid:
      return sigmoid(x);
    case Act::exp:
      return std::exp(x);
    case Act::silu:
      return x * sigmoid(x);
    case Act::relu2:
      return x > 0 ? x * x : 0;
    case Act::decay6:
      return std::exp(-std::exp(x));
    case Act::decay7:
      return std::exp(-0.606531f * sigmoid(x));
  }
  return x;
}

float combine(BinaryOp op, float a, float b) {
  switch (op) {
    case BinaryOp::add:
      return a + b;
    case BinaryOp::sub:
      return a - b;
    case BinaryOp::mul:
      return a * b;
    case BinaryOp::div:
      return a / b;
    case BinaryOp::max:
      return std::max(a, b);
  }
  return a;
}

// Sum of a[i] b[i * step], in double; four sums at a time, since one would wait for itself.
float dot(const float* a, const float* b, int n, std::ptrdiff_t step = 1) {
  double sums[4] = {0, 0, 0, 0};
  int i = 0;
  for (; i + 4 <= n; i += 4) {
    for (int j = 0; j < 4; ++j) sums[j] += double{a[i + j]} * double{b[(i + j) * step]};
  }
  for (; i < n; ++i) sums[0] += double{a[i]} * double{b[i * step]};
  return static_cast<float>(sums[0] + sums[1] + sums[2] + sums[3]);
}

std::size_t count(Shape s) { return static_cast<std::size_t>(s.size()); }
std::size_t index(int i) { return static_cast<std::size_t>(i); }

}  // namespace

std::span<float> ReferenceStates::block(int slot, StateRef ref) {
  const StateBlock& b = blocks.at(index(ref.block - first_block));
  FR_CHECK(b.size == ref.shape.size());
  return std::span(slots.at(index(slot)))
      .subspan(static_cast<std::size_t>(b.offset), static_cast<std::size_t>(b.size));
}

ReferenceOps::ReferenceOps(const ReferenceWeights& weights, ReferenceStates& states, const Batch& batch,
                           std::span<const PortIn> inputs, std::span<const PortOut> outputs)
    : weights_(weights), states_(states), batch_(batch), inputs_(inputs), outputs_(outputs) {}

const float* ReferenceOps::data(Tensor t) const {
  const std::size_t id = index(t.id), n = weights_.vectors.size();
  const std::vector<float>& values = id < n ? weights_.vectors[id] : values_.at(id - n);
  FR_CHECK(values.size() == count(t.shape));
  return values.data();
}

ReferenceOps::Made ReferenceOps::make(Shape shape, Extent extent) {
  values_.emplace_back(count(shape));
  const std::size_t id = weights_.vectors.size() + values_.size() - 1;
  return {{static_cast<int>(id), shape, extent}, values_.back().data()};
}

Tensor ReferenceOps::embedding(const Mat& table) {
  const TensorView& rows = weights_.matrices.at(index(table.id)).table;
  auto [out, y] = make({{batch_.rows(), 1, table.in}}, Extent::batch);
  for (const std::int32_t token : batch_.tokens) {
    rows.read(std::int64_t{token} * table.in, {y, index(table.in)});
    y += table.in;
  }
  return out;
}

Tensor ReferenceOps::input(int port, int cols) {
  const auto given =
      std::find_if(inputs_.begin(), inputs_.end(), [&](const PortIn& p) { return p.port == port; });
  FR_CHECK(given != inputs_.end());
  auto [out, y] = make({{batch_.rows(), 1, cols}}, Extent::batch);
  FR_CHECK(given->data.size() == count(out.shape));
  std::copy(given->data.begin(), given->data.end(), y);
  return out;
}

void ReferenceOps::output(int port, Tensor x) {
  const float* values = data(x);
  for (const PortOut& p : outputs_) {
    if (p.port != port) continue;
    FR_CHECK(p.data.size() == count(x.shape));
    std::copy_n(values, count(x.shape), p.data.begin());
  }
}

Tensor ReferenceOps::linear(Tensor x, const Mat& w, Act epilogue) {
  FR_CHECK(x.shape.d[1] == 1 && x.shape.d[2] == w.in);
  const std::vector<float>& weights = weights_.matrices.at(index(w.id)).values;
  FR_CHECK(weights.size() == index(w.out) * index(w.in));
  const float* in = data(x);
  const float* bias = w.bias ? data(w.bias.t) : nullptr;
  const int rows = x.shape.d[0];
  if (w.role == MatRole::sparse_input) {
    counts.sparse_inputs += x.shape.size();
    counts.zeros += std::count(in, in + x.shape.size(), 0.0f);
  }
  auto [out, y] = make({{rows, 1, w.out}}, x.extent);
  for (int row = 0; row < rows; ++row) {
    const float* v = in + index(row) * index(w.in);
    for (int o = 0; o < w.out; ++o) {
      const float* weight = weights.data() + index(o) * index(w.in);
      const float product = dot(v, weight, w.in);
      *y++ = activate(epilogue, bias != nullptr ? product + bias[o] : product);
    }
  }
  return out;
}

Tensor ReferenceOps::binary(BinaryOp op, Tensor a, Tensor b) {
  Shape shape;
  for (std::size_t i = 0; i < 3; ++i) {
    const int m = a.shape.d[i], n = b.shape.d[i];
    FR_CHECK(m == n || m == 1 || n == 1);
    shape.d[i] = m == 1 ? n : m;
  }
  const auto row = [](const float* values, const Shape& s, int i, int j) {  // sizes of 1 are repeated
    const int row_index = (s.d[0] == 1 ? 0 : i) * s.d[1] + (s.d[1] == 1 ? 0 : j);
    return values + index(row_index) * index(s.d[2]);
  };
  const float *a_values = data(a), *b_values = data(b);
  const int a_step = a.shape.d[2] == 1 ? 0 : 1, b_step = b.shape.d[2] == 1 ? 0 : 1;
  auto [out, y] = make(shape, std::max(a.extent, b.extent));
  for (int i = 0; i < shape.d[0]; ++i) {
    for (int j = 0; j < shape.d[1]; ++j) {
      const float *u = row(a_values, a.shape, i, j), *v = row(b_values, b.shape, i, j);
      for (int k = 0; k < shape.d[2]; ++k) *y++ = combine(op, u[k * a_step], v[k * b_step]);
    }
  }
  return out;
}

Tensor ReferenceOps::unary(Act f, Tensor x) {
  const float* v = data(x);
  auto [out, y] = make(x.shape, x.extent);
  for (std::size_t i = 0; i < count(x.shape); ++i) y[i] = activate(f, v[i]);
  return out;
}

Tensor ReferenceOps::affine(Tensor x, float scale, float offset) {
  const float* v = data(x);
  auto [out, y] = make(x.shape, x.extent);
  for (std::size_t i = 0; i < count(x.shape); ++i) y[i] = v[i] * scale + offset;
  return out;
}

Tensor ReferenceOps::norm(Tensor x, float eps, NormKind kind) {
  const float* v = data(x);
  const std::size_t n = index(x.shape.d[2]);
  auto [out, y] = make(x.shape, x.extent);
  for (std::size_t begin = 0; begin < count(x.shape); begin += n) {
    double mean = 0, squares = 0;
    if (kind == NormKind::layer) {
      for (std::size_t i = 0; i < n; ++i) mean += v[begin + i];
      mean /= static_cast<double>(n);
    }
    for (std::size_t i = 0; i < n; ++i) squares += (v[begin + i] - mean) * (v[begin + i] - mean);
    const double length = kind == NormKind::layer ? std::sqrt(squares / static_cast<double>(n) + double{eps})
                                                  : std::max(std::sqrt(squares), double{eps});
    for (std::size_t i = 0; i < n; ++i) y[begin + i] = static_cast<float>((v[begin + i] - mean) / length);
  }
  return out;
}

Tensor ReferenceOps::sum(Tensor x) {
  const float* v = data(x);
  auto [out, y] = make({{x.shape.d[0], x.shape.d[1], 1}}, x.extent);
  for (std::size_t row = 0; row < count(out.shape); ++row) {
    double total = 0;
    for (int i = 0; i < x.shape.d[2]; ++i) total += *v++;
    y[row] = static_cast<float>(total);
  }
  return out;
}

Tensor ReferenceOps::reshape(Tensor x, Shape shape) {
  FR_CHECK(shape.size() == x.shape.size() && (x.extent == Extent::one || shape.d[0] == x.shape.d[0]));
  return {x.id, shape, x.extent};
}

Tensor ReferenceOps::slice(Tensor x, int begin, int cols) {
  FR_CHECK(x.shape.d[1] == 1 && begin >= 0 && cols > 0 && begin + cols <= x.shape.d[2]);
  const float* v = data(x) + begin;
  auto [out, y] = make({{x.shape.d[0], 1, cols}}, x.extent);
  for (int row = 0; row < x.shape.d[0]; ++row, v += x.shape.d[2], y += cols) std::copy_n(v, cols, y);
  return out;
}

Tensor ReferenceOps::shift(Tensor x, StateRef previous) {
  FR_CHECK(x.extent == Extent::batch && x.shape.d[0] == batch_.rows());
  const std::size_t n = index(x.shape.d[1]) * index(x.shape.d[2]);
  const float* v = data(x);
  auto [out, y] = make(x.shape, x.extent);
  for (const Sequence& s : batch_.sequences) {
    const std::span<float> stored = states_.block(s.slot, previous);
    FR_CHECK(stored.size() == n);
    const std::size_t first = index(s.begin) * n, rows = index(s.count);
    std::copy_n(stored.begin(), n, y + first);
    std::copy_n(v + first, (rows - 1) * n, y + first + n);
    std::copy_n(v + first + (rows - 1) * n, n, stored.begin());
  }
  return out;
}

Tensor ReferenceOps::copy_row(Tensor x, int row) {
  const std::size_t n = index(x.shape.d[1]) * index(x.shape.d[2]);
  const float* v = data(x);
  auto [out, y] = make({{1, x.shape.d[1], x.shape.d[2]}}, Extent::one);
  std::copy_n(v + index(row) * n, n, y);
  return out;
}

std::vector<Tensor> ReferenceOps::scan(std::span<const StateRef> state, std::span<const Tensor> inputs,
                                       const ScanBody& body) {
  for (const Tensor& x : inputs) FR_CHECK(x.extent == Extent::batch && x.shape.d[0] == batch_.rows());
  std::vector<Tensor> outputs;
  for (const Sequence& s : batch_.sequences) scan_sequence(s, state, inputs, body, outputs);
  return outputs;
}

// Runs the body over one sequence. The first call of a scan makes the outputs, whose shapes only the body
// knows.
void ReferenceOps::scan_sequence(const Sequence& sequence, std::span<const StateRef> state,
                                 std::span<const Tensor> inputs, const ScanBody& body,
                                 std::vector<Tensor>& outputs) {
  for (int row = sequence.begin; row < sequence.begin + sequence.count; ++row) {
    const std::size_t mark = values_.size();
    std::vector<Tensor> now, in;
    for (const StateRef& ref : state) {
      const std::span<const float> stored = states_.block(sequence.slot, ref);
      const Made made = make(ref.shape, Extent::one);
      std::copy(stored.begin(), stored.end(), made.values);
      now.push_back(made.tensor);
    }
    for (const Tensor& x : inputs) in.push_back(copy_row(x, row));
    const ScanStep step = body(*this, now, in);
    FR_CHECK(step.state.size() == state.size());
    for (std::size_t i = 0; i < state.size(); ++i) {
      const std::span<float> stored = states_.block(sequence.slot, state[i]);
      FR_CHECK(step.state[i].shape.size() == state[i].shape.size());
      std::copy_n(data(step.state[i]), stored.size(), stored.begin());
    }
    std::vector<std::vector<float>> results;
    for (const Tensor& t : step.outputs) results.emplace_back(data(t), data(t) + t.shape.size());
    values_.resize(mark);  // nothing inside a body outlives its token
    if (outputs.empty()) {
      for (const Tensor& t : step.outputs) {
        outputs.push_back(make({{batch_.rows(), t.shape.d[1], t.shape.d[2]}}, Extent::batch).tensor);
      }
    }
    for (std::size_t i = 0; i < results.size(); ++i) {
      std::vector<float>& all = values_.at(index(outputs[i].id) - weights_.vectors.size());
      std::copy(results[i].begin(), results[i].end(),
                all.begin() + static_cast<std::ptrdiff_t>(index(row) * results[i].size()));
    }
  }
}

Tensor ReferenceOps::matvec(Tensor s, Tensor x, bool transposed) {
  const auto [heads, rows, cols] = s.shape.d;
  FR_CHECK(x.shape == (Shape{{1, heads, transposed ? rows : cols}}));
  const float *matrix = data(s), *v = data(x);
  const int n_in = transposed ? rows : cols, n_out = transposed ? cols : rows;
  auto [out, y] = make({{1, heads, n_out}}, Extent::one);
  for (int h = 0; h < heads; ++h, matrix += rows * cols, v += n_in) {
    for (int o = 0; o < n_out; ++o) {
      *y++ = transposed ? dot(v, matrix + o, n_in, cols) : dot(v, matrix + o * cols, n_in);
    }
  }
  return out;
}

Tensor ReferenceOps::outer(Tensor u, Tensor v) {
  const int heads = u.shape.d[1], rows = u.shape.d[2], cols = v.shape.d[2];
  FR_CHECK(u.shape.d[0] == 1 && v.shape.d[0] == 1 && v.shape.d[1] == heads);
  const float *a = data(u), *b = data(v);
  auto [out, y] = make({{heads, rows, cols}}, Extent::one);
  for (int h = 0; h < heads; ++h) {
    for (int i = 0; i < rows; ++i) {
      for (int j = 0; j < cols; ++j) *y++ = a[h * rows + i] * b[h * cols + j];
    }
  }
  return out;
}

Tensor ReferenceOps::wanted(Tensor x) {
  FR_CHECK(x.extent == Extent::batch && x.shape.d[0] == batch_.rows());
  const std::size_t n = index(x.shape.d[1]) * index(x.shape.d[2]);
  const float* v = data(x);
  auto [out, y] =
      make({{static_cast<int>(batch_.wanted.size()), x.shape.d[1], x.shape.d[2]}}, Extent::wanted);
  for (const int row : batch_.wanted) y = std::copy_n(v + index(row) * n, n, y);
  return out;
}

}  // namespace fr
