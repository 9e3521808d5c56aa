#include "export/onnx_graph.h"

#include <cstring>

namespace fr::onnx {
namespace {

namespace attribute {
constexpr int name = 1, f = 2, i = 3, t = 5, g = 6, ints = 8, type = 20;
constexpr int type_float = 1, type_int = 2, type_tensor = 4, type_graph = 5, type_ints = 7;
}  // namespace attribute
namespace tensor {
constexpr int dims = 1, data_type = 2, name = 8, raw_data = 9, external_data = 13, data_location = 14;
constexpr int external = 1;
}  // namespace tensor
namespace graph {
constexpr int node = 1, name = 2, initializer = 5, input = 11, output = 12;
}
namespace model {
constexpr int ir_version = 1, producer_name = 2, producer_version = 3, doc = 6, graph = 7, opset_import = 8,
              metadata_props = 14;
}

ProtobufWriter key_value(std::string_view key, std::string_view value) {
  ProtobufWriter entry;
  entry.bytes(1, key);
  entry.bytes(2, value);
  return entry;
}

ProtobufWriter tensor_head(std::string_view name, Type type, const Dims& dims) {
  ProtobufWriter t;
  for (const std::int64_t d : dims) t.integer(tensor::dims, d);
  t.integer(tensor::data_type, static_cast<int>(type));
  if (!name.empty()) t.bytes(tensor::name, name);
  return t;
}

template <class T>
ProtobufWriter tensor_of(std::string_view name, Type type, const Dims& dims, std::span<const T> values) {
  ProtobufWriter t = tensor_head(name, type, dims);
  t.bytes(tensor::raw_data, {reinterpret_cast<const char*>(values.data()), values.size_bytes()});
  return t;
}

ProtobufWriter value_info(std::string_view name, Type type, const Dims& dims) {
  ProtobufWriter shape;
  for (const std::int64_t d : dims) {
    ProtobufWriter dim;
    if (d >= 0) {
      dim.integer(1, d);
    } else {
      dim.bytes(2, d == dim_t ? "T" : "W");
    }
    shape.message(1, dim);
  }
  ProtobufWriter tensor_type, any_type, info;
  tensor_type.integer(1, static_cast<int>(type));
  tensor_type.message(2, shape);
  any_type.message(1, tensor_type);
  info.bytes(1, name);
  info.message(2, any_type);
  return info;
}

}  // namespace

Attribute::Attribute(std::string_view name, int value) {
  proto_.bytes(attribute::name, name);
  proto_.integer(attribute::i, value);
  proto_.integer(attribute::type, attribute::type_int);
}

Attribute::Attribute(std::string_view name, float value) {
  proto_.bytes(attribute::name, name);
  proto_.real(attribute::f, value);
  proto_.integer(attribute::type, attribute::type_float);
}

Attribute::Attribute(std::string_view name, std::span<const std::int64_t> values) {
  proto_.bytes(attribute::name, name);
  for (const std::int64_t v : values) proto_.integer(attribute::ints, v);
  proto_.integer(attribute::type, attribute::type_ints);
}

Attribute::Attribute(std::string_view name, const Graph& body) {
  proto_.bytes(attribute::name, name);
  proto_.message(attribute::g, body.encode("body"));
  proto_.integer(attribute::type, attribute::type_graph);
}

Attribute Attribute::tensor(std::string_view name, float value) {
  Attribute a;
  a.proto_.bytes(attribute::name, name);
  a.proto_.message(attribute::t, tensor_of("", Type::f32, {1}, std::span<const float>(&value, 1)));
  a.proto_.integer(attribute::type, attribute::type_tensor);
  return a;
}

void Graph::node(std::string_view op, std::span<const std::string> inputs,
                 std::span<const std::string> outputs, std::span<const Attribute> attributes) {
  ProtobufWriter n;
  for (const std::string& name : inputs) n.bytes(1, name);
  for (const std::string& name : outputs) n.bytes(2, name);
  n.bytes(3, outputs.front());
  n.bytes(4, op);
  for (const Attribute& a : attributes) n.message(5, a.proto());
  nodes_.message(graph::node, n);
}

void Graph::input(std::string_view name, Type type, const Dims& dims) {
  inputs_.message(graph::input, value_info(name, type, dims));
}

void Graph::output(std::string_view name, Type type, const Dims& dims) {
  outputs_.message(graph::output, value_info(name, type, dims));
}

void Graph::constant(std::string_view name, const Dims& dims, std::span<const std::int64_t> values) {
  initializers_.message(graph::initializer, tensor_of(name, Type::i64, dims, values));
}

void Graph::constant(std::string_view name, const Dims& dims, std::span<const float> values) {
  initializers_.message(graph::initializer, tensor_of(name, Type::f32, dims, values));
}

void Graph::constant(const External& data, std::string_view location) {
  ProtobufWriter t = tensor_head(data.name, data.type, data.dims);
  t.message(tensor::external_data, key_value("location", location));
  t.message(tensor::external_data, key_value("offset", std::to_string(data.offset)));
  t.message(tensor::external_data, key_value("length", std::to_string(data.bytes)));
  t.integer(tensor::data_location, tensor::external);
  initializers_.message(graph::initializer, t);
}

ProtobufWriter Graph::encode(std::string_view name) const {
  ProtobufWriter g = nodes_;
  g.bytes(graph::name, name);
  g.append(initializers_);
  g.append(inputs_);
  g.append(outputs_);
  return g;
}

std::string encode_model(const Graph& graph, std::string_view name, const ModelText& text) {
  ProtobufWriter m, opsets;
  m.integer(model::ir_version, ir_version);
  m.bytes(model::producer_name, "faster-rwkv");
  m.bytes(model::producer_version, text.producer_version);
  m.bytes(model::doc, text.doc);
  m.message(model::graph, graph.encode(name));
  opsets.bytes(1, "");
  opsets.integer(2, opset);
  m.message(model::opset_import, opsets);
  for (const auto& [key, value] : text.metadata) m.message(model::metadata_props, key_value(key, value));
  return m.bytes();
}

}  // namespace fr::onnx
