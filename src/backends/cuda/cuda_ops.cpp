#include "backends/cuda/cuda_ops.h"

#include <algorithm>
#include <utility>

namespace fr::cuda {
namespace {

// Ids of recorded tensors: generation * 2^24 + value. Ids below are weight vectors.
constexpr int generation_bits = 24;

static_assert(static_cast<int>(Activation::decay7) == static_cast<int>(Act::decay7) &&
              static_cast<int>(Activation::relu2) == static_cast<int>(Act::relu2) &&
              static_cast<int>(Activation::tanh) == static_cast<int>(Act::tanh));
static_assert(static_cast<int>(Binary::max) == static_cast<int>(BinaryOp::max) &&
              static_cast<int>(Binary::sub) == static_cast<int>(BinaryOp::sub));

std::size_t index(int i) { return static_cast<std::size_t>(i); }
int row_size(Shape s) { return s.d[1] * s.d[2]; }

// One tensor of a binary op: steps of 0 repeat a dimension of size 1.
Tensor3 broadcast(const Frame& f, Operand x, Shape from, Shape to) {
  return {f.at(x),
          {x.stride, from.d[1] == 1 && to.d[1] > 1 ? 0 : from.d[2], from.d[2] == 1 && to.d[2] > 1 ? 0 : 1}};
}

}  // namespace

CudaOps::CudaOps(const Weights& weights, const StateLayout& states, const KernelTable* native)
    : weights_(weights), states_(states), constants_(index(weights.vectors()), -1) {
  kernels_ = native;
}

Recording CudaOps::take() {
  recording_.finish();
  counts.sparse_inputs = recording_.counts.sparse_inputs;
  recording_.counts = counts;
  return std::move(recording_);
}

int CudaOps::add_value(Value value) {
  const int id = static_cast<int>(recording_.values.size());
  if (value.owner < 0) value.owner = id;
  recording_.values.push_back(value);
  return id;
}

int CudaOps::tensor_id(int value) const { return generation_ << generation_bits | value; }

int CudaOps::value_of(Tensor x) {
  FR_CHECK(x.id >= 0);
  if (x.id >= 1 << generation_bits) {
    FR_CHECK(x.id >> generation_bits == generation_);  // a scan body uses its own tensors and weights
    return x.id & ((1 << generation_bits) - 1);
  }
  int& value = constants_[index(x.id)];
  if (value < 0) {
    Value weight;
    weight.place = Place::bound;
    weight.bound = weights_.vector(x.id);
    value = add_value(weight);
  }
  return value;
}

CudaOps::Made CudaOps::make(Shape shape, Extent extent) {
  Value v;
  v.place = extent == Extent::batch ? Place::rows : extent == Extent::wanted ? Place::wanted : Place::fixed;
  v.size = row_stride(extent == Extent::one ? shape.size() : row_size(shape));
  const int value = add_value(v);
  pending_.writes.push_back(value);
  return {{tensor_id(value), shape, extent}, {value, extent == Extent::one ? row_size(shape) : v.size}};
}

Operand CudaOps::use(Tensor x) {
  if (!x) return {};
  const int value = value_of(x), owner = recording_.values[index(value)].owner;
  pending_.reads.push_back(owner);
  if (x.extent == Extent::one) return {value, x.shape.d[0] == 1 ? 0 : row_size(x.shape)};
  return {value, recording_.values[index(owner)].size};
}

std::int64_t CudaOps::use_state(StateRef block) {
  const std::size_t i = index(block.block - states_.first_block);
  FR_CHECK(block.block >= states_.first_block && i < states_.offsets.size());
  FR_CHECK(states_.sizes[i] == block.shape.size());
  return states_.offsets[i];
}

void CudaOps::add(std::function<void(const Frame&)> run) {
  pending_.run = std::move(run);
  recording_.commands.push_back(std::exchange(pending_, {}));
}

Tensor CudaOps::view(Tensor x, Shape shape, std::int64_t offset) {
  const int value = value_of(x);
  Value v = recording_.values[index(value)];
  v.offset = offset + (v.owner == value ? 0 : v.offset);
  return {tensor_id(add_value(v)), shape, x.extent};
}

Tensor CudaOps::reshape(Tensor x, Shape shape) {
  FR_CHECK(shape.size() == x.shape.size() && (x.extent == Extent::one || shape.d[0] == x.shape.d[0]));
  return view(x, shape, 0);
}

Tensor CudaOps::slice(Tensor x, int begin, int cols) {
  FR_CHECK(x.shape.d[1] == 1 && begin >= 0 && cols > 0 && begin + cols <= x.shape.d[2]);
  FR_CHECK(x.extent != Extent::one || x.shape.d[0] == 1);
  return view(x, {{x.shape.d[0], 1, cols}}, begin);
}

Tensor CudaOps::embedding(const Mat& table) {
  const DeviceMatrix& m = weights_.matrix(table.id);
  const auto [out, y] = make({{1, 1, table.in}}, Extent::batch);
  add([&m, y = y](const Frame& f) { cuda::embedding(f.stream, f.step, m, f.out(y)); });
  return out;
}

Tensor CudaOps::input(int port, int cols) {
  const auto [out, y] = make({{1, 1, cols}}, Extent::batch);
  recording_.input_cols[index(port)] = cols;
  add([port, cols, y = y](const Frame& f) {
    copy(f.stream, f.step.rows, cols, f.inputs[index(port)], f.out(y));
  });
  return out;
}

// Nothing is launched: the device fetches the value after the last command.
void CudaOps::output(int port, Tensor x) {
  const Operand from = use(x);
  pending_ = {};
  recording_.outputs.push_back({port, from, x.extent, x.shape.d[0], row_size(x.shape)});
}

Tensor CudaOps::linear(Tensor x, const Mat& w, Act epilogue) { return product(x, w, epilogue, w.bias.t, {}); }

Tensor CudaOps::product(Tensor x, const Mat& w, Act act, Tensor bias, Tensor gate) {
  const DeviceMatrix& m = weights_.matrix(w.id);
  FR_CHECK(x.shape.d[1] == 1 && x.shape.d[2] == m.in && m.out == w.out);
  FR_CHECK(x.extent != Extent::one || x.shape.d[0] == 1);
  const Operand from = use(x), offset = use(bias), factor = use(gate);
  const auto [out, y] = make({{1, 1, m.out}}, x.extent);
  const bool counted = w.role == MatRole::sparse_input;
  if (counted) recording_.counts.sparse_inputs += m.in;
  recording_.products.push_back({&m, x.extent});
  add([=, &m, y = y, extent = x.extent](const Frame& f) {
    const int rows = f.count(extent);
    if (rows == 0) return;
    Product p;
    p.w = m;
    p.x = f.rows(from);
    p.rows = rows;
    p.bias = f.rows(offset);
    p.gate = f.rows(factor);
    p.act = static_cast<Activation>(act);
    p.y = f.out(y);
    p.scratch = f.scratch;
    p.zeros = counted ? f.zeros : nullptr;
    cuda::product(f.stream, p);
  });
  return out;
}

Tensor CudaOps::binary(BinaryOp op, Tensor a, Tensor b) {
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
  const auto [out, y] = make(shape, extent);
  add([=, y = y, of_a = a.shape, of_b = b.shape](const Frame& f) {
    const int sizes[3] = {f.count(extent, shape.d[0]), shape.d[1], shape.d[2]};
    if (sizes[0] == 0) return;
    cuda::binary(f.stream, static_cast<Binary>(op), sizes, broadcast(f, u, of_a, shape),
                 broadcast(f, v, of_b, shape), f.at(y), y.stride);
  });
  return out;
}

Tensor CudaOps::unary(Act act, Tensor x) {
  const Operand from = use(x);
  const auto [out, y] = make(x.shape, x.extent);
  add([=, y = y, shape = x.shape, extent = x.extent](const Frame& f) {
    cuda::unary(f.stream, static_cast<Activation>(act), f.count(extent, shape.d[0]), row_size(shape),
                f.rows(from), f.out(y));
  });
  return out;
}

Tensor CudaOps::affine(Tensor x, float scale, float offset) {
  const Operand from = use(x);
  const auto [out, y] = make(x.shape, x.extent);
  add([=, y = y, shape = x.shape, extent = x.extent](const Frame& f) {
    cuda::affine(f.stream, f.count(extent, shape.d[0]), row_size(shape), f.rows(from), scale, offset,
                 f.out(y));
  });
  return out;
}

Tensor CudaOps::norm(Tensor x, float eps, NormKind kind) {
  const Operand from = use(x);
  const auto [out, y] = make(x.shape, x.extent);
  add([=, y = y, shape = x.shape, extent = x.extent](const Frame& f) {
    cuda::norm(f.stream, f.count(extent, shape.d[0]), shape.d[1], shape.d[2], f.rows(from), eps,
               kind == NormKind::l2, f.out(y));
  });
  return out;
}

Tensor CudaOps::sum(Tensor x) {
  const Operand from = use(x);
  const auto [out, y] = make({{x.shape.d[0], x.shape.d[1], 1}}, x.extent);
  add([=, y = y, shape = x.shape, extent = x.extent](const Frame& f) {
    cuda::sum(f.stream, f.count(extent, shape.d[0]), shape.d[1], shape.d[2], f.rows(from), f.out(y));
  });
  return out;
}

Tensor CudaOps::shift(Tensor x, StateRef previous) {
  FR_CHECK(x.extent == Extent::batch && row_size(x.shape) == previous.shape.size());
  const Operand from = use(x);
  const std::int64_t block = use_state(previous);
  const auto [out, y] = make(x.shape, Extent::batch);
  add([=, y = y, n = row_size(x.shape)](const Frame& f) {
    cuda::shift(f.stream, f.step, n, block, f.rows(from), f.out(y));
  });
  return out;
}

Tensor CudaOps::matvec(Tensor s, Tensor x, bool transposed) {
  const auto [heads, m, n] = s.shape.d;
  FR_CHECK(s.extent == Extent::one && x.extent == Extent::one);
  FR_CHECK(x.shape == (Shape{{1, heads, transposed ? m : n}}));
  const Operand matrix = use(s), from = use(x);
  const auto [out, y] = make({{1, heads, transposed ? n : m}}, Extent::one);
  add([=, heads = heads, m = m, n = n, y = y](const Frame& f) {
    cuda::matvec(f.stream, heads, m, n, f.at(matrix), f.at(from), transposed, f.at(y));
  });
  return out;
}

Tensor CudaOps::outer(Tensor u, Tensor v) {
  const int heads = u.shape.d[1], m = u.shape.d[2], n = v.shape.d[2];
  FR_CHECK(u.extent == Extent::one && v.extent == Extent::one);
  FR_CHECK(u.shape.d[0] == 1 && v.shape.d[0] == 1 && v.shape.d[1] == heads);
  const Operand a = use(u), b = use(v);
  const auto [out, y] = make({{heads, m, n}}, Extent::one);
  add([=, y = y](const Frame& f) { cuda::outer(f.stream, heads, m, n, f.at(a), f.at(b), f.at(y)); });
  return out;
}

Tensor CudaOps::wanted(Tensor x) {
  FR_CHECK(x.extent == Extent::batch);
  const Operand from = use(x);
  const auto [out, y] = make(x.shape, Extent::wanted);
  add([=, y = y, n = row_size(x.shape)](const Frame& f) {
    gather_wanted(f.stream, f.step, n, f.rows(from), f.out(y));
  });
  return out;
}

}  // namespace fr::cuda
