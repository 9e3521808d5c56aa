// Builds ONNX graphs and models, and encodes them. Field numbers and codes: onnx.proto3 of the ONNX standard.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "export/protobuf_writer.h"

namespace fr::onnx {

inline constexpr int opset = 17;      // the first with LayerNormalization
inline constexpr int ir_version = 8;  // that opset's

enum class Type : std::uint8_t { f32 = 1, i64 = 7, f16 = 10 };

// Sizes of the axes of a tensor. T and W are symbolic: rows of tokens and wanted rows of a run.
using Dims = std::vector<std::int64_t>;
inline constexpr std::int64_t dim_t = -1, dim_w = -2;

// A tensor in the file of external data.
struct External {
  std::string name;
  Type type = Type::f32;
  Dims dims;
  std::uint64_t offset = 0, bytes = 0;
};

class Graph;

class Attribute {
 public:
  Attribute(std::string_view name, int value);
  Attribute(std::string_view name, float value);
  Attribute(std::string_view name, std::span<const std::int64_t> values);
  Attribute(std::string_view name, const Graph& body);
  // A tensor of one number.
  static Attribute tensor(std::string_view name, float value);
  const ProtobufWriter& proto() const { return proto_; }

 private:
  Attribute() = default;
  ProtobufWriter proto_;
};

// Parts may be added in any order, but nodes so that each uses earlier ones only.
class Graph {
 public:
  void node(std::string_view op, std::span<const std::string> inputs, std::span<const std::string> outputs,
            std::span<const Attribute> attributes = {});
  void input(std::string_view name, Type type, const Dims& dims);
  void output(std::string_view name, Type type, const Dims& dims);
  void constant(std::string_view name, const Dims& dims, std::span<const std::int64_t> values);
  void constant(std::string_view name, const Dims& dims, std::span<const float> values);
  // `location`: the data file's name, relative to the model's folder.
  void constant(const External& tensor, std::string_view location);
  ProtobufWriter encode(std::string_view name) const;

 private:
  ProtobufWriter nodes_, initializers_, inputs_, outputs_;
};

struct ModelText {
  std::string producer_version, doc;
  std::vector<std::pair<std::string, std::string>> metadata;
};
// The bytes of a model file.
std::string encode_model(const Graph& graph, std::string_view name, const ModelText& text);

}  // namespace fr::onnx
