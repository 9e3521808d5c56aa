#include "export/ncnn_lower.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "core/batch.h"

namespace fr {
namespace {

using Dims = std::vector<int>;  // row-major

std::string number(float x) {
  std::array<char, 32> text;
  const auto end =
      std::to_chars(text.data(), text.data() + text.size(), x, std::chars_format::scientific).ptr;
  return {text.data(),
          end};  // the shortest that reads back as x; with an exponent, so that ncnn reads a float
}

std::string param(int id, const std::string& value) {
  std::string text = " ";  // no " " + ...: g++ 12 sees an overlapping copy in it
  return text.append(std::to_string(id)).append("=").append(value);
}
std::string param(int id, int value) { return param(id, std::to_string(value)); }
std::string param(int id, float value) { return param(id, number(value)); }
std::string array_param(int id, std::initializer_list<int> values) {
  std::string text = std::to_string(values.size());
  for (const int v : values) text.append(",").append(std::to_string(v));
  return param(-23300 - id, text);
}

// "0=w 1=h 2=c" as Input, MemoryData and Reshape take them.
std::string dims_params(const Dims& d) {
  std::string text;
  for (std::size_t i = 0; i < d.size(); ++i) text += param(static_cast<int>(i), d[d.size() - 1 - i]);
  return text;
}

enum UnaryCode { unary_neg = 1, unary_square = 4, unary_exp = 7 };
enum BinaryCode { binary_add = 0, binary_mul = 2, binary_max = 4 };
enum ReductionCode { reduce_sum = 0, reduce_l2 = 8 };
enum Activation { activation_relu = 1, activation_sigmoid = 4 };

class Lowering {
 public:
  Lowering(const TracedGraph& traced, const TraceWeights& weights, const NcnnLowering& options)
      : traced_(traced),
        weights_(weights),
        o_(options),
        flat_rank_(options.rows == 1 && !options.quantised ? 1 : 2),
        value_(traced.values.size(), -1) {}

  NcnnGraph run() {
    tokens_ = layer("Input", {}, {Dims{o_.rows}}, dims_params({o_.rows}), "input_id").outputs[0];
    g_.layers.back().name = o_.header;
    const std::vector<StateBlock>& blocks = o_.state->blocks;
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      const std::string name = ncnn_state_name(*o_.state, i);
      states_.push_back(layer("Input", {}, {blocks[i].shape}, dims_params(blocks[i].shape), name).outputs[0]);
    }
    new_states_.assign(blocks.size(), -1);
    for (const TracedNode& n : traced_.nodes) node(n, false);
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      const int blob = with_dims(new_states_[i], blocks[i].shape);
      g_.outputs.emplace_back("output_" + ncnn_state_name(*o_.state, i), blob);
    }
    initial_states();
    return std::move(g_);
  }

 private:
  // Appends a layer with one new blob for each of `outputs`.
  NcnnLayer& layer(const std::string& type, std::vector<int> inputs, const std::vector<Dims>& outputs,
                   std::string params, const std::string& blob_name = {}) {
    NcnnLayer l{type, type + "_" + std::to_string(g_.layers.size()), std::move(inputs), {}, std::move(params),
                {}};
    for (const Dims& d : outputs) {
      l.outputs.push_back(static_cast<int>(dims_.size()));
      dims_.push_back(d);
      g_.blobs.push_back(blob_name);
    }
    return g_.layers.emplace_back(std::move(l));
  }
  int op(const std::string& type, std::vector<int> inputs, Dims output, std::string params) {
    return layer(type, std::move(inputs), {std::move(output)}, std::move(params)).outputs[0];
  }
  const Dims& dims(int blob) const { return dims_.at(static_cast<std::size_t>(blob)); }

  // The same numbers with other dimensions; made once.
  int with_dims(int blob, const Dims& d) {
    if (dims(blob) == d) return blob;
    const auto [found, missing] = reshaped_.try_emplace({blob, d}, -1);
    if (missing) found->second = op("Reshape", {blob}, d, dims_params(d));
    return found->second;
  }

  const Shape& shape(int value) const { return traced_.values.at(static_cast<std::size_t>(value)).shape; }
  // {T, 1, D} as rows, {D} or {T, D}; anything as {c, h, w}.
  Dims flat_dims(const Shape& s) const { return flat_rank_ == 1 ? Dims{s.d[2]} : Dims{s.d[0], s.d[2]}; }
  static Dims cube_dims(const Shape& s) { return {s.d.begin(), s.d.end()}; }

