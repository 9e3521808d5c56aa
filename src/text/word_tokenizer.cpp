#include "text/word_tokenizer.h"

#include <utility>

#include "text/unicode.h"
#include "text/utf8_stream.h"
#include "text/vocabulary.h"

namespace fr {
namespace {

// Calls `word` for each stretch without white space.
template <class Word>
void for_each_word(std::string_view text, const Word& word) {
  std::size_t begin = 0;
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Char c = first_char(text.substr(at));
    const bool is_space = c.valid && char_class(c.scalar) == CharClass::space;
    if (is_space && at > begin) word(text.substr(begin, at - begin));
    at += c.length;
    if (is_space) begin = at;
  }
  if (begin < text.size()) word(text.substr(begin));
}

}  // namespace

Result<std::shared_ptr<const WordTokenizer>> WordTokenizer::create(WordVocabulary vocabulary) {
  auto tokenizer = std::make_shared<WordTokenizer>();
  tokenizer->name_ = std::move(vocabulary.source);
  const auto fault = [&](const std::string& what) {
    return file_error(what + " (" + tokenizer->name_ + "): give another vocabulary");
  };
  tokenizer->words_ = std::move(vocabulary.words);
  tokenizer->unknown_ = vocabulary.unknown;
  tokenizer->lower_case_ = vocabulary.lower_case;
  if (tokenizer->words_.size() > kMaxTokenId + 1) return fault("token ids above 1048576");
  for (std::size_t id = 0; id < tokenizer->words_.size(); ++id) {
    std::string& word = tokenizer->words_[id];
    if (word.empty()) continue;
    word.insert(0, 1, ' ');
    if (!tokenizer->ids_.emplace(std::string_view(word).substr(1), static_cast<std::int32_t>(id)).second)
      return fault("token " + std::to_string(id) + " has the word of another");
  }
  if (tokenizer->token_bytes(tokenizer->unknown_).empty()) return fault("no token for unknown words");
  if (const Status done = tokenizer->added_.build(std::move(vocabulary.added)); !done)
    return fault(done.error().message);
  return std::shared_ptr<const WordTokenizer>(std::move(tokenizer));
}

Result<std::vector<std::int32_t>> WordTokenizer::encode(std::string_view text) const {
  std::vector<std::int32_t> ids;
  const auto normalize = [this](std::string_view piece) {
    return lower_case_ ? to_lower(piece) : std::string(piece);
  };
  FR_OK(added_.split(text, normalize, ids, [&](std::string_view piece) -> Status {
    for_each_word(piece, [&](std::string_view word) {
      const auto found = ids_.find(word);
      ids.push_back(found == ids_.end() ? unknown_ : found->second);
    });
    return {};
  }));
  return ids;
}

std::string_view WordTokenizer::token_bytes(std::int32_t id) const {
  if (id < 0 || static_cast<std::size_t>(id) >= words_.size()) return {};
  return words_[static_cast<std::size_t>(id)];
}

std::string WordTokenizer::decode(std::span<const std::int32_t> ids) const {
  std::string text = Tokenizer::decode(ids);
  if (!text.empty()) text.erase(0, 1);
  return text;
}

}  // namespace fr
