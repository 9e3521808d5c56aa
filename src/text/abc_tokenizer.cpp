#include "text/abc_tokenizer.h"

#include "text/utf8_stream.h"
#include "text/vocabulary.h"

namespace fr {

AbcTokenizer::AbcTokenizer(std::size_t n_vocab) : characters_(n_vocab) {
  FR_CHECK(n_vocab <= kMaxTokenId);  // all of them below U+110000
  for (char32_t c = kEnd + 1; c < n_vocab; ++c) {
    const bool is_surrogate = c >= 0xd800 && c <= 0xdfff;
    if (!is_surrogate) append_utf8(characters_[c], c);
  }
}

Result<std::vector<std::int32_t>> AbcTokenizer::encode(std::string_view text) const {
  std::vector<std::int32_t> ids;
  ids.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Char c = first_char(text.substr(at));
    if (!c.valid || c.scalar >= characters_.size()) {
      return runtime_error("no token for the character at offset " + std::to_string(at) + " of the text (" +
                           name_ + "): ABC notation is plain ASCII, leave it out");
    }
    ids.push_back(static_cast<std::int32_t>(c.scalar));
    at += c.length;
  }
  return ids;
}

std::string_view AbcTokenizer::token_bytes(std::int32_t id) const {
  if (id < 0 || static_cast<std::size_t>(id) >= characters_.size()) return {};
  return characters_[static_cast<std::size_t>(id)];
}

}  // namespace fr
