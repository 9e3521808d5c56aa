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

// Id 0 is the end of text (in ABC: 3). In World it has no bytes and encoding never produces it; in 20B and
// MIDI it is the token "<|endoftext|>" or "<pad>".
inline constexpr std::int32_t kEndOfText = 0;

// Immutable after construction: all functions may be called from any number of threads.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Any bytes, valid UTF-8 or not. Runtime error where the vocabulary has no token for a byte; this cannot
  // happen with the World vocabulary, which has all 256 single bytes, nor with valid UTF-8 and 20B.
  virtual Result<std::vector<std::int32_t>> encode(std::string_view text) const = 0;
  // The bytes of one token where it follows others, empty for ids without bytes (end of text, gaps, negative
  // or too large ids). Often not a whole character: join tokens through Utf8Stream. Valid as long as the
  // tokenizer lives.
  virtual std::string_view token_bytes(std::int32_t id) const = 0;
  // The token that ends a text.
  virtual std::int32_t end_of_text() const { return kEndOfText; }
  // Largest id + 1. A model may have more rows: World ids end at 65529, the models have 65536.
  virtual std::size_t vocab_size() const = 0;
  // Where the vocabulary comes from: a path, or "World (built in)".
  virtual const std::string& name() const = 0;

  // The bytes of all tokens, one after the other; ids without bytes add nothing. Tokenizers of whole words
  // leave out the space before the first.
  virtual std::string decode(std::span<const std::int32_t> ids) const;
};

// Reads a vocabulary; its form is recognised by content: msgpack (`tokenizer_model`), the official text form
// (`rwkv_vocab_v20230424.txt`) or JSON (read_tokenizer_json). Errors name the path and the line or entry.
// Allocates at most the size of the file + 64 MB (for JSON see there). Where no file `path` is, the names
// "world", "20b" and "abc" stand for the built-in vocabularies.
Result<std::shared_ptr<const Tokenizer>> load_tokenizer(const std::string& path);
// The same for bytes in memory; `source` stands for the path in messages. `file` is not kept.
Result<std::shared_ptr<const Tokenizer>> read_tokenizer(std::string_view file, std::string source);

// The World vocabulary (rwkv_vocab_v20230424), and that of GPT-NeoX-20B (RWKV-4 Pile and Raven): built into
// the library. Made at the first call, then shared. 20b: null in a build without Unicode tables.
std::shared_ptr<const Tokenizer> builtin_world_tokenizer();
std::shared_ptr<const Tokenizer> builtin_20b_tokenizer();
// The characters below `n_vocab` by their code points (abc_tokenizer.h). `n_vocab` is at most 1048576.
std::shared_ptr<const Tokenizer> builtin_abc_tokenizer(std::size_t n_vocab = 128);

}  // namespace fr