  // The blob of a value with these dimensions. Vectors become MemoryData at their first use.
  int as(int value, const Dims& d) {
    int& blob = value_.at(static_cast<std::size_t>(value));
    if (blob < 0) {
      FR_CHECK(value < traced_.n_vectors);
      NcnnLayer& l = layer("MemoryData", {}, {d}, dims_params(d));
      l.weights.push_back({.vector = value, .values = {}});
      blob = l.outputs[0];
    }
    return with_dims(blob, d);
  }
  int flat(int value) { return as(value, flat_dims(shape(value))); }
  int cube(int value) { return as(value, cube_dims(shape(value))); }
  // As it lies; the last dimension is the same in every form.
  int any(int value) {
    const int blob = value_.at(static_cast<std::size_t>(value));
    return blob >= 0 ? blob : cube(value);
  }
  void set(int value, int blob) { value_.at(static_cast<std::size_t>(value)) = blob; }

  int unary(UnaryCode code, int x) { return op("UnaryOp", {x}, dims(x), param(0, static_cast<int>(code))); }
  int scalar(BinaryCode code, int x, float b) {
    return op("BinaryOp", {x}, dims(x), param(0, static_cast<int>(code)) + param(1, 1) + param(2, b));
  }
  int act(Act f, int x) {
    switch (f) {
      case Act::none:
        return x;
      case Act::tanh:
        return op("TanH", {x}, dims(x), "");
      case Act::sigmoid:
        return op("Sigmoid", {x}, dims(x), "");
      case Act::exp:
        return unary(unary_exp, x);
      case Act::silu:
        return op("Swish", {x}, dims(x), "");
      case Act::relu2:
        return unary(unary_square, op("ReLU", {x}, dims(x), ""));
      case Act::decay6:
        return unary(unary_exp, unary(unary_neg, unary(unary_exp, x)));
      case Act::decay7:
        return unary(unary_exp, scalar(binary_mul, op("Sigmoid", {x}, dims(x), ""), -0.606531f));
    }
    return x;
  }

  void node(const TracedNode& n, bool in_body) {
    switch (n.op) {
      case OpKind::embedding:
        return embedding(n);
      case OpKind::input:
        FR_CHECK(n.op != OpKind::input);  // whole models only
        return;
      case OpKind::output:
        return output(n);
      case OpKind::linear:
        return set(n.outputs[0], linear(n));
      case OpKind::binary:
        return binary(n, in_body);
      case OpKind::unary:
        return set(n.outputs[0], act(n.act, any(n.inputs[0])));
      case OpKind::affine:
        return set(n.outputs[0], affine(n));
      case OpKind::norm:
        return set(n.outputs[0], norm(n));
      case OpKind::sum:
        return set(n.outputs[0], reduce(reduce_sum, any(n.inputs[0])));
      case OpKind::reshape:  // whoever uses it asks for the dimensions
        return set(n.outputs[0], any(n.inputs[0]));
      case OpKind::slice:
        return slice(n);
      case OpKind::shift:
        return shift(n);
      case OpKind::scan:
        return scan(n);
      case OpKind::matvec:
        return matvec(n);
      case OpKind::outer:
        return outer(n);
      case OpKind::wanted:  // every row is
        return set(n.outputs[0], any(n.inputs[0]));
    }
  }

  void embedding(const TracedNode& n) {
    const auto m = static_cast<std::size_t>(n.matrix);
    const TensorView& w = weights_.matrices().at(m).view;
    const int rows = static_cast<int>(w.shape[0]), cols = static_cast<int>(w.shape[1]);
    const std::string params = param(0, cols) + param(1, rows) + param(3, rows * cols);
    NcnnLayer& l = layer("Embed", {tokens_}, {Dims{o_.rows, cols}}, params);
    l.name = w.name;
    l.weights.push_back({.matrix = n.matrix, .storage = o_.storage.at(m), .values = {}});
    set(n.outputs[0], l.outputs[0]);
  }

  void output(const TracedNode& n) {
    const int blob = flat(n.inputs[0]);
    if (n.port == port_hidden) {
      g_.blobs.at(static_cast<std::size_t>(blob)) = "hidden";
    } else {
      FR_CHECK(n.port == port_logits);
      g_.outputs.emplace_back("output", blob);
    }
  }

