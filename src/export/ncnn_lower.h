// Lowers a traced step to ncnn layers. Shapes are row-major ({c, h, w} in ncnn's words); a blob has 1 to 3
// dimensions.
#pragma once
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/state.h"
#include "export/trace.h"

namespace fr {

enum class NcnnStorage : std::uint8_t { f32, f16, int8, int4 };

// Numbers that a layer reads from the .bin, in this order.
struct NcnnWeight {
  int vector = -1;  // of TraceWeights, raw float32; or
  int matrix = -1;  // of TraceWeights, stored as:
  NcnnStorage storage = NcnnStorage::f32;
  std::vector<float> values;  // or these, raw float32
  bool tagged = false;        // of vectors: ncnn expects the tag of a matrix before them
};

struct NcnnLayer {
  std::string type, name;
  std::vector<int> inputs, outputs;  // blobs
  std::string params;                // " 0=1 1=2"
  std::vector<NcnnWeight> weights;
};

struct NcnnGraph {
  std::vector<NcnnLayer> layers;                     // in the order of execution
  std::vector<std::string> blobs;                    // names that were asked for; empty: any
  std::vector<std::pair<std::string, int>> outputs;  // names of blobs that users extract
  // Text of the .param. A blob with several uses goes through a Split layer. Errors: more layers than ncnn
  // loads.
  Result<std::string> text() const;
};

struct NcnnLowering {
  int rows = 1;
  bool quantised = false;            // blocks of int8 or int4: products are Gemm layers
  std::vector<NcnnStorage> storage;  // by matrix
  std::string header;                // name of the first layer
  const StateSpec* state = nullptr;
  std::vector<float> initial_state;  // canonical; written where it is not zero
};
NcnnGraph lower_to_ncnn(const TracedGraph& graph, const TraceWeights& weights, const NcnnLowering& options);

// "state_3_1": block of the spec by layer and number within the layer.
std::string ncnn_state_name(const StateSpec& spec, std::size_t block);

}  // namespace fr
