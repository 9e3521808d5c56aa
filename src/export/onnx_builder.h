// What a lowering appends to a graph: nodes with fresh names and known shapes, and the constants that they
// need, each once.
#pragma once
#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/ops.h"
#include "export/onnx_graph.h"

namespace fr::onnx {

// A tensor of the graph. Always float32.
struct Value {
  std::string name;
  Dims dims;
};

// As ONNX does it: axes are matched from the last, those of size 1 are repeated.
Dims broadcast(const Dims& a, const Dims& b);
// The shape of a sum over the last axis that keeps it.
Dims reduced(Dims dims);

class Builder {
 public:
  // `location`: of the external data.
  explicit Builder(std::string_view location) : location_(location) {}
  Graph& graph() { return graph_; }
  // Nodes go to this graph, the body of one, until it is set to null. Constants stay in the outer graph,
  // where bodies see them too.
  void set_body(Graph* body) { body_ = body; }

  std::string fresh(std::string_view stem);
  // A node of one output; without a name it gets a fresh one.
  Value emit(std::string_view op, const std::vector<std::string>& inputs, Dims dims,
             const std::vector<Attribute>& attributes = {}, std::string name = {});
  // The same numbers in another shape; a tensor of that name, if one is given.
  Value shaped(const Value& v, const Dims& dims, const std::string& name = {});
  Value widened(const std::string& half, Dims dims);
  Value activated(const Value& x, Act act);

  std::string integers(const Dims& values);
  std::string integer(std::int64_t value);
  std::string number(float value);
  std::string ones(std::int64_t n);
  std::string weight(const External& tensor);

 private:
  Graph graph_;
  Graph* body_ = nullptr;
  std::string location_;
  std::set<std::string> constants_;
  std::map<float, std::string> numbers_;
  int n_names_ = 0;
};

}  // namespace fr::onnx
