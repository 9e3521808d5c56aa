// Runs the operators that exported graphs use, as the ONNX standard defines them: plain loops, for tests.
#pragma once
#include <algorithm>
#include <cmath>
#include <set>

#include "onnx_file.h"

namespace fr::test::onnx {

using Values = std::map<std::string, Tensor>;

class Interpreter {
 public:
  // Outputs of the graph, given its inputs; `outer`: what a body sees of the graph around it.
  static Values run(const Graph& graph, Values values, const Interpreter* outer = nullptr) {
    Interpreter self(outer);
    self.values_ = std::move(values);
    for (const auto& [name, tensor] : graph.constants) self.values_.emplace(name, tensor);
    for (const Node& n : graph.nodes) self.run(n);
    Values results;
    for (const Port& port : graph.outputs) results.emplace(port.name, self.get(port.name));
    return results;
  }

 private:
  explicit Interpreter(const Interpreter* outer) : outer_(outer) {}

  const Tensor& get(const std::string& name) const {
    const auto found = values_.find(name);
    if (found != values_.end()) return found->second;
    if (outer_ == nullptr) throw std::runtime_error("nobody makes " + name);
    return outer_->get(name);
  }

  void set(const std::string& name, Tensor t) {
    if (t.size() != static_cast<std::int64_t>(t.values.size())) throw std::runtime_error("shape of " + name);
    if (!values_.emplace(name, std::move(t)).second) throw std::runtime_error(name + " is made twice");
  }

  static std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

  void run(const Node& n) {
    if (n.op == "Scan") return scan(n);
    if (n.outputs.size() != 1) throw std::runtime_error("outputs of " + n.op);
    set(n.outputs[0], compute(n));
  }

  Tensor compute(const Node& n) {
    const auto in = [&](std::size_t i) -> const Tensor& { return get(n.inputs.at(i)); };
    const auto map = [&](auto f) {
      Tensor t = in(0);
      for (float& x : t.values) x = f(x);
      return t;
    };
    if (n.op == "Identity" || n.op == "Cast") return in(0);
    if (n.op == "Tanh") return map([](float x) { return std::tanh(x); });
    if (n.op == "Sigmoid") return map([](float x) { return 1 / (1 + std::exp(-x)); });
    if (n.op == "Exp") return map([](float x) { return std::exp(x); });
    if (n.op == "Neg") return map([](float x) { return -x; });
    if (n.op == "Relu") return map([](float x) { return std::max(x, 0.0f); });
    if (n.op == "Add") return broadcast(in(0), in(1), [](float a, float b) { return a + b; });
    if (n.op == "Sub") return broadcast(in(0), in(1), [](float a, float b) { return a - b; });
    if (n.op == "Mul") return broadcast(in(0), in(1), [](float a, float b) { return a * b; });
    if (n.op == "Div") return broadcast(in(0), in(1), [](float a, float b) { return a / b; });
    if (n.op == "Max") return broadcast(in(0), in(1), [](float a, float b) { return std::max(a, b); });
    if (n.op == "ReduceSum") return reduce(in(0), [](float sum, float x) { return sum + x; });
    if (n.op == "ReduceL2") {
      Tensor t = reduce(in(0), [](float sum, float x) { return sum + x * x; });
      for (float& x : t.values) x = std::sqrt(x);
      return t;
    }
    if (n.op == "Gather") return gather(in(0), in(1));
    if (n.op == "Gemm") return gemm(n);
    if (n.op == "MatMul") return matmul(in(0), in(1));
    if (n.op == "LayerNormalization") return layer_norm(n);
    if (n.op == "Reshape") return reshape(in(0), in(1));
    if (n.op == "Slice") return slice(in(0), in(3).values[0] < 0 ? in(0).dims.size() - 1 : 0, in(1), in(2));
    if (n.op == "Concat") return concat(in(0), in(1));
    if (n.op == "ConstantOfShape") {
      Tensor t;
      for (const float d : in(0).values) t.dims.push_back(static_cast<std::int64_t>(d));
      t.values.assign(at(t.size()), read_tensor(parse(text(n.attributes.at("value"), 5)), {}).values.at(0));
      return t;
    }
    throw std::runtime_error("unknown operator " + n.op);
  }

