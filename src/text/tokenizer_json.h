// Reads `tokenizer.json`, the files of Hugging Face's tokenizers library.
#pragma once
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "text/tokenizer.h"

namespace fr {

// Two kinds: BPE on bytes (20B_tokenizer.json), and whole words (tokenizer-midi.json). Whatever would change
// the ids and is not implemented is an error that names it. The post-processor is not used: it adds tokens at
// the ends of a text, and RWKV has none. Takes about 100 bytes for each of at most kMaxJsonValues values.
Result<std::shared_ptr<const Tokenizer>> read_tokenizer_json(std::string_view file, std::string source);

inline constexpr std::size_t kMaxJsonFile = std::size_t{64} << 20;
inline constexpr std::size_t kMaxJsonValues = std::size_t{4} << 20;

}  // namespace fr
