// Reader and writer of safetensors files: 8 bytes of header length, a JSON header, the data without holes.
// Format: https://github.com/huggingface/safetensors (README, "Format").
#pragma once
#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "base/checkpoint.h"
#include "base/log.h"
#include "base/result.h"
#include "formats/writer.h"

namespace fr {

// True when `bytes` begins as a safetensors file does, even one whose header length is wrong.
bool looks_like_safetensors(std::span<const std::byte> bytes);

// Reads a whole file or blob. The views point into `bytes`, which must outlive the result; `files` of
// the result is empty. `path` is for error messages, which name the tensor. Any thread. Allocates at most 64
// MB above the size of the file, whatever it claims.
Result<Checkpoint> parse_safetensors(std::span<const std::byte> bytes, std::string_view path);

// Writes the tensors, wherever they are and whatever their strides, as one file; the same input gives the
// same bytes. Order in the file: wider elements first (so that all data is aligned), else as given. An
// existing file is replaced in one step after the new one is on disk; after an error it is as it was. Errors:
// no tensors, a name that is empty, repeated, "__metadata__" or not UTF-8 (ErrorCode::usage); whatever the
// file system reports (ErrorCode::runtime).
Status write_safetensors(const std::string& path, std::span<const TensorView> tensors,
                         const std::map<std::string, std::string>& metadata = {});

// The same, converting numbers on the way (StoredTensor); their pages in `source` are given back.
Status write_safetensors(const std::string& path, std::span<const StoredTensor> tensors,
                         const std::map<std::string, std::string>& metadata, const Checkpoint& source,
                         const Progress& progress = {});

}  // namespace fr
