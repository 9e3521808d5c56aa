// Tokens that are found in the text before anything else happens to it: "<|endoftext|>", runs of spaces.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/trie.h"

namespace fr {

struct AddedToken {
  std::int32_t id = 0;
  std::string text;
  bool normalized = false;  // looked for in the normalized text, not in the text as given
};

// The added tokens of Hugging Face's tokenizers: of those that begin first, the longest. Those for the given
// text are cut out first; what lies between is normalized, piece by piece, and searched for the others.
class AddedTokens {
 public:
  // Error texts without a place: an empty or too long text, a text that occurs twice, too many of them.
  Status build(std::vector<AddedToken> tokens);

  using Normalize = std::function<std::string(std::string_view)>;
  using Plain = std::function<Status(std::string_view text)>;
  // Appends the ids of added tokens to `ids` and calls `plain` for the normalized text between them, in
  // order.
  Status split(std::string_view text, const Normalize& normalize, std::vector<std::int32_t>& ids,
               const Plain& plain) const;

 private:
  Status split_by(const Trie& trie, std::string_view text, std::vector<std::int32_t>& ids,
                  const Plain& plain) const;

  std::vector<AddedToken> tokens_;
  Trie given_, normalized_;  // index in tokens_ + 1
};

}  // namespace fr
