// Export to ncnn (https://github.com/Tencent/ncnn): a model's traced step as .param text over stock layers
// and a .bin of weights. Every version comes from its one definition (models/); nothing here knows a version.
#pragma once
#include <string>

#include "base/checkpoint.h"
#include "base/log.h"
#include "base/result.h"
#include "export/report.h"

namespace fr {

// fp32 and fp16 matrices are InnerProduct layers; int8 and int4 ones are Gemm layers with symmetric blocks of
// 32 inputs, one float32 scale each (ncnn's quantize_term 800 and 400: 9 and 5 bits a weight). int4 keeps the
// head in int8. The embedding, low-rank factors and matrices whose rows are no multiple of 32 inputs are fp16
// in both.
struct NcnnExportOptions {
  DType dtype = DType::f16;  // f32, f16, int8_weights or int4_weights (core/storage.h)
  int chunk = 16;            // rows of the sequence graph, 2 to 256; 0: none is written
  std::string fingerprint;   // of the model, kept in the files; no spaces
  Progress progress;
};

// Writes PREFIX.param (one token), PREFIX.seq.param (`chunk` tokens), PREFIX.bin (the weights of both) and
// PREFIX.config (the keys of the first faster-rwkv; optional when reading). The files are put in place, the
// weights first, when all were written; an error before leaves nothing.
//
// Blobs: input_id (int32 token ids), state_L_I in, output_state_L_I out (block I of layer L, in the order of
// StateSpec; float32; vectors 1-D, recurrences [head][row][column]), output (logits), hidden (what the head
// multiplies; may be given as an input to compute `output` from it). initial_state_L_I, without inputs, gives
// the first state where it is not zero (v4's pp, tuned states). The name of the first layer is
// "faster_rwkv;key=value;...": sizes, version, number format, fingerprint.
//
// Other programs than ours: turn ncnn's use_fp16_arithmetic and use_bf16_storage off, and on ARM
// use_fp16_packed and use_fp16_storage too, which keep blobs in fp16 there (v4's pp of -1e30 is none). ncnn
// rounds the inputs of int8 products to 8 bits and runs int4 ones by plain loops.
//
// Errors: a number that is not finite or too large for the format, sizes that ncnn cannot count, a path that
// cannot be written.
Result<ExportReport> export_ncnn(const Checkpoint& file, const std::string& prefix,
                                 const NcnnExportOptions& options);

}  // namespace fr
