// Lowers a traced step to an ONNX graph, for sequences of any length or for single tokens.
#pragma once
#include "export/onnx_graph.h"
#include "export/onnx_weights.h"

namespace fr::onnx {

enum class Kind : std::uint8_t {
  sequence,  // T rows; recurrences are Scans
  decode,    // one row; recurrences are written out
};

// `step`: of one sequence, any numbers of rows. Inputs, outputs and their shapes: export/onnx.h.
Graph lower(const TracedGraph& step, const Weights& weights, const StateSpec& state, Kind kind,
            std::string_view data_location);

// A graph without inputs whose outputs are the state's initial values.
Graph initial_graph(const Weights& weights, const StateSpec& state, std::string_view data_location);

}  // namespace fr::onnx
