// Writer of .fr files (formats/fr_msgpack.h): RWKV-4 and RWKV-5 models as faster-rwkv of 2023 reads them.
#pragma once
#include <optional>
#include <string>

#include "base/checkpoint.h"
#include "base/log.h"
#include "base/result.h"
#include "formats/writer.h"

namespace fr {

struct FrOptions {
  // fp16 or fp32, of the embedding, the matrices and most vectors (decay, bonus and ln_x are fp32 always).
  // None: as a converted model has them, else fp16.
  std::optional<DType> dtype;
  bool dry_run = false;    // only say what would be written
  Progress progress = {};  // step "writing", bytes of the model
};

// Writes `model` (official names; tensors may be processed) with the contents, order and encodings of
// tools/convert_weight.py of daquexian/faster-rwkv on a file of ChatRWKV's convert_model: what that program
// computes from an official model is computed here, in float32. With fp16 matrices att.output and ffn.value
// of layer i are divided by 2^(i / 6), because faster-rwkv halves x after every sixth layer then. Memory for
// a few megabytes, not for a tensor. An existing file is replaced in one step. Errors: a model of another
// version or a tensor that .fr cannot hold, by name (usage); what the file system reports (runtime).
Result<WriteReport> write_fr(const std::string& path, const Checkpoint& model, const FrOptions& options = {});

}  // namespace fr
