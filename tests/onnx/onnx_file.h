// Reads ONNX models back, for tests: the wire format of Protocol Buffers, and of the standard's messages what
// the exporter writes. Throws where something is not as it should be.
#pragma once
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"

namespace fr::test::onnx {

struct Field {
  std::uint64_t number = 0;  // of a varint or four bytes
  std::string_view bytes;
};
using Message = std::multimap<int, Field>;  // equal keys stay in order

inline Message parse(std::string_view bytes) {
  std::size_t at = 0;
  const auto byte = [&] { return static_cast<unsigned char>(bytes.at(at++)); };
  const auto varint = [&] {
    std::uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      const std::uint64_t b = byte();
      value |= (b & 0x7f) << shift;
      if (b < 0x80) return value;
    }
  };
  Message m;
  while (at < bytes.size()) {
    const std::uint64_t tag = varint();
    Field f;
    if ((tag & 7) == 0) {
      f.number = varint();
    } else if ((tag & 7) == 5) {
      for (int shift = 0; shift < 32; shift += 8) f.number |= std::uint64_t{byte()} << shift;
    } else if ((tag & 7) == 2) {
      const std::uint64_t size = varint();
      if (size > bytes.size() - at) throw std::runtime_error("a field beyond its message");
      f.bytes = bytes.substr(at, size);
      at += size;
    } else {
      throw std::runtime_error("unknown wire type");
    }
    m.emplace(static_cast<int>(tag >> 3), f);
  }
  return m;
}

inline std::string_view text(const Message& m, int field) {
  const auto found = m.find(field);
  return found == m.end() ? std::string_view() : found->second.bytes;
}
inline std::int64_t number(const Message& m, int field, std::int64_t otherwise = 0) {
  const auto found = m.find(field);
  return found == m.end() ? otherwise : static_cast<std::int64_t>(found->second.number);
}
template <class Each>
void for_each(const Message& m, int field, Each each) {
  const auto [begin, end] = m.equal_range(field);
  for (auto it = begin; it != end; ++it) each(it->second);
}

struct Tensor {
  std::vector<std::int64_t> dims;
  std::vector<float> values;  // integers too
  std::int64_t size() const {
    std::int64_t n = 1;
    for (const std::int64_t d : dims) n *= d;
    return n;
  }
};

struct Node {
  std::string op;
  std::vector<std::string> inputs, outputs;
  std::map<std::string, Message> attributes;
};
struct Port {
  std::string name;
  std::int64_t type = 0;
  std::vector<std::string> dims;  // numbers, or symbols
};
struct External {
  std::string name;
  std::uint64_t offset = 0, bytes = 0;
};
struct Graph {
  std::vector<Node> nodes;
  std::map<std::string, Tensor> constants;
  std::vector<External> external;
  std::vector<Port> inputs, outputs;
};
struct Model {
  std::string bytes;  // the others point into it
  Graph graph;
  std::int64_t ir_version = 0, opset = 0;
  std::map<std::string, std::string> metadata;
};

inline std::string slurp(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error("cannot read " + path);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline std::map<std::string, std::string> key_values(const Message& m, int field) {
  std::map<std::string, std::string> pairs;
  for_each(m, field, [&](const Field& f) {
    const Message entry = parse(f.bytes);
    pairs.emplace(text(entry, 1), text(entry, 2));
  });
  return pairs;
}

// The numbers of a tensor: raw_data, or in `data`, the file of external data.
inline Tensor read_tensor(const Message& m, std::string_view data) {
  Tensor t;
  for_each(m, 1, [&](const Field& f) { t.dims.push_back(static_cast<std::int64_t>(f.number)); });
  const std::int64_t type = number(m, 2);
  const std::size_t width = type == 7 ? 8 : type == 10 ? 2 : 4;
  std::string_view raw = text(m, 9);
  if (number(m, 14) == 1) {
    const auto where = key_values(m, 13);
    raw = data.substr(std::stoull(where.at("offset")), std::stoull(where.at("length")));
  }
  if (raw.size() != static_cast<std::size_t>(t.size()) * width) throw std::runtime_error("size of a tensor");
  for (std::size_t at = 0; at < raw.size(); at += width) {
    std::uint64_t bits = 0;
    std::memcpy(&bits, raw.data() + at, width);
    t.values.push_back(type == 7    ? static_cast<float>(static_cast<std::int64_t>(bits))
                       : type == 10 ? half_to_float(static_cast<std::uint16_t>(bits))
                                    : std::bit_cast<float>(static_cast<std::uint32_t>(bits)));
  }
  return t;
}

inline Port read_port(const Message& m) {
  const Message type = parse(text(parse(text(m, 2)), 1));
  Port port{std::string(text(m, 1)), number(type, 1), {}};
  for_each(parse(text(type, 2)), 1, [&](const Field& f) {
    const Message dim = parse(f.bytes);
    port.dims.push_back(dim.contains(2) ? std::string(text(dim, 2)) : std::to_string(number(dim, 1)));
  });
  return port;
}

inline Graph read_graph(std::string_view bytes, std::string_view data) {
  const Message m = parse(bytes);
  Graph g;
  for_each(m, 1, [&](const Field& f) {
    const Message n = parse(f.bytes);
    Node node{std::string(text(n, 4)), {}, {}, {}};
    for_each(n, 1, [&](const Field& name) { node.inputs.emplace_back(name.bytes); });
    for_each(n, 2, [&](const Field& name) { node.outputs.emplace_back(name.bytes); });
    for_each(n, 5, [&](const Field& a) {
      Message attribute = parse(a.bytes);
      node.attributes.emplace(std::string(text(attribute, 1)), std::move(attribute));
    });
    g.nodes.push_back(std::move(node));
  });
  for_each(m, 5, [&](const Field& f) {
    const Message t = parse(f.bytes);
    const std::string name(text(t, 8));
    if (!g.constants.emplace(name, read_tensor(t, data)).second)
      throw std::runtime_error("two constants " + name);
    if (number(t, 14) != 1) return;
    const auto where = key_values(t, 13);
    g.external.push_back({name, std::stoull(where.at("offset")), std::stoull(where.at("length"))});
  });
  for_each(m, 11, [&](const Field& f) { g.inputs.push_back(read_port(parse(f.bytes))); });
  for_each(m, 12, [&](const Field& f) { g.outputs.push_back(read_port(parse(f.bytes))); });
  return g;
}

inline Model read_model(const std::string& path, const std::string& data) {
  Model model;
  model.bytes = slurp(path);
  const Message m = parse(model.bytes);
  model.ir_version = number(m, 1);
  model.opset = number(parse(text(m, 8)), 2);
  model.metadata = key_values(m, 14);
  model.graph = read_graph(text(m, 7), data);
  return model;
}

}  // namespace fr::test::onnx