  template <class F>
  static Tensor broadcast(const Tensor& a, const Tensor& b, F f) {
    Tensor out;
    const std::size_t rank = std::max(a.dims.size(), b.dims.size());
    const auto dim = [&](const Tensor& t, std::size_t i) {
      return i + t.dims.size() < rank ? 1 : t.dims[i + t.dims.size() - rank];
    };
    for (std::size_t i = 0; i < rank; ++i) {
      if (dim(a, i) != dim(b, i) && dim(a, i) != 1 && dim(b, i) != 1) throw std::runtime_error("broadcast");
      out.dims.push_back(dim(a, i) == 1 ? dim(b, i) : dim(a, i));
    }
    for (std::int64_t k = 0; k < out.size(); ++k) {
      std::int64_t ia = 0, ib = 0, rest = k, step_a = 1, step_b = 1;
      for (std::size_t i = rank; i-- > 0; rest /= out.dims[i]) {
        const std::int64_t at_i = rest % out.dims[i];
        ia += dim(a, i) == 1 ? 0 : at_i * step_a;
        ib += dim(b, i) == 1 ? 0 : at_i * step_b;
        step_a *= dim(a, i);
        step_b *= dim(b, i);
      }
      out.values.push_back(f(a.values[at(ia)], b.values[at(ib)]));
    }
    return out;
  }

  template <class F>
  static Tensor reduce(const Tensor& x, F f) {  // the last axis, kept
    Tensor out{x.dims, {}};
    out.dims.back() = 1;
    out.values.resize(at(out.size()));
    for (std::size_t i = 0; i < x.values.size(); ++i) {
      float& sum = out.values[i / at(x.dims.back())];
      sum = f(sum, x.values[i]);
    }
    return out;
  }

  static Tensor gather(const Tensor& x, const Tensor& indices) {  // of axis 0
    Tensor out{indices.dims, {}};
    out.dims.insert(out.dims.end(), x.dims.begin() + 1, x.dims.end());
    const std::int64_t row = x.size() / x.dims[0];
    for (const float f : indices.values) {
      const auto i = static_cast<std::int64_t>(f) + (f < 0 ? x.dims[0] : 0);
      if (i < 0 || i >= x.dims[0]) throw std::runtime_error("index of Gather");
      out.values.insert(out.values.end(), x.values.begin() + i * row, x.values.begin() + (i + 1) * row);
    }
    return out;
  }

  Tensor gemm(const Node& n) {  // x W^T + bias
    const Tensor &x = get(n.inputs[0]), &w = get(n.inputs[1]);
    if (number(n.attributes.at("transB"), 3) != 1 || x.dims.size() != 2 || x.dims[1] != w.dims.at(1))
      throw std::runtime_error("Gemm");
    Tensor out{{x.dims[0], w.dims[0]}, {}};
    for (std::int64_t i = 0; i < x.dims[0]; ++i) {
      for (std::int64_t j = 0; j < w.dims[0]; ++j) {
        float sum = 0;
        for (std::int64_t k = 0; k < x.dims[1]; ++k)
          sum += x.values[at(i * x.dims[1] + k)] * w.values[at(j * x.dims[1] + k)];
        out.values.push_back(sum);
      }
    }
    if (n.inputs.size() < 3) return out;
    return broadcast(out, get(n.inputs[2]), [](float a, float b) { return a + b; });
  }

  static Tensor matmul(const Tensor& a, const Tensor& b) {  // [H, M, K] x [H, K, N]
    if (a.dims.size() != 3 || b.dims.size() != 3 || a.dims[0] != b.dims[0] || a.dims[2] != b.dims[1])
      throw std::runtime_error("MatMul");
    const std::int64_t rows = a.dims[1], inner = a.dims[2], cols = b.dims[2];
    Tensor out{{a.dims[0], rows, cols}, {}};
    for (std::int64_t i = 0; i < out.size(); ++i) {
      const std::int64_t head = i / (rows * cols), row = i / cols % rows, col = i % cols;
      float sum = 0;
      for (std::int64_t k = 0; k < inner; ++k)
        sum += a.values[at((head * rows + row) * inner + k)] * b.values[at((head * inner + k) * cols + col)];
      out.values.push_back(sum);
    }
    return out;
  }

