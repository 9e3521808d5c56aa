#include "export/onnx_lower.h"

#include <algorithm>
#include <set>

#include "core/batch.h"
#include "export/onnx_builder.h"

namespace fr::onnx {
namespace {

Dims canonical_dims(const StateBlock& block) { return {block.shape.begin(), block.shape.end()}; }

class Lowering {
 public:
  Lowering(const TracedGraph& step, const Weights& weights, const StateSpec& state, Kind kind,
           std::string_view location)
      : step_(step), weights_(weights), state_(state), kind_(kind), b_(location) {
    values_.resize(step.values.size());
  }

  Graph run() {
    b_.graph().input("tokens", Type::i64, {kind_ == Kind::decode ? 1 : dim_t});
    if (kind_ == Kind::sequence) b_.graph().input("wanted", Type::i64, {dim_w});
    for (const StateBlock& block : state_.blocks)
      b_.graph().input("state." + block.name, Type::f32, canonical_dims(block));
    lower(step_.nodes);
    for (const auto& [name, dims] : results_) b_.graph().output(name, Type::f32, dims);
    for (const StateBlock& block : state_.blocks)
      b_.graph().output("new_state." + block.name, Type::f32, canonical_dims(block));
    return std::move(b_.graph());
  }

 private:
  const TracedValue& traced(int id) const { return step_.values.at(static_cast<std::size_t>(id)); }
  const StateBlock& block(const StateRef& ref) const {
    return state_.blocks.at(static_cast<std::size_t>(ref.block));
  }

  // The shape of a traced value: without its axes of size 1 but the last; of a single row, the first stays.
  // {T, 1, D} is [T, D], {T, H, N} is [T, H, N] or, of a single row, [H, N].
  Dims dims_of(int id) const {
    const auto [rows, heads, cols] = traced(id).shape.d;
    const Extent extent = traced(id).extent;
    Dims dims;
    if (extent == Extent::one) {
      if (rows > 1) dims.push_back(rows);
    } else if (kind_ == Kind::sequence) {
      dims.push_back(extent == Extent::wanted ? dim_w : dim_t);
    } else if (heads == 1) {
      dims.push_back(1);
    }
    if (heads > 1 || (extent == Extent::one && rows > 1)) dims.push_back(heads);
    dims.push_back(cols);
    return dims;
  }

  Value get(int id) {
    if (id < step_.n_vectors) return {b_.weight(weights_.vector(id)), weights_.vector(id).dims};
    const Value& v = values_.at(static_cast<std::size_t>(id));
    FR_CHECK(!v.name.empty());
    return v;
  }
  std::string name_of(int id) { return id < 0 ? "" : get(id).name; }
  void set(int id, Value v) { values_.at(static_cast<std::size_t>(id)) = std::move(v); }

  void lower(const std::vector<TracedNode>& nodes);
  Value lower_one(const TracedNode& n);
  Value embedding(const TracedNode& n);
  Value norm(const TracedNode& n, const std::string& scale, const std::string& bias);
  Value linear(const TracedNode& n, const std::string& bias);
  Value shift(const TracedNode& n);
  Value matvec(const TracedNode& n);
  Value outer(const TracedNode& n);
  void output(const TracedNode& n);
  void scan(const TracedNode& n);
  void inlined_scan(const TracedNode& n);
  void scan_body(const TracedNode& n, Graph& body);
  // The vector that a node, the next one, combines with this value, its only user; or -1.
  int vector_of(const TracedNode* next, BinaryOp op, int value) const;

