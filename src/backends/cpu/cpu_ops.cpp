#include "backends/cpu/cpu_ops.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace fr::cpu {
namespace {

// Ids of recorded tensors: generation * 2^24 + value. Ids below are weight vectors.
constexpr int generation_bits = 24;

std::size_t index(int i) { return static_cast<std::size_t>(i); }
int row_size(Shape s) { return s.d[1] * s.d[2]; }

}  // namespace

CpuOps::CpuOps(const Weights& weights, const StateLayout& states, const Kernels& kernels,
               const KernelTable* native)
    : weights_(weights), states_(states), simd_(kernels), constants_(index(weights.vectors()), -1) {
  kernels_ = native;
}

Recording CpuOps::take() {
  recording_.finish(false);
  recording_.counts = counts;
  return std::move(recording_);
}

int CpuOps::add_value(Value value) {
  const int id = static_cast<int>(recording_.values.size());
  if (value.owner < 0) value.owner = id;
  recording_.values.push_back(value);
  return id;
}

int CpuOps::tensor_id(int value) const { return generation_ << generation_bits | value; }

int CpuOps::value_of(Tensor x) {
  FR_CHECK(x.id >= 0);
  if (x.id >= 1 << generation_bits) {
    FR_CHECK(x.id >> generation_bits == generation_);  // a scan body uses its own tensors and weights
    return x.id & ((1 << generation_bits) - 1);
  }
  int& value = constants_[index(x.id)];
  if (value < 0) value = add_value({Place::bound, -1, 0, 0, weights_.vector(x.id), -1, -1});
  return value;
}

CpuOps::Made CpuOps::make(Shape shape, Extent extent) {
  Value v{Place::fixed, -1, 0, 0, nullptr, -1, -1};
  v.place = extent == Extent::batch ? Place::rows : extent == Extent::wanted ? Place::wanted : Place::fixed;
  v.size = row_stride(extent == Extent::one ? shape.size() : row_size(shape));
  const int value = add_value(v);
  pending_.writes.push_back(value);
  const std::ptrdiff_t stride = extent == Extent::one ? row_size(shape) : v.size;
  return {{tensor_id(value), shape, extent}, {value, stride}};
}

Operand CpuOps::use(Tensor x) {
  if (!x) return no_operand;
  const int value = value_of(x), owner = recording_.values[index(value)].owner;
  pending_.reads.push_back(owner);
  if (x.extent == Extent::one) return {value, x.shape.d[0] == 1 ? 0 : row_size(x.shape)};
  return {value, recording_.values[index(owner)].size};
}

std::int64_t CpuOps::use_state(StateRef block) {
  const std::size_t i = index(block.block - states_.first_block);
  FR_CHECK(block.block >= states_.first_block && i < states_.offsets.size());
  FR_CHECK(states_.sizes[i] == block.shape.size());
  pending_.blocks.push_back(block.block);
  return states_.offsets[i];
}

void CpuOps::want_scratch(std::int64_t floats) { recording_.scratch = std::max(recording_.scratch, floats); }

void CpuOps::add(Items items, Run run) {
  pending_.items = std::move(items);
  pending_.run = std::move(run);
  recording_.commands.push_back(std::exchange(pending_, {}));
}

CpuOps::Items CpuOps::each_row(Extent extent, int d0) {
  return [extent, d0](const Frame& f) { return f.count(extent, d0); };
}

Tensor CpuOps::view(Tensor x, Shape shape, std::int64_t offset) {
  const int value = value_of(x);
  const Value& of = recording_.values[index(value)];
  Value v = of;
  v.offset = offset + (of.owner == value ? 0 : of.offset);
  v.owner = of.owner;
  return {tensor_id(add_value(v)), shape, x.extent};
}

Tensor CpuOps::reshape(Tensor x, Shape shape) {
  FR_CHECK(shape.size() == x.shape.size() && (x.extent == Extent::one || shape.d[0] == x.shape.d[0]));
  return view(x, shape, 0);
}

Tensor CpuOps::slice(Tensor x, int begin, int cols) {
  FR_CHECK(x.shape.d[1] == 1 && begin >= 0 && cols > 0 && begin + cols <= x.shape.d[2]);
  FR_CHECK(x.extent != Extent::one || x.shape.d[0] == 1);
  return view(x, {{x.shape.d[0], 1, cols}}, begin);
}

Tensor CpuOps::embedding(const Mat& table) {
  const PackedMatrix& m = matrix(table);
  auto [out, y] = make({{1, 1, table.in}}, Extent::batch);
  add(each_row(out), [&m, y = y](const Frame& f, const Worker&, int begin, int end) {
    for (int row = begin; row < end; ++row) {
      const std::int64_t token = f.batch->tokens[index(row)];
      m.table.read(token * m.in, {f.at(y, row), index(m.in)});
    }
  });
  return out;
}