  int linear(const TracedNode& n) {
    const auto m = static_cast<std::size_t>(n.matrix);
    const TensorView& w = weights_.matrices().at(m).view;
    const int out = static_cast<int>(w.shape[0]), in = static_cast<int>(w.shape[1]);
    const bool biased = n.inputs.size() > 1;
    const NcnnStorage storage = o_.storage.at(m);
    const bool blocks = storage == NcnnStorage::int8 || storage == NcnnStorage::int4;
    const int x = flat(n.inputs[0]);
    const Dims d = flat_rank_ == 1 ? Dims{out} : Dims{o_.rows, out};
    Act f = n.act;
    std::string params;
    if (blocks) {  // B is constant and transposed; C is the bias, one number per column, or nothing
      params = param(3, 1) + param(5, 1) + param(6, 1) + param(8, out) + param(9, in) +
               param(10, biased ? 4 : -1) + param(18, storage == NcnnStorage::int8 ? 800 : 400);
    } else {
      params = param(0, out) + param(1, biased ? 1 : 0) + param(2, out * in);
      if (f == Act::relu2) params += param(9, static_cast<int>(activation_relu));
      if (f == Act::sigmoid) params += param(9, static_cast<int>(activation_sigmoid)), f = Act::none;
    }
    NcnnLayer& l = layer(blocks ? "Gemm" : "InnerProduct", {x}, {d}, params);
    l.name = w.name;
    l.weights.push_back({.matrix = n.matrix, .storage = storage, .values = {}});
    if (biased) l.weights.push_back({.vector = n.inputs[1], .values = {}, .tagged = blocks});
    const int y = l.outputs[0];
    return !blocks && f == Act::relu2 ? unary(unary_square, y) : act(f, y);
  }

  void binary(const TracedNode& n, bool in_body) {
    const Shape &a = shape(n.inputs[0]), &b = shape(n.inputs[1]);
    const bool rows = !in_body && a.d[1] == 1 && b.d[1] == 1;
    const int x = rows ? flat(n.inputs[0]) : cube(n.inputs[0]),
              y = rows ? flat(n.inputs[1]) : cube(n.inputs[1]);
    set(n.outputs[0], binary(static_cast<int>(n.binary), x, y));  // ncnn numbers them as BinaryOp does
  }
  static_assert(static_cast<int>(BinaryOp::add) == 0 && static_cast<int>(BinaryOp::sub) == 1 &&
                static_cast<int>(BinaryOp::mul) == 2 && static_cast<int>(BinaryOp::div) == 3 &&
                static_cast<int>(BinaryOp::max) == 4);
  int binary(int code, int x, int y) {
    Dims d = dims(x);
    for (std::size_t i = 0; i < d.size(); ++i) d[i] = std::max(d[i], dims(y).at(i));
    return op("BinaryOp", {x, y}, d, param(0, code));
  }

  int affine(const TracedNode& n) {
    int x = any(n.inputs[0]);
    if (n.scale == -1) {
      x = unary(unary_neg, x);
    } else if (n.scale != 1) {
      x = scalar(binary_mul, x, n.scale);
    }
    return n.offset != 0 ? scalar(binary_add, x, n.offset) : x;
  }

  int reduce(ReductionCode code, int x) {
    Dims d = dims(x);
    d.back() = 1;
    return op(
        "Reduction", {x}, d,
        param(0, static_cast<int>(code)) + param(1, 0) + array_param(3, {-1}) + param(4, 1) + param(5, 1));
  }
  int norm(const TracedNode& n) {
    const int x = any(n.inputs[0]);
    if (n.norm == NormKind::l2)
      return binary(static_cast<int>(BinaryOp::div), x, scalar(binary_max, reduce(reduce_l2, x), n.eps));
    return op("LayerNorm", {x}, dims(x), param(0, dims(x).back()) + param(1, n.eps) + param(2, 0));
  }

  int crop(int x, int axis, int begin, int end) {
    Dims d = dims(x);
    d.at(static_cast<std::size_t>(axis)) = end - begin;
    return op("Crop", {x}, d, array_param(9, {begin}) + array_param(10, {end}) + array_param(11, {axis}));
  }
  void slice(const TracedNode& n) {
    set(n.outputs[0], crop(flat(n.inputs[0]), flat_rank_ - 1, n.begin, n.begin + n.cols));
  }

  void shift(const TracedNode& n) {
    const auto block = static_cast<std::size_t>(n.state.at(0).block);
    const int x = flat(n.inputs[0]), cols = shape(n.inputs[0]).d[2];
    if (o_.rows == 1) {
      set(n.outputs[0], states_.at(block));
      new_states_.at(block) = x;
      return;
    }
    const int previous = with_dims(states_.at(block), {1, cols});
    set(n.outputs[0], op("Concat", {previous, crop(x, 0, 0, o_.rows - 1)}, {o_.rows, cols}, param(0, 0)));
    new_states_.at(block) = crop(x, 0, o_.rows - 1, o_.rows);
  }

