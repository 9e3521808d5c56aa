// What a file is, without loading its weights: the answer to `frwkv info`.
#pragma once
#include <string>

#include "base/result.h"

namespace fr {

// One JSON object. All files: path, format (the container), layout (whose names it has), file_size, files
// (the parts, when there are several), kind, notes, metadata and config (texts of the file, and of a
// config.json beside it), n_parameters, dtypes (tensors per number format), dtype_table [{dtype, tensors,
// parameters, bytes}], tensors [{name, dtype, shape}] with official names and shapes. Models (kind "model"):
// version, n_layer, n_embd, n_vocab, n_ffn, n_head, head_size, lora_ranks, state_size (floats), fingerprint,
// tokenizer, template; where a converter has changed the numbers: rescale_every (layers after which x is
// halved), processed (the tensors whose values are computed ones). Saved states and tuned states: kind.
// verify: compares the checksums that the format stores; verified is false when it stores none (safetensors;
// a saved state is checked when it is loaded). Errors: as for loading; a file of another kind of model is
// named.
Result<std::string> file_info_json(const std::string& path, bool verify);

}  // namespace fr
