// What the tokenizers need of Unicode (through utf8proc), over UTF-8 that may be broken.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace fr {

enum class CharClass : std::uint8_t { space, letter, number, other };
// Whether this build has the tables of what follows (FR_ENABLE_UNICODE).
bool have_unicode_tables();
// By the property White_Space and the general categories L* and N*.
CharClass char_class(char32_t scalar);

// Normalization form C (UAX #15) of every stretch of well-formed UTF-8; other bytes stay where they are.
// n log n at worst.
std::string nfc(std::string_view text);
// Simple lower case mappings, the same way.
std::string to_lower(std::string_view text);

}  // namespace fr