  Tensor layer_norm(const Node& n) {
    Tensor out = get(n.inputs[0]);
    const float eps = std::bit_cast<float>(static_cast<std::uint32_t>(number(n.attributes.at("epsilon"), 2)));
    const std::size_t cols = at(out.dims.back());
    for (std::size_t row = 0; row < out.values.size(); row += cols) {
      const std::span<float> x(out.values.data() + row, cols);
      double mean = 0, variance = 0;
      for (const float v : x) mean += v / static_cast<double>(cols);
      for (const float v : x) variance += (v - mean) * (v - mean) / static_cast<double>(cols);
      for (float& v : x) v = static_cast<float>((v - mean) / std::sqrt(variance + eps));
    }
    out = broadcast(out, get(n.inputs[1]), [](float a, float b) { return a * b; });
    if (n.inputs.size() < 3) return out;
    return broadcast(out, get(n.inputs[2]), [](float a, float b) { return a + b; });
  }

  static Tensor reshape(const Tensor& x, const Tensor& shape) {
    Tensor out{{}, x.values};
    std::int64_t known = 1;
    for (const float d : shape.values) known *= d < 0 ? 1 : static_cast<std::int64_t>(d);
    for (const float d : shape.values)
      out.dims.push_back(d < 0 ? x.size() / known : static_cast<std::int64_t>(d));
    return out;
  }

  static Tensor slice(const Tensor& x, std::size_t axis, const Tensor& begin, const Tensor& end) {
    const auto limit = [&](const Tensor& t) {
      const auto i = static_cast<std::int64_t>(t.values[0]);
      return i < 0 ? i + x.dims[axis] : i;
    };
    const std::int64_t inner = axis == 0 ? x.size() / x.dims[0] : 1;
    Tensor out{x.dims, {}};
    out.dims[axis] = limit(end) - limit(begin);
    for (std::int64_t i = 0; i < x.size(); ++i) {
      const std::int64_t k = i / inner % x.dims[axis];
      if (k >= limit(begin) && k < limit(end)) out.values.push_back(x.values[at(i)]);
    }
    return out;
  }

  static Tensor concat(const Tensor& a, const Tensor& b) {  // along axis 0
    Tensor out = a;
    out.dims[0] += b.dims.at(0);
    out.values.insert(out.values.end(), b.values.begin(), b.values.end());
    return out;
  }

  void scan(const Node& n) {
    const Graph body = read_graph(text(n.attributes.at("body"), 6), {});
    const std::size_t n_rows = at(number(n.attributes.at("num_scan_inputs"), 3));
    const std::size_t n_states = n.inputs.size() - n_rows, n_outputs = n.outputs.size() - n_states;
    Values state;
    for (std::size_t i = 0; i < n_states; ++i) state[body.inputs.at(i).name] = get(n.inputs[i]);
    std::vector<Tensor> stacked(n_outputs);
    const std::int64_t steps = get(n.inputs.back()).dims[0];
    for (std::int64_t t = 0; t < steps; ++t) {
      Values given = state;
      const Tensor index{{}, {static_cast<float>(t)}};
      for (std::size_t i = n_states; i < n.inputs.size(); ++i)
        given[body.inputs.at(i).name] = gather(get(n.inputs[i]), index);
      const Values results = run(body, given, this);
      for (std::size_t i = 0; i < n_states; ++i)
        state[body.inputs[i].name] = results.at(body.outputs.at(i).name);
      for (std::size_t i = 0; i < n_outputs; ++i) {
        Tensor row = results.at(body.outputs.at(n_states + i).name);
        row.dims.insert(row.dims.begin(), 1);
        stacked[i] = t == 0 ? row : concat(stacked[i], row);
      }
    }
    for (std::size_t i = 0; i < n_states; ++i) set(n.outputs[i], state[body.inputs[i].name]);
    for (std::size_t i = 0; i < n_outputs; ++i) set(n.outputs[n_states + i], stacked[i]);
  }

  const Interpreter* outer_;
  Values values_;
};

}  // namespace fr::test::onnx
