// Reader of faster-rwkv's files of 2023: models (.fr) and saved states. A model is one msgpack map:
// "embd_weights", a list of the rows of the embedding; "weights", name -> {dtype, data, shape}; and in all
// but the first form "version", "n_layer", "n_embd", "n_att", "n_ffn" (v5 also "n_head"). Contents and names
// are those of a ChatRWKV-converted .pth (layout_chatrwkv). A state is a list of layers, each a list of such
// tensors. Source: tools/convert_weight.py and Model::SaveStateFile of daquexian/faster-rwkv.
#pragma once
#include <cstddef>
#include <span>
#include <string_view>

#include "base/checkpoint.h"
#include "base/result.h"

namespace fr {

// True when `bytes` begins as a msgpack map of words or as a saved state does.
bool looks_like_fr(std::span<const std::byte> bytes);

// Views into `bytes`, which must outlive the result; `files` of the result is empty. The embedding is one
// tensor with a row_gap. "version" and the sizes become metadata; sizes that contradict the shapes are an
// error. Of a state the tensors have the names of the canonical form (core/state.h) and the shapes that the
// file has. `path` is for error messages. Any thread. Allocates at most 64 MB above the size of the file,
// whatever it claims.
Result<Checkpoint> parse_fr(std::span<const std::byte> bytes, std::string_view path);

}  // namespace fr
