// What the tokenizers need of Unicode (through utf8proc), over UTF-8 that may be broken.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace fr {

struct Utf8Char {
  bool valid;          // false: one byte that begins no well-formed character
  char32_t scalar;     // 0 when not valid
  std::size_t length;  // in bytes
};
// The character at the start of `text`, which is not empty.
Utf8Char first_char(std::string_view text);

enum class CharClass : std::uint8_t { space, letter, number, other };
// By the property White_Space and the general categories L* and N*.
CharClass char_class(char32_t scalar);

// Normalization form C (UAX #15) of every stretch of well-formed UTF-8; other bytes stay where they are.
// n log n at worst.
std::string nfc(std::string_view text);
// Simple lower case mappings, the same way.
std::string to_lower(std::string_view text);

}  // namespace fr
