// The World vocabulary as llama.cpp keeps it in GGUF: `tokenizer.ggml.tokens` with `tokenizer.ggml.model`
// "rwkv".
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/tokenizer.h"

namespace fr {

// Token i is written as Python's repr() of its bytes, without b and quotes; token 0 ("<s>") is the end of
// text, and rows beyond the vocabulary are called "[PAD<i>]". (llama.cpp convert_hf_to_gguf.py
// _set_vocab_rwkv_world, src/llama-vocab.cpp llama_unescape_rwkv_token.)
// `model` is the value of tokenizer.ggml.model; others than "rwkv" are errors that name it.
Result<std::shared_ptr<const Tokenizer>> tokenizer_from_gguf(std::string_view model,
                                                             std::span<const std::string_view> tokens,
                                                             std::string source);

struct GgufTokens {
  std::vector<std::string> tokens;  // tokenizer.ggml.tokens
  std::vector<std::int32_t> types;  // tokenizer.ggml.token_type: 3 control, 1 normal, 5 unused
};
// The same for a writer: `n_vocab` entries, the same bytes as llama.cpp's converter makes. Byte-level
// vocabularies of World's kind only (id 0 has no bytes).
GgufTokens gguf_tokens(const Tokenizer& world, std::size_t n_vocab);

}  // namespace fr
