// The tokenizer of RWKV-4-ABC, which writes music in ABC notation: the id of a character is its code point.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace fr {

// (ChatRWKV music/run.py.) Ids 0 to 3 have no bytes: 2 begins a tune, so a prompt starts with the byte \x02,
// and 3 ends it.
class AbcTokenizer final : public Tokenizer {
 public:
  static constexpr std::int32_t kBegin = 2, kEnd = 3;

  // Characters below `n_vocab`, which is at most kMaxTokenId.
  explicit AbcTokenizer(std::size_t n_vocab);

  // Runtime error for other characters and for bytes that are no UTF-8.
  Result<std::vector<std::int32_t>> encode(std::string_view text) const override;
  std::string_view token_bytes(std::int32_t id) const override;
  std::int32_t end_of_text() const override { return kEnd; }
  std::size_t vocab_size() const override { return characters_.size(); }
  const std::string& name() const override { return name_; }

 private:
  std::string name_ = "ABC (built in)";
  std::vector<std::string> characters_;  // by id
};

}  // namespace fr