  // The body once for each row, with the state handed on.
  void scan(const TracedNode& n) {
    const TracedBody& body = *n.body;
    std::vector<std::vector<int>> inputs, outputs(n.outputs.size());  // by input, output and row
    for (const int value : n.inputs) inputs.push_back(rows_of(value));
    std::vector<int> state;
    for (const StateRef& s : n.state) state.push_back(states_.at(static_cast<std::size_t>(s.block)));
    for (std::size_t t = 0; t < static_cast<std::size_t>(o_.rows); ++t) {
      for (std::size_t i = 0; i < state.size(); ++i) set(body.state[i], state[i]);
      for (std::size_t i = 0; i < inputs.size(); ++i) set(body.inputs[i], inputs[i][t]);
      for (const TracedNode& inner : body.nodes) node(inner, true);
      for (std::size_t i = 0; i < state.size(); ++i) state[i] = any(body.new_state[i]);
      for (std::size_t i = 0; i < outputs.size(); ++i) outputs[i].push_back(cube(body.outputs[i]));
    }
    for (std::size_t i = 0; i < state.size(); ++i)
      new_states_.at(static_cast<std::size_t>(n.state[i].block)) = state[i];
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      const bool one = o_.rows == 1;
      const Dims d = cube_dims(shape(n.outputs[i]));
      set(n.outputs[i], one ? outputs[i][0] : op("Concat", outputs[i], d, param(0, 0)));
    }
  }
  std::vector<int> rows_of(int value) {
    if (o_.rows == 1) return {any(value)};
    Dims d = cube_dims(shape(value));
    d[0] = 1;
    std::string parts = std::to_string(o_.rows);
    for (int t = 0; t < o_.rows; ++t) parts += ",1";
    const int x = cube(value);
    return layer("Slice", {x}, std::vector<Dims>(static_cast<std::size_t>(o_.rows), d),
                 param(-23300, parts) + param(1, 0))
        .outputs;
  }

  // Rows times matrices, head by head: x S^T as it lies, or x S.
  void matvec(const TracedNode& n) {
    const auto [heads, rows, cols] = shape(n.inputs[0]).d;
    const int s = cube(n.inputs[0]), in = n.transposed ? rows : cols, out = n.transposed ? cols : rows;
    const int x = as(n.inputs[1], {heads, 1, in});
    set(n.outputs[0], op("MatMul", {x, s}, {heads, 1, out}, n.transposed ? "" : param(0, 1)));
  }

  void outer(const TracedNode& n) {
    const Shape &u = shape(n.inputs[0]), &v = shape(n.inputs[1]);
    const int x = as(n.inputs[0], {u.d[1], u.d[2], 1}), y = as(n.inputs[1], {v.d[1], 1, v.d[2]});
    set(n.outputs[0], binary(static_cast<int>(BinaryOp::mul), x, y));
  }

  void initial_states() {
    for (std::size_t i = 0; i < o_.state->blocks.size(); ++i) {
      const StateBlock& b = o_.state->blocks[i];
      const auto begin = o_.initial_state.begin() + b.offset;
      std::vector<float> values(begin, begin + b.size);
      if (std::all_of(values.begin(), values.end(), [](float v) { return v == 0; })) continue;
      NcnnLayer& l = layer("MemoryData", {}, {b.shape}, dims_params(b.shape));
      g_.outputs.emplace_back("initial_" + ncnn_state_name(*o_.state, i), l.outputs[0]);
      l.weights.push_back({.values = std::move(values)});
    }
  }

  const TracedGraph& traced_;
  const TraceWeights& weights_;
  const NcnnLowering& o_;
  const int flat_rank_;
  NcnnGraph g_;
  std::vector<Dims> dims_;  // by blob
  std::map<std::pair<int, Dims>, int> reshaped_;
  std::vector<int> value_;                // blob of a traced value, -1: none yet
  std::vector<int> states_, new_states_;  // blobs by state block
  int tokens_ = -1;
};

}  // namespace

NcnnGraph lower_to_ncnn(const TracedGraph& graph, const TraceWeights& weights, const NcnnLowering& options) {
  return Lowering(graph, weights, options).run();
}

std::string ncnn_state_name(const StateSpec& spec, std::size_t block) {
  const int layer = spec.blocks.at(block).layer;
  std::size_t first = block;
  while (first > 0 && spec.blocks[first - 1].layer == layer) --first;
  return "state_" + std::to_string(layer) + "_" + std::to_string(block - first);
}

}  // namespace fr
