// Reader of rwkv.cpp's .bin files: a header of six numbers, then tensors one after another, each with its own
// small header. Format: https://github.com/RWKV/rwkv.cpp, docs/FILE_FORMAT.md.
#pragma once
#include <cstddef>
#include <span>
#include <string_view>

#include "base/checkpoint.h"
#include "base/result.h"

namespace fr {

bool looks_like_rwkv_bin(std::span<const std::byte> bytes);

// Reads a whole file or blob of version 100 or 101, with the names and numbers that are in it (for what they
// mean see layout_rwkv_cpp.cpp); quantised ones of version 100 have blocks of another form and are refused.
// The views point into `bytes`, which must outlive the result; `files` of the result is empty. `path` is for
// error messages, which name the tensor. Any thread.
Result<Checkpoint> parse_rwkv_bin(std::span<const std::byte> bytes, std::string_view path);

}  // namespace fr
