// The tokenizer of the World vocabularies: at each position the longest token wins, over plain bytes.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"
#include "text/trie.h"
#include "text/vocabulary.h"

namespace fr {

// Same ids as TRIE_TOKENIZER of ChatRWKV (rwkv_pip_package/src/rwkv/rwkv_tokenizer.py). The vocabulary may
// lack single bytes: encoding fails at a byte where no token matches; a shorter earlier token is not tried
// instead. Encoding takes text length x longest token at worst, and one step a byte on real text.
class WorldTokenizer final : public Tokenizer {
 public:
  // Errors: no tokens, an id or a token that occurs twice (with both lines), a trie above Trie::kMaxSlots.
  static Result<std::shared_ptr<const WorldTokenizer>> create(Vocabulary vocabulary);

  Result<std::vector<std::int32_t>> encode(std::string_view text) const override;
  std::string_view token_bytes(std::int32_t id) const override;
  std::size_t vocab_size() const override { return tokens_.size(); }
  const std::string& name() const override { return name_; }

 private:
  struct Token {
    std::uint32_t offset = 0, length = 0;  // in bytes_
  };

  std::string name_;
  std::string bytes_;
  std::vector<Token> tokens_;  // by id
  Trie trie_;
};

}  // namespace fr
