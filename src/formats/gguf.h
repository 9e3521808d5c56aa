// Reader and writer of GGUF files, the format of llama.cpp, for RWKV-6 and RWKV-7.
// Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Names and shapes: formats/gguf_names.h.
#pragma once
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/checkpoint.h"
#include "base/log.h"
#include "base/result.h"
#include "formats/writer.h"

namespace fr {

// True when `bytes` begins as a GGUF file does, of whatever version and byte order.
bool looks_like_gguf(std::span<const std::byte> bytes);

// Reads a whole file or blob of version 2 or 3 under the names and shapes that it has (row-major);
// layout_gguf makes them official. Scalars of the metadata become text in Checkpoint::metadata, the strings
// of "tokenizer.ggml.tokens" views in Checkpoint::tokens, other arrays are passed over. The views point into
// `bytes`, which must outlive the result; `files` of the result is empty. `path` is for error messages. Any
// thread. Allocates at most 64 MB above the size of the file, whatever it claims. Errors also name what is
// not read: other architectures than rwkv6 and rwkv7, version 1, big-endian files, number formats that
// base/quant.h lacks.
Result<Checkpoint> parse_gguf(std::span<const std::byte> bytes, std::string_view path);

// "User: ...", "Assistant: ..." with blank lines between, as Jinja; llama.cpp without Jinja knows it by the
// comment.
extern const std::string_view rwkv_chat_template;

struct GgufOptions {
  // Of the matrices: fp32, fp16, bf16, q8_0, q4_0 or q4_k. Nothing: each as it is in the source. Embedding
  // and head get q8_0 where the others get 4 bits. Norms, mixes and other vectors are always fp32, low-rank
  // matrices fp32 or 16 bits wide, as llama.cpp's own converter and quantiser keep them.
  std::optional<DType> dtype;
  // The vocabulary, id by id, escaped as llama.cpp unescapes RWKV tokens (\n \r \t \\ \' \xNN), token 0
  // "<s>"; padded to the size of the embedding. Empty: the file has no tokenizer.
  std::vector<std::string> tokens;
  std::string chat_template{rwkv_chat_template};
  std::string model_name;  // "general.name"; empty: none
  // RWKV-6: att.output and ffn.value of layer i are stored divided by 2^(i / n), and x is halved after every
  // n layers (0: neither), against overflow in fp16. Nothing: as in the source.
  std::optional<int> rescale_every;
  bool dry_run = false;  // only say what would be written
  Progress progress;
};

// Writes a model of official form (formats/layout.h) as llama.cpp expects it, tensor by tensor. Returns notes
// for the user: what was stored otherwise than asked for, and what was left out. The file is replaced in one
// step, after an error it is as it was. Errors: a model that llama.cpp cannot run, with the reason
// (ErrorCode::usage: RWKV-4 or 5, no ln0, biases, unequal low-rank sizes, numbers already processed by a
// converter; a vocabulary that it would not load); a tensor missing or of an impossible shape
// (invalid_file); whatever the file system reports, a number that a format cannot hold (runtime);
// ErrorCode::interrupted.
Result<WriteReport> write_gguf(const std::string& path, const Checkpoint& model,
                               const GgufOptions& options = {});

// The number format that `view`, a tensor of `file`, had before write_gguf widened it to fp32, as far as the
// file says so: its numbers are exactly those of that format. Else the one it has.
DType restored_dtype(const Checkpoint& file, const TensorView& view);

}  // namespace fr