Tensor CpuOps::input(int port, int cols) {
  auto [out, y] = make({{1, 1, cols}}, Extent::batch);
  add(each_row(out), [port, cols, y = y](const Frame& f, const Worker&, int begin, int end) {
    const float* from = f.inputs[index(port)];
    for (int row = begin; row < end; ++row) std::copy_n(from + std::int64_t{row} * cols, cols, f.at(y, row));
  });
  return out;
}

// In pieces of columns: one row of logits is work for all workers.
void CpuOps::output(int port, Tensor x) {
  constexpr int piece = 8192;
  const int cols = row_size(x.shape), pieces = (cols + piece - 1) / piece;
  const Operand from = use(x);
  const auto items = [port, pieces, extent = x.extent, d0 = x.shape.d[0]](const Frame& f) {
    return f.outputs[index(port)] == nullptr ? 0 : pieces * f.count(extent, d0);
  };
  add(items, [=](const Frame& f, const Worker&, int begin, int end) {
    for (int i = begin; i < end; ++i) {
      const int row = i / pieces, first = i % pieces * piece;
      float* to = f.outputs[index(port)] + std::int64_t{row} * cols + first;
      std::copy_n(f.at(from, row) + first, std::min(piece, cols - first), to);
    }
  });
}

Tensor CpuOps::linear(Tensor x, const Mat& w, Act epilogue) {
  return product(*this, x, w, epilogue, w.bias.t, {});
}

namespace {

// Applies f over the last two dimensions of a row; steps of 0 repeat a dimension of size 1.
struct Steps {
  int row, col;
};
Steps steps(Shape x, Shape result) {
  return {x.d[1] == 1 && result.d[1] > 1 ? 0 : x.d[2], x.d[2] == 1 && result.d[2] > 1 ? 0 : 1};
}
template <class F>
void combine_row(F f, const float* a, Steps sa, const float* b, Steps sb, float* y, int rows, int cols) {
  for (int j = 0; j < rows; ++j, a += sa.row, b += sb.row) {
    for (int c = 0; c < cols; ++c) *y++ = f(a[c * sa.col], b[c * sb.col]);
  }
}

}  // namespace

Tensor CpuOps::binary(BinaryOp op, Tensor a, Tensor b) {
  Shape shape;
  for (std::size_t i = 0; i < 3; ++i) {
    FR_CHECK(a.shape.d[i] == b.shape.d[i] || a.shape.d[i] == 1 || b.shape.d[i] == 1);
    shape.d[i] = a.shape.d[i] == 1 ? b.shape.d[i] : a.shape.d[i];
  }
  const Extent extent = std::max(a.extent, b.extent);
  const auto fits = [&](Tensor x) {
    return x.extent == extent || (x.extent == Extent::one && x.shape.d[0] == 1);
  };
  FR_CHECK(fits(a) && fits(b));
  const Operand u = use(a), v = use(b);
  const Steps su = steps(a.shape, shape), sv = steps(b.shape, shape);
  auto [out, y] = make(shape, extent);
  add(each_row(out), [=, y = y](const Frame& f, const Worker&, int begin, int end) {
    for (int row = begin; row < end; ++row) {
      const auto run = [&](auto g) {
        combine_row(g, f.at(u, row), su, f.at(v, row), sv, f.at(y, row), shape.d[1], shape.d[2]);
      };
      switch (op) {
        case BinaryOp::add:
          run([](float p, float q) { return p + q; });
          break;
        case BinaryOp::sub:
          run([](float p, float q) { return p - q; });
          break;
        case BinaryOp::mul:
          run([](float p, float q) { return p * q; });
          break;
        case BinaryOp::div:
          run([](float p, float q) { return p / q; });
          break;
        case BinaryOp::max:
          run([](float p, float q) { return std::max(p, q); });
          break;
      }
    }
  });
  return out;
}

Tensor CpuOps::unary(Act act, Tensor x) {
  const Operand from = use(x);
  auto [out, y] = make(x.shape, x.extent);
  add(each_row(out),
      [=, &simd = simd_, n = row_size(x.shape), y = y](const Frame& f, const Worker&, int begin, int end) {
        for (int row = begin; row < end; ++row)
          simd.activate(static_cast<Epilogue>(act), f.at(from, row), f.at(y, row), n);
      });
  return out;
}

Tensor CpuOps::affine(Tensor x, float scale, float offset) {
  const Operand from = use(x);
  auto [out, y] = make(x.shape, x.extent);
  add(each_row(out), [=, n = row_size(x.shape), y = y](const Frame& f, const Worker&, int begin, int end) {
    for (int row = begin; row < end; ++row) {
      const float* v = f.at(from, row);
      std::transform(v, v + n, f.at(y, row), [=](float value) { return value * scale + offset; });
    }
  });
  return out;
}

namespace {

void normalise(const float* x, int n, float eps, NormKind kind, float* y) {
  double mean = 0, squares = 0;
  if (kind == NormKind::layer) {
    for (int i = 0; i < n; ++i) mean += double{x[i]};
    mean /= n;
  }
  for (int i = 0; i < n; ++i) squares += (x[i] - mean) * (x[i] - mean);
  const double length = kind == NormKind::layer ? std::sqrt(squares / n + double{eps})
                                                : std::max(std::sqrt(squares), double{eps});
  for (int i = 0; i < n; ++i) y[i] = static_cast<float>((x[i] - mean) / length);
}

}  // namespace

