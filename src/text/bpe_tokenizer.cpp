#include "text/bpe_tokenizer.h"

#include <algorithm>
#include <functional>
#include <tuple>
#include <utility>

#include "text/byte_level.h"
#include "text/unicode.h"
#include "text/vocabulary.h"

namespace fr {

// Merges the bytes of one word: a linked list of symbols and a heap of the pairs in it. One per encoding.
class BpeTokenizer::Merger {
 public:
  explicit Merger(const BpeTokenizer& tokenizer) : tokenizer_(tokenizer) {}

  // Appends the ids of `word`. Returns its size, or where the first byte without a token is.
  std::size_t run(std::string_view word, std::vector<std::int32_t>& ids) {
    symbols_.clear();
    heap_.clear();
    for (std::size_t i = 0; i < word.size(); ++i) {
      const std::int32_t id = tokenizer_.byte_ids_[static_cast<unsigned char>(word[i])];
      if (id < 0) return i;
      symbols_.push_back({id, i - 1, i + 1});
    }
    for (std::size_t i = 0; i + 1 < symbols_.size(); ++i) find_pair(i);
    std::make_heap(heap_.begin(), heap_.end(), std::greater<>());
    while (!heap_.empty()) {
      std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
      const Pair pair = heap_.back();
      heap_.pop_back();
      merge(pair);
    }
    for (std::size_t i = 0; i < symbols_.size(); i = symbols_[i].next) ids.push_back(symbols_[i].id);
    return word.size();
  }

 private:
  struct Symbol {
    std::int32_t id;         // -1: merged into the one before it
    std::size_t prev, next;  // the first has prev SIZE_MAX, the last has next symbols_.size()
  };
  struct Pair {
    std::uint32_t rank;
    std::size_t at;  // the left symbol
    std::int32_t left, right, result;
    bool operator>(const Pair& other) const { return std::tie(rank, at) > std::tie(other.rank, other.at); }
  };

  bool find_pair(std::size_t at) {
    const std::int32_t left = symbols_[at].id, right = symbols_[symbols_[at].next].id;
    const auto found = tokenizer_.ranks_.find(pair_key(left, right));
    if (found == tokenizer_.ranks_.end()) return false;
    heap_.push_back({found->second.rank, at, left, right, found->second.result});
    return true;
  }
  void push_pair(std::size_t at) {
    if (find_pair(at)) std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
  }

  void merge(const Pair& pair) {
    Symbol& left = symbols_[pair.at];
    if (left.id != pair.left || left.next == symbols_.size()) return;  // one of the two has changed
    Symbol& right = symbols_[left.next];
    if (right.id != pair.right) return;
    left.id = pair.result;
    right.id = -1;
    left.next = right.next;
    if (left.next != symbols_.size()) {
      symbols_[left.next].prev = pair.at;
      push_pair(pair.at);
    }
    if (left.prev != SIZE_MAX) push_pair(left.prev);
  }

  const BpeTokenizer& tokenizer_;
  std::vector<Symbol> symbols_;
  std::vector<Pair> heap_;
};

Result<std::shared_ptr<const BpeTokenizer>> BpeTokenizer::create(BpeVocabulary vocabulary) {
  auto tokenizer = std::make_shared<BpeTokenizer>();
  tokenizer->name_ = std::move(vocabulary.source);
  tokenizer->tokens_ = std::move(vocabulary.tokens);
  tokenizer->nfc_ = vocabulary.nfc;
  const auto fault = [&](const Error& error) {
    return file_error(error.message + " (" + tokenizer->name_ + "): give another vocabulary");
  };
  if (tokenizer->tokens_.size() > kMaxTokenId + 1) return fault(file_error("token ids above 1048576"));
  tokenizer->byte_ids_.fill(-1);
  std::vector<bool> is_added(tokenizer->tokens_.size());
  for (const AddedToken& added : vocabulary.added) is_added[static_cast<std::size_t>(added.id)] = true;
  for (std::size_t id = 0; id < tokenizer->tokens_.size(); ++id) {
    const std::string& token = tokenizer->tokens_[id];
    if (token.size() != 1 || is_added[id]) continue;
    tokenizer->byte_ids_[static_cast<unsigned char>(token[0])] = static_cast<std::int32_t>(id);
  }
  if (const Status done = tokenizer->added_.build(std::move(vocabulary.added)); !done)
    return fault(done.error());
  if (const Status done = tokenizer->set_merges(vocabulary.merges); !done) return fault(done.error());
  if (const Status done = tokenizer->index_words(); !done) return fault(done.error());
  return std::shared_ptr<const BpeTokenizer>(std::move(tokenizer));
}

Status BpeTokenizer::set_merges(const std::vector<BpeVocabulary::Merge>& merges) {
  ranks_.reserve(merges.size());
  for (std::size_t i = 0; i < merges.size(); ++i) {
    const auto& [left, right, result] = merges[i];
    const std::string_view joined = token_bytes(result);
    const bool fits = joined == std::string(token_bytes(left)).append(token_bytes(right));
    if (joined.empty() || !fits) return file_error("merge " + std::to_string(i + 1) + " makes no token");
    if (!ranks_.emplace(pair_key(left, right), Rank{static_cast<std::uint32_t>(i), result}).second)
      return file_error("merge " + std::to_string(i + 1) + " for the second time");
  }
  return {};
}

Status BpeTokenizer::index_words() {
  std::vector<std::int32_t> made;
  std::vector<std::int32_t> ids;
  Merger merger(*this);
  for (std::size_t i = 1; i < tokens_.size(); ++i) {  // a trie has no value 0
    const auto id = static_cast<std::int32_t>(i);
    ids.clear();
    if (merger.run(tokens_[i], ids) == tokens_[i].size() && ids.size() == 1 && ids[0] == id)
      made.push_back(id);
  }
  const auto bytes_of = [&](std::int32_t id) { return token_bytes(id); };
  std::sort(made.begin(), made.end(),
            [&](std::int32_t a, std::int32_t b) { return bytes_of(a) < bytes_of(b); });
  if (!words_.build(made, bytes_of)) return file_error("tokens with too many different beginnings");
  return {};
}

Result<std::vector<std::int32_t>> BpeTokenizer::encode(std::string_view text) const {
  std::vector<std::int32_t> ids;
  ids.reserve(text.size() / 4 + 8);
  Merger merger(*this);
  const auto normalize = [this](std::string_view piece) { return nfc_ ? nfc(piece) : std::string(piece); };
  FR_OK(added_.split(text, normalize, ids,
                     [&](std::string_view piece) { return encode_words(piece, merger, ids); }));
  return ids;
}

Status BpeTokenizer::encode_words(std::string_view text, Merger& merger,
                                  std::vector<std::int32_t>& ids) const {
  for (std::size_t at = 0; at < text.size();) {
    const std::string_view word = text.substr(at, byte_level_word(text.substr(at)));
    const Trie::Match match = words_.longest_match(word);
    if (match.value != 0 && match.length == word.size()) {
      ids.push_back(match.value);
    } else if (const std::size_t done = merger.run(word, ids); done < word.size()) {
      const auto byte = static_cast<unsigned char>(word[done]);
      return runtime_error("no token for byte " + std::to_string(byte) + " (" + name_ +
                           "): it is no part of UTF-8, leave it out or use another vocabulary");
    }
    at += word.size();
  }
  return {};
}

std::string_view BpeTokenizer::token_bytes(std::int32_t id) const {
  if (id < 0 || static_cast<std::size_t>(id) >= tokens_.size()) return {};
  return tokens_[static_cast<std::size_t>(id)];
}

}  // namespace fr
