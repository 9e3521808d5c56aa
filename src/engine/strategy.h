// Strategies: which layers run on which device with which stored numbers, in the words of ChatRWKV and the
// first faster-rwkv: "cpu fp16", "cuda fp16 *20 -> cpu int8".
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "base/result.h"

namespace fr {

struct Segment {
  std::string device;        // name of a backend
  DType dtype = DType::f32;  // as core/storage.h names them
  int begin = 0, end = 0;  // layers [begin, end); the first segment has the embedding, the last one the head
  bool automatic = false;  // the strategy left the dtype open
  int index = 0;           // of several devices: 1 in "cuda:1"
};

// What a strategy that names no dtype gets: the file's own where 70 % of `memory` bytes hold that many
// weights, else int8, else int4. A file of blocks gets the one that keeps them, or keeps them best.
DType automatic_dtype(DType file_dtype, std::int64_t weights, std::int64_t memory);

// Splits n_layer layers. An empty text means the fastest device; a missing or "auto" dtype means `automatic`.
// "fp16i8" and the like are int8. "*N" takes N layers; the last part takes the rest. Errors
// (ErrorCode::usage) name the word, the device or the dtype that is unknown or not in this build, and say
// what there is.
Result<std::vector<Segment>> parse_strategy(std::string_view text, DType automatic, int n_layer);

// An exported model has its numbers and its device already: an error unless `strategy` is empty or names
// them.
Status check_exported_strategy(std::string_view strategy, std::string_view kind, DType dtype,
                               const std::string& path);

std::string strategy_string(const std::vector<Segment>& segments);  // "cpu fp16 *12 -> cpu bf16"

}  // namespace fr
