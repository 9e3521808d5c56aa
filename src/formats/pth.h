// Reader of PyTorch checkpoints (.pth, .pt, .bin written by torch.save): the ZIP form of PyTorch 1.6 and
// later, and the legacy form before it. Nothing of the pickle is executed, and tensors stay where they are in
// the file.
#pragma once
#include <cstddef>
#include <span>
#include <string_view>

#include "base/checkpoint.h"
#include "base/log.h"
#include "base/result.h"

namespace fr {

// True when `bytes` begins as a ZIP archive or a Python pickle does; parse_pth says what is wrong with others
// of them.
bool looks_like_pth(std::span<const std::byte> bytes);

// Reads a dict of tensors, or of {"state_dict" | "model" | "module": dict of tensors}. Strides, storage
// offsets and shared storages are kept as the file has them. Plain values beside the tensors (ChatRWKV's
// "_strategy", ...) become metadata. The views point into `bytes`, which must outlive the result; `files` of
// the result is empty. `path` is for error messages. Any thread. Allocates at most 64 MB above the size of
// the file, whatever it claims.
Result<Checkpoint> parse_pth(std::span<const std::byte> bytes, std::string_view path);

// Compares every ZIP entry with its CRC-32. False: a legacy file, which has no checksums.
Result<bool> verify_pth(std::span<const std::byte> bytes, std::string_view path,
                        const Progress& progress = {});

}  // namespace fr