Tensor CpuOps::norm(Tensor x, float eps, NormKind kind) {
  const Operand from = use(x);
  auto [out, y] = make(x.shape, x.extent);
  add(each_row(out), [=, shape = x.shape, y = y](const Frame& f, const Worker&, int begin, int end) {
    for (int row = begin; row < end; ++row) {
      for (int j = 0; j < shape.d[1]; ++j) {
        normalise(f.at(from, row) + j * shape.d[2], shape.d[2], eps, kind, f.at(y, row) + j * shape.d[2]);
      }
    }
  });
  return out;
}

Tensor CpuOps::sum(Tensor x) {
  const Operand from = use(x);
  auto [out, y] = make({{x.shape.d[0], x.shape.d[1], 1}}, x.extent);
  add(each_row(out), [=, shape = x.shape, y = y](const Frame& f, const Worker&, int begin, int end) {
    for (int row = begin; row < end; ++row) {
      const float* v = f.at(from, row);
      float* total = f.at(y, row);
      for (int j = 0; j < shape.d[1]; ++j, v += shape.d[2]) {
        double all = 0;
        for (int i = 0; i < shape.d[2]; ++i) all += double{v[i]};
        total[j] = static_cast<float>(all);
      }
    }
  });
  return out;
}

// The item of a sequence's first row, which alone reads the old state, also writes the new one.
Tensor CpuOps::shift(Tensor x, StateRef previous) {
  FR_CHECK(x.extent == Extent::batch && row_size(x.shape) == previous.shape.size());
  const Operand from = use(x);
  const std::int64_t block = use_state(previous);
  auto [out, y] = make(x.shape, Extent::batch);
  add(each_row(out), [=, n = row_size(x.shape), y = y](const Frame& f, const Worker&, int begin, int end) {
    for (int row = begin; row < end; ++row) {
      const Sequence& s = f.sequence(row);
      if (row > s.begin) {
        std::copy_n(f.at(from, row - 1), n, f.at(y, row));
        continue;
      }
      float* state = f.state(s.slot, block);
      std::copy_n(state, n, f.at(y, row));
      std::copy_n(f.at(from, s.begin + s.count - 1), n, state);
    }
  });
  return out;
}

Tensor CpuOps::matvec(Tensor s, Tensor x, bool transposed) {
  const auto [heads, m, n] = s.shape.d;
  FR_CHECK(s.extent == Extent::one && x.extent == Extent::one);
  FR_CHECK(x.shape == (Shape{{1, heads, transposed ? m : n}}));
  const Operand matrix = use(s), from = use(x);
  auto [out, y] = make({{1, heads, transposed ? n : m}}, Extent::one);
  add(each_row(s), [=, m = m, n = n, y = y](const Frame& f, const Worker&, int begin, int end) {
    const int in = transposed ? m : n, result = transposed ? n : m;
    const int step = transposed ? n : 1,
              next = transposed ? 1 : n;  // along the sum, and from one result to the next
    for (int h = begin; h < end; ++h) {
      for (int o = 0; o < result; ++o) {
        float total = 0;
        for (int i = 0; i < in; ++i) total += f.at(matrix, h)[o * next + i * step] * f.at(from)[h * in + i];
        f.at(y)[h * result + o] = total;
      }
    }
  });
  return out;
}

Tensor CpuOps::outer(Tensor u, Tensor v) {
  const int heads = u.shape.d[1], m = u.shape.d[2], n = v.shape.d[2];
  FR_CHECK(u.extent == Extent::one && v.extent == Extent::one);
  FR_CHECK(u.shape.d[0] == 1 && v.shape.d[0] == 1 && v.shape.d[1] == heads);
  const Operand a = use(u), b = use(v);
  auto [out, y] = make({{heads, m, n}}, Extent::one);
  add(each_row(out), [=, y = y](const Frame& f, const Worker&, int begin, int end) {
    for (int h = begin; h < end; ++h) {
      for (int i = 0; i < m; ++i) {
        for (int j = 0; j < n; ++j) f.at(y, h)[i * n + j] = f.at(a)[h * m + i] * f.at(b)[h * n + j];
      }
    }
  });
  return out;
}

Tensor CpuOps::wanted(Tensor x) {
  FR_CHECK(x.extent == Extent::batch);
  const Operand from = use(x);
  auto [out, y] = make(x.shape, Extent::wanted);
  add(each_row(out), [=, n = row_size(x.shape), y = y](const Frame& f, const Worker&, int begin, int end) {
    for (int i = begin; i < end; ++i) std::copy_n(f.at(from, f.batch->wanted[index(i)]), n, f.at(y, i));
  });
  return out;
}

}  // namespace fr::cpu
