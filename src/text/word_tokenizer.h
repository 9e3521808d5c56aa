// The tokenizers whose tokens are whole words between white space: the vocabulary of the MIDI models.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/added_tokens.h"
#include "text/tokenizer.h"

namespace fr {

struct WordVocabulary {
  std::string source;              // path, for messages
  std::vector<std::string> words;  // by id; empty: no such token
  std::vector<AddedToken> added;   // their ids are in `words` too
  std::int32_t unknown = 0;        // stands for every other word
  bool lower_case = false;         // text is brought to lower case first
};

// Encoding is lossy: words that are not in the vocabulary become `unknown`, white space is not kept. Decoded
// words are joined by single spaces. token_bytes has the space before the word, so that a reply continues its
// prompt; decode leaves out the first one.
class WordTokenizer final : public Tokenizer {
 public:
  // Errors: those of AddedTokens, a word for two ids, an id above kMaxTokenId, `unknown` without a word.
  static Result<std::shared_ptr<const WordTokenizer>> create(WordVocabulary vocabulary);

  Result<std::vector<std::int32_t>> encode(std::string_view text) const override;
  std::string_view token_bytes(std::int32_t id) const override;
  std::string decode(std::span<const std::int32_t> ids) const override;
  std::size_t vocab_size() const override { return words_.size(); }
  const std::string& name() const override { return name_; }

 private:
  std::string name_;
  std::vector<std::string> words_;  // by id, with a space before each; empty: no such token
  std::unordered_map<std::string_view, std::int32_t> ids_;
  AddedTokens added_;
  std::int32_t unknown_ = 0;
  bool lower_case_ = false;
};

}  // namespace fr
