// For builds without utf8proc (cross builds, by default): only World and ABC vocabularies, which need no
// tables.
#include "base/result.h"
#include "text/unicode.h"

namespace fr {

bool have_unicode_tables() { return false; }

// Reached by tokenizers only that have_unicode_tables() keeps from being made.
CharClass char_class(char32_t) {
  FR_CHECK(have_unicode_tables());
  return CharClass::other;
}
std::string nfc(std::string_view) {
  FR_CHECK(have_unicode_tables());
  return {};
}
std::string to_lower(std::string_view) {
  FR_CHECK(have_unicode_tables());
  return {};
}

}  // namespace fr
