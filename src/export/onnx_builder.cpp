#include "export/onnx_builder.h"

#include <algorithm>

#include "base/result.h"

namespace fr::onnx {
namespace {

std::int64_t volume(const Dims& dims) {  // for one row
  std::int64_t n = 1;
  for (const std::int64_t d : dims) n *= std::max<std::int64_t>(d, 1);
  return n;
}

std::string numbered(std::string_view stem, std::int64_t n) {
  std::string name(stem);
  name.append("_").append(std::to_string(n));
  return name;
}

}  // namespace

Dims broadcast(const Dims& a, const Dims& b) {
  if (a.size() < b.size()) return broadcast(b, a);
  Dims out = a;
  for (std::size_t i = 1; i <= b.size(); ++i) {
    std::int64_t& d = out[a.size() - i];
    const std::int64_t other = b[b.size() - i];
    FR_CHECK(d == other || d == 1 || other == 1);
    if (d == 1) d = other;
  }
  return out;
}

Dims reduced(Dims dims) {
  dims.back() = 1;
  return dims;
}

std::string Builder::fresh(std::string_view stem) { return numbered(stem, n_names_++); }

Value Builder::emit(std::string_view op, const std::vector<std::string>& inputs, Dims dims,
                    const std::vector<Attribute>& attributes, std::string name) {
  if (name.empty()) name = fresh(op);
  Graph& graph = body_ != nullptr ? *body_ : graph_;
  graph.node(op, inputs, std::span<const std::string>(&name, 1), attributes);
  return {std::move(name), std::move(dims)};
}

Value Builder::shaped(const Value& v, const Dims& dims, const std::string& name) {
  if (v.dims == dims) return name.empty() ? v : emit("Identity", {v.name}, dims, {}, name);
  FR_CHECK(volume(v.dims) == volume(dims));
  Dims target = dims;
  for (std::int64_t& d : target) d = std::max<std::int64_t>(d, -1);  // any symbol: what is left
  return emit("Reshape", {v.name, integers(target)}, dims, {}, name);
}

Value Builder::widened(const std::string& half, Dims dims) {
  return emit("Cast", {half}, std::move(dims), {{"to", static_cast<int>(Type::f32)}});
}

Value Builder::activated(const Value& x, Act act) {
  const auto unary = [&](const char* op, const Value& v) { return emit(op, {v.name}, v.dims); };
  const auto product = [&](const Value& a, const std::string& b) { return emit("Mul", {a.name, b}, a.dims); };
  switch (act) {
    case Act::none:
      return x;
    case Act::tanh:
      return unary("Tanh", x);
    case Act::sigmoid:
      return unary("Sigmoid", x);
    case Act::exp:
      return unary("Exp", x);
    case Act::silu:
      return product(x, unary("Sigmoid", x).name);
    case Act::relu2: {
      const Value r = unary("Relu", x);
      return product(r, r.name);
    }
    case Act::decay6:
      return unary("Exp", unary("Neg", unary("Exp", x)));
    case Act::decay7:
      return unary("Exp", product(unary("Sigmoid", x), number(-0.606531f)));
  }
  FR_CHECK(false);
  return x;
}

std::string Builder::integers(const Dims& values) {
  std::string name = "integers";
  for (const std::int64_t v : values) name = numbered(name, v);
  if (constants_.insert(name).second)
    graph_.constant(name, {static_cast<std::int64_t>(values.size())}, values);
  return name;
}

std::string Builder::integer(std::int64_t value) {
  const std::string name = numbered("integer", value);
  if (constants_.insert(name).second) graph_.constant(name, {}, std::span<const std::int64_t>(&value, 1));
  return name;
}

std::string Builder::number(float value) {
  const auto [found, added] = numbers_.try_emplace(value);
  if (added) {
    found->second = numbered("number", static_cast<std::int64_t>(numbers_.size()));
    graph_.constant(found->second, {}, std::span<const float>(&value, 1));
  }
  return found->second;
}

std::string Builder::ones(std::int64_t n) {
  const std::string name = numbered("ones", n);
  if (constants_.insert(name).second)
    graph_.constant(name, {n}, std::vector<float>(static_cast<std::size_t>(n), 1.0f));
  return name;
}

std::string Builder::weight(const External& tensor) {
  if (constants_.insert(tensor.name).second) graph_.constant(tensor, location_);
  return tensor.name;
}

}  // namespace fr::onnx
