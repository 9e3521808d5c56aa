// Checks an exported graph against its weights, layer by layer with all shapes, and turns it into what ncnn
// gets to see: lookups become inputs, layers with weights become ours, which read them where the file has
// them.
#pragma once
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "backends/ncnn/param.h"
#include "backends/ncnn/product.h"

namespace fr::ncnn_backend {

using Dims = std::vector<int>;  // row-major, 1 to 3

enum class Activation : std::uint8_t { none, relu, sigmoid };

struct Linear {
  Matrix matrix;
  Activation activation = Activation::none;
};

struct Constant {
  Dims dims;
  std::vector<float> values;
};

// The lookup table: rows of `matrix`, or, of files before October 2023, one layer for each row.
struct Table {
  Matrix matrix;            // out: vocabulary, in: width
  std::size_t row_gap = 0;  // bytes between rows
  void read(int row, std::span<float> out) const;
};

struct StateBlob {
  int layer = 0, index = 0;
  std::string in, out;
  Dims dims;
  std::vector<float> initial;  // empty: zeros
};

struct Graph {
  std::string text;  // for ncnn; "fr_linear 0=i" is linears[i], "fr_constant 0=i" constants[i]
  std::vector<Linear> linears;
  std::vector<Constant> constants;
  std::vector<float> norms;  // what the LayerNorm layers of the text load, in order
  Table table;
  std::string row_blob;                  // input that takes the rows of the tokens
  Dims row_dims;                         // {D}, or {tokens, D}
  std::string output_blob, hidden_blob;  // hidden: what linears[head] makes the output of; empty: unknown
  Dims output_dims, hidden_dims;
  std::size_t head = 0;
  std::vector<StateBlob> states;             // by layer and index
  std::map<std::string, std::string> facts;  // of the first layer's name; empty: a file of 2023
  std::int64_t parameters = 0;               // numbers in the .bin, without initial states

  int tokens() const { return row_dims.size() == 1 ? 1 : row_dims[0]; }
  int vocabulary() const { return output_dims.back(); }
  int width() const { return row_dims.back(); }
};

// The matrices of the graph point into `weights`, the whole .bin. Errors: layers, parameters or shapes that
// this program does not write or that contradict each other, a .bin of another size, quantised files of 2023.
Result<Graph> make_graph(const std::vector<ParamLayer>& layers, std::span<const std::byte> weights,
                         const std::string& path);

}  // namespace fr::ncnn_backend
