// The byte-level BPE tokenizers of GPT-2's kind, as Hugging Face's tokenizers run them: the 20B vocabulary.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/added_tokens.h"
#include "text/tokenizer.h"
#include "text/trie.h"

namespace fr {

struct BpeVocabulary {
  struct Merge {
    std::int32_t left, right, result;  // ids
  };
  std::string source;               // path, for messages
  std::vector<std::string> tokens;  // by id, as bytes; empty: no such token
  std::vector<Merge> merges;        // in the order in which they are done
  std::vector<AddedToken> added;    // their ids are in `tokens` too
  bool nfc = false;                 // text is brought to NFC first
};

// Added tokens are cut out, the rest is normalized and cut into words (byte_level_word), and in each word the
// first merge of the list that applies anywhere is done, leftmost first, until none does. Time n log n in the
// longest word. A vocabulary may lack bytes (20B has none of those that UTF-8 never has): encoding them
// fails.
class BpeTokenizer final : public Tokenizer {
 public:
  // Errors: a merge of ids without tokens, a pair that occurs twice, an id above kMaxTokenId, those of
  // AddedTokens.
  static Result<std::shared_ptr<const BpeTokenizer>> create(BpeVocabulary vocabulary);

  Result<std::vector<std::int32_t>> encode(std::string_view text) const override;
  std::string_view token_bytes(std::int32_t id) const override;
  std::size_t vocab_size() const override { return tokens_.size(); }
  const std::string& name() const override { return name_; }

 private:
  class Merger;

  Status set_merges(const std::vector<BpeVocabulary::Merge>& merges);
  Status index_words();
  Status encode_words(std::string_view text, Merger& merger, std::vector<std::int32_t>& ids) const;

  struct Rank {
    std::uint32_t rank;
    std::int32_t result;
  };
  static std::uint64_t pair_key(std::int32_t left, std::int32_t right) {
    return static_cast<std::uint64_t>(left) << 32 | static_cast<std::uint32_t>(right);
  }

  std::string name_;
  std::vector<std::string> tokens_;
  std::array<std::int32_t, 256> byte_ids_;         // -1: no token
  std::unordered_map<std::uint64_t, Rank> ranks_;  // by pair_key
  Trie words_;  // the tokens that the merges make of their own bytes: a word that is one needs no merging
  AddedTokens added_;
  bool nfc_ = false;
};

}  // namespace fr
