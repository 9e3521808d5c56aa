// Converts model files: any readable format to safetensors (official names), GGUF or .fr, tensor by tensor
// from the mapped input, and compares what both files compute.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "tools_core/layerwise.h"

namespace fr {

struct ConvertOptions {
  std::string in;
  std::string out;    // .safetensors, .st, .gguf or .fr
  std::string dtype;  // of the matrices: fp32 fp16 bf16, for GGUF also q8_0 q4_0 q4_k; empty: as in the file
  std::string lora;   // FILE[:ALPHA], an adapter to merge (formats/lora.h)
  std::string vocab;  // for GGUF, when it is not found by itself
  std::string state;  // a tuned initial state to embed (safetensors)
  bool dry_run = false;  // say what would be written, write nothing
  bool check = true;     // run both files on the same tokens
  int threads = 0;
  Progress progress;
};

struct ConvertReport {
  std::string version;               // of the model: "7"
  std::string in_format, in_layout;  // "pth", "ChatRWKV"
  std::string out_format;            // "gguf"
  std::uint64_t in_bytes = 0, out_bytes = 0;
  std::map<std::string, std::size_t> dtypes;  // number format -> tensors, of the output
  std::vector<std::string> notes;             // what is not as asked, or worth knowing
  std::optional<LogitDifference> difference;  // of the output against the input, when checked
};

// The output replaces an existing file when it is complete on disk; after an error or an interruption what
// was there is there still. Needs memory for one piece of a tensor; the check for one layer in fp32. Errors:
// those of the readers and writers; a pair of version and format that does not exist (v7 to .fr, v4 to GGUF);
// an unknown ending or dtype; input and output being one file.
Result<ConvertReport> convert(const ConvertOptions& options);

}  // namespace fr
