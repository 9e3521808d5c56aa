// What every tokenizer gives: bytes to token ids and back.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace fr {

// Id 0 is the end of text in every RWKV vocabulary: it has no bytes and encoding never produces it.
inline constexpr std::int32_t kEndOfText = 0;

// Immutable after construction: all functions may be called from any number of threads.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Any bytes, valid UTF-8 or not. Runtime error (with the offset) where the vocabulary has no token for a
  // byte; this cannot happen with the World vocabulary, which has all 256 single bytes.
  virtual Result<std::vector<std::int32_t>> encode(std::string_view text) const = 0;
  // The bytes of one token, empty for ids without bytes (end of text, gaps, negative or too large ids).
  // Often not a whole character: join tokens through Utf8Stream. Valid as long as the tokenizer lives.
  virtual std::string_view token_bytes(std::int32_t id) const = 0;
  // Largest id + 1. A model may have more rows: World ids end at 65529, the models have 65536.
  virtual std::size_t vocab_size() const = 0;
  // Where the vocabulary comes from: a path, or "World (built in)".
  virtual const std::string& name() const = 0;

  // The bytes of all tokens, one after the other; ids without bytes add nothing.
  std::string decode(std::span<const std::int32_t> ids) const;
};

// Reads a vocabulary; its form is recognised by content: msgpack (`tokenizer_model`) or the official text
// form
// (`rwkv_vocab_v20230424.txt`). Errors name the path and the line or entry. Allocates at most the size of the
// file + 64 MB.
Result<std::shared_ptr<const Tokenizer>> load_tokenizer(const std::string& path);
// The same for bytes in memory; `source` stands for the path in messages. `file` is not kept.
Result<std::shared_ptr<const Tokenizer>> read_tokenizer(std::string_view file, std::string source);

// The World vocabulary (rwkv_vocab_v20230424), built into the library. Made at the first call, then shared.
std::shared_ptr<const Tokenizer> builtin_world_tokenizer();

}  // namespace fr
