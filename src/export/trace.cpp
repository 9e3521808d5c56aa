#include "export/trace.h"

#include <algorithm>
#include <utility>

namespace fr {

Result<Tensor> TraceWeights::add_vector(std::span<const float> values, Shape shape) {
  vectors_.push_back({shape, {values.begin(), values.end()}});
  return Tensor{static_cast<int>(vectors_.size()) - 1, shape, Extent::one};
}

Result<Mat> TraceWeights::add_matrix(const TensorView& w, MatRole role, const Checkpoint&) {
  matrices_.push_back({w, role});
  Mat m;
  m.id = static_cast<int>(matrices_.size()) - 1;
  m.out = static_cast<int>(w.shape[0]);
  m.in = static_cast<int>(w.shape[1]);
  m.role = role;
  return m;
}

Result<WeightMap> TraceWeights::copy_to(WeightStore& store) const {
  WeightMap map;
  for (const Vector& v : vectors_) {
    FR_TRY(const Tensor t, store.add_vector(v.values, v.shape));
    map.vectors.push_back(t);
  }
  for (const Matrix& m : matrices_) {
    FR_TRY(const Mat mat, store.add_matrix(m.view, m.role, file_));
    map.matrices.push_back(mat);
  }
  return map;
}

TraceOps::TraceOps(const TraceWeights& weights, int rows, int wanted)
    : nodes_(&graph_.nodes), rows_(rows), wanted_(wanted) {
  graph_.n_vectors = static_cast<int>(weights.vectors().size());
  for (const TraceWeights::Vector& v : weights.vectors())
    graph_.values.push_back({v.shape, Extent::one, 0, 0});
}

Tensor TraceOps::make(Shape shape, Extent extent) {
  graph_.values.push_back({shape, extent, 0, scope_});
  return {static_cast<int>(graph_.values.size()) - 1, shape, extent};
}

std::vector<int> TraceOps::use(std::span<const Tensor> values) {
  std::vector<int> ids;
  for (const Tensor& t : values) {
    TracedValue& value = graph_.values.at(static_cast<std::size_t>(t.id));
    FR_CHECK(t.id < graph_.n_vectors || value.scope == scope_);
    ++value.uses;
    // A weight reaches an op in the shape it was added with; anything else passes through reshape().
    FR_CHECK(value.shape == t.shape);
    ids.push_back(t.id);
  }
  return ids;
}

Tensor TraceOps::record(TracedNode node, std::initializer_list<Tensor> inputs, Shape shape, Extent extent) {
  node.inputs = use({inputs.begin(), inputs.size()});
  const Tensor out = make(shape, extent);
  node.outputs = {out.id};
  nodes_->push_back(std::move(node));
  return out;
}

Tensor TraceOps::embedding(const Mat& table) {
  TracedNode node{OpKind::embedding};
  node.matrix = table.id;
  return record(std::move(node), {}, {{rows_, 1, table.in}}, Extent::batch);
}

Tensor TraceOps::input(int port, int cols) {
  TracedNode node{OpKind::input};
  node.port = port;
  node.cols = cols;
  return record(std::move(node), {}, {{rows_, 1, cols}}, Extent::batch);
}

void TraceOps::output(int port, Tensor x) {
  TracedNode node{OpKind::output};
  node.port = port;
  node.inputs = use({&x, 1});
  nodes_->push_back(std::move(node));
}

Tensor TraceOps::linear(Tensor x, const Mat& w, Act epilogue) {
  FR_CHECK(x.shape.d[1] == 1 && x.shape.d[2] == w.in);
  TracedNode node{OpKind::linear};
  node.matrix = w.id;
  node.act = epilogue;
  const Shape shape{{x.shape.d[0], 1, w.out}};
  return w.bias ? record(std::move(node), {x, w.bias.t}, shape, x.extent)
                : record(std::move(node), {x}, shape, x.extent);
}

Tensor TraceOps::binary(BinaryOp op, Tensor a, Tensor b) {
  Shape shape;
  for (std::size_t i = 0; i < 3; ++i) {
    FR_CHECK(a.shape.d[i] == b.shape.d[i] || a.shape.d[i] == 1 || b.shape.d[i] == 1);
    shape.d[i] = a.shape.d[i] == 1 ? b.shape.d[i] : a.shape.d[i];
  }
  TracedNode node{OpKind::binary};
  node.binary = op;
  return record(std::move(node), {a, b}, shape, std::max(a.extent, b.extent));
}

Tensor TraceOps::unary(Act f, Tensor x) {
  TracedNode node{OpKind::unary};
  node.act = f;
  return record(std::move(node), {x}, x.shape, x.extent);
}

Tensor TraceOps::affine(Tensor x, float scale, float offset) {
  TracedNode node{OpKind::affine};
  node.scale = scale;
  node.offset = offset;
  return record(std::move(node), {x}, x.shape, x.extent);
}

Tensor TraceOps::norm(Tensor x, float eps, NormKind kind) {
  TracedNode node{OpKind::norm};
  node.eps = eps;
  node.norm = kind;
  return record(std::move(node), {x}, x.shape, x.extent);
}

Tensor TraceOps::sum(Tensor x) {
  return record(TracedNode{OpKind::sum}, {x}, {{x.shape.d[0], x.shape.d[1], 1}}, x.extent);
}

Tensor TraceOps::reshape(Tensor x, Shape shape) {
  FR_CHECK(shape.size() == x.shape.size() && (x.extent == Extent::one || shape.d[0] == x.shape.d[0]));
  TracedNode node{OpKind::reshape};
  node.shape = shape;
  return record(std::move(node), {x}, shape, x.extent);
}

Tensor TraceOps::slice(Tensor x, int begin, int cols) {
  FR_CHECK(x.shape.d[1] == 1 && begin >= 0 && begin + cols <= x.shape.d[2]);
  TracedNode node{OpKind::slice};
  node.begin = begin;
  node.cols = cols;
  return record(std::move(node), {x}, {{x.shape.d[0], 1, cols}}, x.extent);
}

Tensor TraceOps::shift(Tensor x, StateRef previous) {
  FR_CHECK(x.extent == Extent::batch);
  TracedNode node{OpKind::shift};
  node.state = {previous};
  return record(std::move(node), {x}, x.shape, x.extent);
}

std::vector<Tensor> TraceOps::scan(std::span<const StateRef> state, std::span<const Tensor> inputs,
                                   const ScanBody& body) {
  TracedNode node{OpKind::scan};
  node.inputs = use(inputs);
  node.state.assign(state.begin(), state.end());

  auto traced = std::make_shared<TracedBody>();
  const auto outer_nodes = std::exchange(nodes_, &traced->nodes);
  const int outer_scope = std::exchange(scope_, ++n_scopes_);
  const auto given = [&](Shape shape, std::vector<int>& ids) {
    const Tensor t = make(shape, Extent::one);
    ids.push_back(t.id);
    return t;
  };
  std::vector<Tensor> states, rows;
  for (const StateRef& s : state) states.push_back(given(s.shape, traced->state));
  for (const Tensor& x : inputs) rows.push_back(given({{1, x.shape.d[1], x.shape.d[2]}}, traced->inputs));
  const ScanStep step = body(*this, states, rows);
  FR_CHECK(step.state.size() == state.size());
  traced->new_state = use(step.state);
  traced->outputs = use(step.outputs);
  nodes_ = outer_nodes;
  scope_ = outer_scope;

  node.body = std::move(traced);
  std::vector<Tensor> outputs;
  for (const Tensor& t : step.outputs) {
    outputs.push_back(make({{rows_, t.shape.d[1], t.shape.d[2]}}, Extent::batch));
    node.outputs.push_back(outputs.back().id);
  }
  nodes_->push_back(std::move(node));
  return outputs;
}

Tensor TraceOps::matvec(Tensor s, Tensor x, bool transposed) {
  const auto [heads, rows, cols] = s.shape.d;
  FR_CHECK(x.shape == (Shape{{1, heads, transposed ? rows : cols}}));
  TracedNode node{OpKind::matvec};
  node.transposed = transposed;
  return record(std::move(node), {s, x}, {{1, heads, transposed ? cols : rows}}, Extent::one);
}

Tensor TraceOps::outer(Tensor u, Tensor v) {
  FR_CHECK(u.shape.d[0] == 1 && v.shape.d[0] == 1 && u.shape.d[1] == v.shape.d[1]);
  return record(TracedNode{OpKind::outer}, {u, v}, {{u.shape.d[1], u.shape.d[2], v.shape.d[2]}}, Extent::one);
}

Tensor TraceOps::wanted(Tensor x) {
  FR_CHECK(x.extent == Extent::batch);
  return record(TracedNode{OpKind::wanted}, {x}, {{wanted_, x.shape.d[1], x.shape.d[2]}}, Extent::wanted);
}

namespace {

class Player {
 public:
  Player(const TracedGraph& graph, const WeightMap& weights)
      : weights_(weights), values_(graph.values.size()) {
    FR_CHECK(static_cast<std::size_t>(graph.n_vectors) == weights.vectors.size());
    std::copy(weights.vectors.begin(), weights.vectors.end(), values_.begin());
  }

