// The byte level of GPT-2's tokenizer: how it cuts text into words, and the characters it writes bytes with.
#pragma once
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace fr {

// Length in bytes of the first word of `text`, which is not empty. Words are cut as by the regular expression
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// (GPT-2, src/encoder.py); a byte that is no UTF-8 counts as a character of the third kind. A text is cut in
// time linear in its length.
std::size_t byte_level_word(std::string_view text);

// In files a byte is one character: printable Latin-1 as itself, the other 68 as U+0100 to U+0143 in order.
char32_t byte_level_char(unsigned char byte);
// The bytes that a token stands for; nothing when it has a character that is no byte.
std::optional<std::string> from_byte_level(std::string_view token);

}  // namespace fr
