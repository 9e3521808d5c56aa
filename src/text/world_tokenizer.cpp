#include "text/world_tokenizer.h"

#include <algorithm>
#include <utility>

namespace fr {

Result<std::shared_ptr<const WorldTokenizer>> WorldTokenizer::create(Vocabulary vocabulary) {
  const auto& entries = vocabulary.entries;
  if (entries.empty()) return vocabulary.error("no tokens", 0, "give a World vocabulary");
  const std::int32_t largest =
      std::max_element(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
        return a.id < b.id;
      })->id;
  auto tokenizer = std::make_shared<WorldTokenizer>();
  tokenizer->tokens_.resize(static_cast<std::size_t>(largest) + 1);
  tokenizer->name_ = vocabulary.source;
  tokenizer->bytes_ = std::move(vocabulary.bytes);
  std::vector<std::int32_t> ids;  // sorted by the bytes of the tokens
  ids.reserve(entries.size());
  std::uint32_t offset = 0;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    Token& token = tokenizer->tokens_[static_cast<std::size_t>(entries[i].id)];
    if (token.length != 0) {
      return vocabulary.error("token id " + std::to_string(entries[i].id) + " for the second time", i,
                              "every id may occur once");
    }
    token = {offset, entries[i].length};
    offset += entries[i].length;
    ids.push_back(entries[i].id);
  }

  const auto bytes_of = [&](std::int32_t id) { return tokenizer->token_bytes(id); };
  std::sort(ids.begin(), ids.end(),
            [&](std::int32_t a, std::int32_t b) { return bytes_of(a) < bytes_of(b); });
  const auto twin = std::adjacent_find(
      ids.begin(), ids.end(), [&](std::int32_t a, std::int32_t b) { return bytes_of(a) == bytes_of(b); });
  if (twin != ids.end()) {
    const auto last = std::find_if(entries.rbegin(), entries.rend(), [&](const auto& entry) {
      return entry.id == twin[0] || entry.id == twin[1];
    });
    const std::int32_t first_id = last->id == twin[0] ? twin[1] : twin[0];
    return vocabulary.error("the token of id " + std::to_string(first_id) + " for the second time",
                            static_cast<std::size_t>(entries.rend() - last) - 1,
                            "every token may occur once");
  }
  if (!tokenizer->trie_.build(ids, bytes_of)) {
    return vocabulary.error("tokens with too many different beginnings", entries.size() - 1,
                            "at most 3145728 are supported");
  }
  return std::shared_ptr<const WorldTokenizer>(std::move(tokenizer));
}

Result<std::vector<std::int32_t>> WorldTokenizer::encode(std::string_view text) const {
  std::vector<std::int32_t> ids;
  ids.reserve(text.size() / 4 + 8);
  for (std::size_t at = 0; at < text.size();) {
    const Trie::Match match = trie_.longest_match(text.substr(at));
    if (match.value == 0) {
      return runtime_error("no token for byte " + std::to_string(static_cast<unsigned char>(text[at])) +
                           " at offset " + std::to_string(at) + " of the text (" + name_ +
                           "): leave it out or use another vocabulary");
    }
    ids.push_back(match.value);
    at += match.length;
  }
  return ids;
}

std::string_view WorldTokenizer::token_bytes(std::int32_t id) const {
  if (id < 0 || static_cast<std::size_t>(id) >= tokens_.size()) return {};
  const Token token = tokens_[static_cast<std::size_t>(id)];
  return std::string_view(bytes_).substr(token.offset, token.length);
}

}  // namespace fr