  void play(std::span<const TracedNode> nodes, Ops& op) {
    for (const TracedNode& n : nodes) {
      if (n.op == OpKind::scan) {
        play_scan(n, op);
      } else if (n.op == OpKind::output) {
        op.output(n.port, in(n, 0));
      } else {
        value(n.outputs.at(0)) = play_one(n, op);
      }
    }
  }

 private:
  Tensor& value(int id) { return values_.at(static_cast<std::size_t>(id)); }
  Tensor in(const TracedNode& n, std::size_t i) { return value(n.inputs.at(i)); }
  std::vector<Tensor> all(std::span<const int> ids) {
    std::vector<Tensor> tensors;
    for (const int id : ids) tensors.push_back(value(id));
    return tensors;
  }
  const Mat& matrix(const TracedNode& n) const {
    return weights_.matrices.at(static_cast<std::size_t>(n.matrix));
  }

  Tensor play_one(const TracedNode& n, Ops& op) {
    switch (n.op) {
      case OpKind::embedding:
        return op.embedding(matrix(n));
      case OpKind::input:
        return op.input(n.port, n.cols);
      case OpKind::linear: {
        Mat m = matrix(n);
        if (n.inputs.size() > 1) m.bias.t = in(n, 1);
        return op.linear(in(n, 0), m, n.act);
      }
      case OpKind::binary:
        return op.binary(n.binary, in(n, 0), in(n, 1));
      case OpKind::unary:
        return op.unary(n.act, in(n, 0));
      case OpKind::affine:
        return op.affine(in(n, 0), n.scale, n.offset);
      case OpKind::norm:
        return op.norm(in(n, 0), n.eps, n.norm);
      case OpKind::sum:
        return op.sum(in(n, 0));
      case OpKind::reshape: {
        Shape shape = n.shape;
        if (in(n, 0).extent != Extent::one) shape.d[0] = in(n, 0).shape.d[0];
        return op.reshape(in(n, 0), shape);
      }
      case OpKind::slice:
        return op.slice(in(n, 0), n.begin, n.cols);
      case OpKind::shift:
        return op.shift(in(n, 0), n.state.at(0));
      case OpKind::matvec:
        return op.matvec(in(n, 0), in(n, 1), n.transposed);
      case OpKind::outer:
        return op.outer(in(n, 0), in(n, 1));
      case OpKind::wanted:
        return op.wanted(in(n, 0));
      case OpKind::output:
      case OpKind::scan:
        break;  // not one value
    }
    FR_CHECK(n.op != OpKind::output && n.op != OpKind::scan);
    return {};
  }

  void play_scan(const TracedNode& n, Ops& op) {
    const auto body = [&](Ops& o, std::span<const Tensor> state, std::span<const Tensor> inputs) -> ScanStep {
      const TracedBody& b = *n.body;
      for (std::size_t i = 0; i < state.size(); ++i) value(b.state.at(i)) = state[i];
      for (std::size_t i = 0; i < inputs.size(); ++i) value(b.inputs.at(i)) = inputs[i];
      play(b.nodes, o);
      return {all(b.new_state), all(b.outputs)};
    };
    const std::vector<Tensor> outputs = op.scan(n.state, all(n.inputs), body);
    for (std::size_t i = 0; i < outputs.size(); ++i) value(n.outputs.at(i)) = outputs[i];
  }

  const WeightMap& weights_;
  std::vector<Tensor> values_;
};

}  // namespace

void replay(const TracedGraph& graph, const WeightMap& weights, Ops& op) {
  Player(graph, weights).play(graph.nodes, op);
}

}  // namespace fr