  const TracedGraph& step_;
  const Weights& weights_;
  const StateSpec& state_;
  const Kind kind_;
  Builder b_;
  std::vector<Value> values_;
  std::vector<std::pair<std::string, Dims>> results_;
};

int Lowering::vector_of(const TracedNode* next, BinaryOp op, int value) const {
  if (next == nullptr || next->op != OpKind::binary || next->binary != op || traced(value).uses != 1)
    return -1;
  const int other = next->inputs[0] == value ? next->inputs[1] : next->inputs[0];
  const bool used = next->inputs[0] == value || next->inputs[1] == value;
  const Shape want{{1, 1, traced(value).shape.d[2]}};
  return used && other < step_.n_vectors && traced(other).shape == want ? other : -1;
}

// Node by node; a norm takes the weight and the bias that follow it, a product its bias.
void Lowering::lower(const std::vector<TracedNode>& nodes) {
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    const TracedNode& n = nodes[i];
    const auto ahead = [&](std::size_t k) { return i + k < nodes.size() ? &nodes[i + k] : nullptr; };
    if (n.op == OpKind::scan) {
      kind_ == Kind::sequence ? scan(n) : inlined_scan(n);
    } else if (n.op == OpKind::output) {
      output(n);
    } else if (n.op == OpKind::norm && n.norm == NormKind::layer) {
      const int scale = vector_of(ahead(1), BinaryOp::mul, n.outputs[0]);
      const int bias = scale < 0 ? -1 : vector_of(ahead(2), BinaryOp::add, ahead(1)->outputs[0]);
      const Value y = norm(n, name_of(scale), name_of(bias));
      i += (scale < 0 ? 0 : 1) + (bias < 0 ? 0 : 1);
      set(nodes[i].outputs[0], y);
    } else if (n.op == OpKind::linear) {
      const int own = n.inputs.size() > 1 ? n.inputs[1] : -1;
      const bool free = own < 0 && n.act == Act::none;
      const int added = free ? vector_of(ahead(1), BinaryOp::add, n.outputs[0]) : -1;
      const Value y = linear(n, name_of(std::max(own, added)));
      i += added < 0 ? 0 : 1;
      set(nodes[i].outputs[0], y);
    } else {
      set(n.outputs.at(0), lower_one(n));
    }
  }
}

Value Lowering::lower_one(const TracedNode& n) {
  const auto in = [&](std::size_t i) { return get(n.inputs.at(i)); };
  switch (n.op) {
    case OpKind::embedding:
      return embedding(n);
    case OpKind::binary: {
      constexpr const char* names[] = {"Add", "Sub", "Mul", "Div", "Max"};  // as BinaryOp
      const Value a = in(0), b = in(1);
      return b_.emit(names[static_cast<std::size_t>(n.binary)], {a.name, b.name}, broadcast(a.dims, b.dims));
    }
    case OpKind::unary:
      return b_.activated(in(0), n.act);
    case OpKind::affine: {
      Value x = in(0);
      if (n.scale != 1) x = b_.emit("Mul", {x.name, b_.number(n.scale)}, x.dims);
      if (n.offset != 0) x = b_.emit("Add", {x.name, b_.number(n.offset)}, x.dims);
      return x;
    }
    case OpKind::norm: {  // l2
      const Value x = in(0);
      const Dims one = reduced(x.dims);
      const Value length = b_.emit("ReduceL2", {x.name}, one, {{"axes", Dims{-1}}, {"keepdims", 1}});
      return b_.emit("Div", {x.name, b_.emit("Max", {length.name, b_.number(n.eps)}, one).name}, x.dims);
    }
    case OpKind::sum: {
      const Value x = in(0);
      return b_.emit("ReduceSum", {x.name, b_.integers({-1})}, reduced(x.dims), {{"keepdims", 1}});
    }
    case OpKind::reshape:
      return b_.shaped(in(0), dims_of(n.outputs[0]));
    case OpKind::slice: {
      const Value x = in(0);
      Dims dims = x.dims;
      dims.back() = n.cols;
      return b_.emit("Slice",
                     {x.name, b_.integers({n.begin}), b_.integers({n.begin + n.cols}), b_.integers({-1})},
                     dims);
    }
    case OpKind::shift:
      return shift(n);
    case OpKind::matvec:
      return matvec(n);
    case OpKind::outer:
      return outer(n);
    case OpKind::wanted:
      if (kind_ == Kind::decode) return in(0);
      return b_.emit("Gather", {in(0).name, "wanted"}, dims_of(n.outputs[0]), {{"axis", 0}});
    default:
      FR_CHECK(false);  // not one value, or a port of a split model
      return {};
  }
}

Value Lowering::embedding(const TracedNode& n) {
  const External& table = weights_.matrix(n.matrix);
  const Value rows = b_.emit("Gather", {b_.weight(table), "tokens"}, dims_of(n.outputs[0]), {{"axis", 0}});
  return table.type == Type::f16 ? b_.widened(rows.name, rows.dims) : rows;
}

Value Lowering::norm(const TracedNode& n, const std::string& scale, const std::string& bias) {
  const Value x = get(n.inputs[0]);
  std::vector<std::string> inputs{x.name, scale.empty() ? b_.ones(x.dims.back()) : scale};
  if (!bias.empty()) inputs.push_back(bias);
  return b_.emit("LayerNormalization", inputs, x.dims, {{"axis", -1}, {"epsilon", n.eps}});
}

Value Lowering::linear(const TracedNode& n, const std::string& bias) {
  const External& matrix = weights_.matrix(n.matrix);
  const Dims dims = dims_of(n.outputs[0]);
  const Value x = b_.shaped(get(n.inputs[0]), {dims[0], matrix.dims[1]});
  std::string w = b_.weight(matrix);
  if (matrix.type == Type::f16) w = b_.widened(w, matrix.dims).name;
  std::vector<std::string> inputs{x.name, w};
  if (!bias.empty()) inputs.push_back(bias);
  return b_.activated(b_.emit("Gemm", inputs, dims, {{"transB", 1}}), n.act);
}

Value Lowering::shift(const TracedNode& n) {
  const StateBlock& state = block(n.state.at(0));
  const Value x = get(n.inputs[0]);
  const Value before = b_.shaped({"state." + state.name, canonical_dims(state)}, {1, x.dims.back()});
  const std::string next = "new_state." + state.name;
  if (kind_ == Kind::decode) {
    b_.shaped(x, canonical_dims(state), next);
    return before;
  }
  b_.emit("Gather", {x.name, b_.integer(-1)}, canonical_dims(state), {{"axis", 0}}, next);
  const Value but_last =
      b_.emit("Slice", {x.name, b_.integers({0}), b_.integers({-1}), b_.integers({0})}, x.dims);
  return b_.emit("Concat", {before.name, but_last.name}, x.dims, {{"axis", 0}});
}

// S [H, M, N] times columns or, transposed, rows times S: a product of matrices for each head.
Value Lowering::matvec(const TracedNode& n) {
  const auto [heads, rows, cols] = traced(n.inputs[0]).shape.d;
  const Value s = b_.shaped(get(n.inputs[0]), {heads, rows, cols}), x = get(n.inputs[1]);
  const Dims dims = dims_of(n.outputs[0]);
  if (n.transposed) {
    const Value row = b_.shaped(x, {heads, 1, rows});
    return b_.shaped(b_.emit("MatMul", {row.name, s.name}, {heads, 1, cols}), dims);
  }
  const Value column = b_.shaped(x, {heads, cols, 1});
  return b_.shaped(b_.emit("MatMul", {s.name, column.name}, {heads, rows, 1}), dims);
}

Value Lowering::outer(const TracedNode& n) {
  const auto [heads, rows, cols] = traced(n.outputs[0]).shape.d;
  const Value u = b_.shaped(get(n.inputs[0]), {heads, rows, 1}),
              v = b_.shaped(get(n.inputs[1]), {heads, 1, cols});
  return b_.emit("Mul", {u.name, v.name}, {heads, rows, cols});
}

void Lowering::output(const TracedNode& n) {
  const std::string name = n.port == port_logits ? "logits" : "hidden";
  FR_CHECK(n.port == port_logits || n.port == port_hidden);
  const Value x = get(n.inputs[0]);
  results_.emplace_back(b_.shaped(x, x.dims, name).name, x.dims);
}

// Fills the body: state blocks, then rows of the inputs; new state, then outputs.
void Lowering::scan_body(const TracedNode& n, Graph& body) {
  const TracedBody& b = *n.body;
  std::set<std::string> taken;  // names that cannot be outputs (again)
  const auto given = [&](int id, const Dims& dims) {
    const Value v{b_.fresh("in"), dims};
    body.input(v.name, Type::f32, dims);
    taken.insert(v.name);
    set(id, v);
  };
  const auto returned = [&](int id, const Dims& dims) {
    Value v = b_.shaped(get(id), dims);
    if (!taken.insert(v.name).second) v = b_.shaped(v, dims, b_.fresh("out"));
    body.output(v.name, Type::f32, dims);
  };
  b_.set_body(&body);
  for (std::size_t i = 0; i < b.state.size(); ++i) given(b.state[i], canonical_dims(block(n.state[i])));
  for (const int id : b.inputs) given(id, dims_of(id));
  lower(b.nodes);
  for (std::size_t i = 0; i < b.new_state.size(); ++i)
    returned(b.new_state[i], canonical_dims(block(n.state[i])));
  for (const int id : b.outputs) returned(id, dims_of(id));
  b_.set_body(nullptr);
}

void Lowering::scan(const TracedNode& n) {
  Graph body;
  scan_body(n, body);
  std::vector<std::string> inputs, outputs;
  for (const StateRef& s : n.state) inputs.push_back("state." + block(s).name);
  for (const int id : n.inputs) inputs.push_back(b_.shaped(get(id), dims_of(id)).name);
  for (const StateRef& s : n.state) outputs.push_back("new_state." + block(s).name);
  for (const int id : n.outputs) {
    outputs.push_back(b_.fresh("Scan"));
    set(id, {outputs.back(), dims_of(id)});
  }
  const Attribute attributes[] = {{"body", body}, {"num_scan_inputs", static_cast<int>(n.inputs.size())}};
  b_.graph().node("Scan", inputs, outputs, attributes);
}

void Lowering::inlined_scan(const TracedNode& n) {
  const TracedBody& b = *n.body;
  for (std::size_t i = 0; i < b.state.size(); ++i)
    set(b.state[i], {"state." + block(n.state[i]).name, canonical_dims(block(n.state[i]))});
  for (std::size_t i = 0; i < b.inputs.size(); ++i) set(b.inputs[i], get(n.inputs[i]));
  lower(b.nodes);
  for (std::size_t i = 0; i < b.new_state.size(); ++i) {
    const StateBlock& state = block(n.state[i]);
    b_.shaped(get(b.new_state[i]), canonical_dims(state), "new_state." + state.name);
  }
  for (std::size_t i = 0; i < b.outputs.size(); ++i) set(n.outputs[i], get(b.outputs[i]));
}

}  // namespace

Graph lower(const TracedGraph& step, const Weights& weights, const StateSpec& state, Kind kind,
            std::string_view data_location) {
  return Lowering(step, weights, state, kind, data_location).run();
}

Graph initial_graph(const Weights& weights, const StateSpec& state, std::string_view data_location) {
  Graph graph;
  for (std::size_t i = 0; i < state.blocks.size(); ++i) {
    const StateBlock& block = state.blocks[i];
    const std::string name = "state." + block.name, sizes = "sizes." + block.name;
    const Dims dims = canonical_dims(block);
    if (weights.initial().empty()) {
      const Attribute value = Attribute::tensor("value", block.initial);
      graph.constant(sizes, {static_cast<std::int64_t>(dims.size())}, dims);
      graph.node("ConstantOfShape", {&sizes, 1}, {&name, 1}, {&value, 1});
    } else {
      const External& tuned = weights.initial()[i];
      graph.constant(tuned, data_location);
      graph.node("Identity", {&tuned.name, 1}, {&name, 1});
    }
    graph.output(name, Type::f32, dims);
  }
  return graph;
}

}  // namespace fr::onnx
