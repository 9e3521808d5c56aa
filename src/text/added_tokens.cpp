#include "text/added_tokens.h"

#include <algorithm>
#include <utility>

#include "text/vocabulary.h"

namespace fr {

Status AddedTokens::build(std::vector<AddedToken> tokens) {
  tokens_ = std::move(tokens);
  const auto text_of = [&](std::int32_t value) -> std::string_view {
    return tokens_[static_cast<std::size_t>(value) - 1].text;
  };
  std::vector<std::int32_t> values[2];
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    if (tokens_[i].text.empty()) return file_error("an empty added token");
    if (tokens_[i].text.size() > kMaxTokenBytes) return file_error("an added token of more than 65536 bytes");
    values[tokens_[i].normalized].push_back(static_cast<std::int32_t>(i) + 1);
  }
  for (const bool normalized : {false, true}) {
    auto& sorted = values[normalized];
    std::sort(sorted.begin(), sorted.end(), [&](auto a, auto b) { return text_of(a) < text_of(b); });
    if (std::adjacent_find(sorted.begin(), sorted.end(),
                           [&](auto a, auto b) { return text_of(a) == text_of(b); }) != sorted.end()) {
      return file_error("an added token that occurs twice");
    }
    if (!(normalized ? normalized_ : given_).build(sorted, text_of)) {
      return file_error("added tokens with too many different beginnings");
    }
  }
  return {};
}

Status AddedTokens::split(std::string_view text, const Normalize& normalize, std::vector<std::int32_t>& ids,
                          const Plain& plain) const {
  return split_by(given_, text, ids, [&](std::string_view piece) {
    return split_by(normalized_, normalize(piece), ids, plain);
  });
}

Status AddedTokens::split_by(const Trie& trie, std::string_view text, std::vector<std::int32_t>& ids,
                             const Plain& plain) const {
  std::size_t begin = 0;  // of the plain text that is not handed on yet
  for (std::size_t at = 0; at < text.size();) {
    const Trie::Match match = trie.longest_match(text.substr(at));
    if (match.value == 0) {
      ++at;
      continue;
    }
    if (at > begin) FR_OK(plain(text.substr(begin, at - begin)));
    ids.push_back(tokens_[static_cast<std::size_t>(match.value) - 1].id);
    begin = at += match.length;
  }
  return begin < text.size() ? plain(text.substr(begin)) : Status{};
}

}  // namespace fr
