// What a file is, without loading its weights: the answer to `frwkv info`.
#pragma once
#include <string>

#include "base/result.h"

namespace fr {

// One JSON object. Models: path, format, version, n_layer, n_embd, n_vocab, n_ffn, n_head, head_size,
// lora_ranks, dtypes (tensors per number format), n_parameters, file_size, state_size (floats), fingerprint,
// tokenizer, template, think, tensors [{name, dtype, shape}], notes. Saved states and tuned states: kind and
// what their metadata says. verify: compares the checksums that the
// format stores; verified is false when it stores none (safetensors; a saved state is checked when it is
// loaded). Errors: as for loading.
Result<std::string> file_info_json(const std::string& path, bool verify);

}  // namespace fr
