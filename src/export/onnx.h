// Export to ONNX: a model's traced step as graphs of standard operators. Every version comes from its one
// definition (models/); nothing here knows a version.
#pragma once
#include <string>

#include "base/checkpoint.h"
#include "base/log.h"
#include "base/result.h"
#include "export/report.h"

namespace fr {

// Sums, norms, recurrences, states and logits are float32 in both formats. fp16 halves the file: the graph
// widens the matrices, so a runtime that folds constants holds them as fp32.
struct OnnxExportOptions {
  DType dtype = DType::f32;      // of the matrices: f32 or f16
  std::string fingerprint;       // of the model, kept in the metadata
  std::string producer_version;  // of this program, likewise
  Progress progress;
};

// Writes NAME.onnx, NAME.decode.onnx, NAME.initial.onnx and NAME.onnx.data, the weights of all three; `path`
// is NAME.onnx. Opset 17, IR version 8. Files that are there are replaced when all are complete; an error
// before leaves nothing behind. Needs memory for a piece of a tensor. D: embedding width, V: vocabulary.
//
// NAME.onnx runs T >= 1 tokens of one sequence. Blocks of the state, in the order of StateSpec, have the
// names and shapes of core/state.h: state.blocks.0.att.x_prev [D] and so on.
//   tokens             int64 [T]
//   wanted             int64 [W]     rows whose logits are wanted; -1 is the last
//   state.<block>      float         the state before the first token
//   -> logits          float [W, V]
//   -> hidden          float [W, D]  what the head multiplies
//   -> new_state.<block>             the state after the last token
// NAME.decode.onnx runs one: T = W = 1, no `wanted`, no Scan.
// NAME.initial.onnx has no inputs and gives the first state.<block>, the tuned one if the model carries one.
//
// Metadata, in NAME.onnx and NAME.decode.onnx: rwkv.version, rwkv.kind (sequence, decode), rwkv.layers,
// rwkv.embedding, rwkv.ffn, rwkv.vocabulary, rwkv.heads and rwkv.head_size (0 for v4), rwkv.dtype (fp32,
// fp16), rwkv.parameters, rwkv.data_bytes (the size of NAME.onnx.data), rwkv.fingerprint, rwkv.states (names
// of all blocks, separated by commas).
//
// Errors: `path` does not end in .onnx or is an input; another dtype; a number that is not finite or too
// large for fp16; what make_model and writing say.
Result<ExportReport> export_onnx(const Checkpoint& file, const std::string& path,
                                 const OnnxExportOptions& options);

}  // namespace fr
