#include "text/byte_level.h"

#include <array>

#include "text/unicode.h"
#include "text/utf8_stream.h"

namespace fr {
namespace {

struct ClassedChar {
  CharClass kind;
  std::size_t length;
};

ClassedChar classify(std::string_view text) {
  const Utf8Char c = first_char(text);
  return {c.valid ? char_class(c.scalar) : CharClass::other, c.length};
}

// Where the run of characters of this kind that begins at `at` ends.
std::size_t end_of_run(std::string_view text, std::size_t at, CharClass kind) {
  while (at < text.size()) {
    const ClassedChar c = classify(text.substr(at));
    if (c.kind != kind) break;
    at += c.length;
  }
  return at;
}

constexpr bool is_printable(unsigned char byte) {
  return (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte != 0xad);
}

struct Alphabet {
  std::array<char32_t, 256> char_of;
  std::array<std::optional<unsigned char>, 0x144> byte_of;
};

const Alphabet& alphabet() {
  static const Alphabet table = [] {
    Alphabet made;
    char32_t next = 0x100;
    for (unsigned byte = 0; byte < 256; ++byte) {
      const auto b = static_cast<unsigned char>(byte);
      made.char_of[byte] = is_printable(b) ? b : next++;
      made.byte_of[made.char_of[byte]] = b;
    }
    return made;
  }();
  return table;
}

}  // namespace

std::size_t byte_level_word(std::string_view text) {
  if (text.front() == '\'') {
    for (const std::string_view suffix : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}) {
      if (text.starts_with(suffix)) return suffix.size();
    }
  }
  if (text.front() == ' ' && text.size() > 1) {
    const ClassedChar second = classify(text.substr(1));
    if (second.kind != CharClass::space) return end_of_run(text, 1 + second.length, second.kind);
  }
  const ClassedChar first = classify(text);
  if (first.kind != CharClass::space) return end_of_run(text, first.length, first.kind);
  // White space: the last character before a word is left to the next one.
  std::size_t end = first.length, last = 0;
  while (end < text.size()) {
    const ClassedChar c = classify(text.substr(end));
    if (c.kind != CharClass::space) return last > 0 ? last : end;
    last = end;
    end += c.length;
  }
  return end;
}

char32_t byte_level_char(unsigned char byte) { return alphabet().char_of[byte]; }

std::optional<std::string> from_byte_level(std::string_view token) {
  std::string bytes;
  for (std::size_t at = 0; at < token.size();) {
    const Utf8Char c = first_char(token.substr(at));
    if (!c.valid || c.scalar >= alphabet().byte_of.size()) return std::nullopt;
    const auto byte = alphabet().byte_of[c.scalar];
    if (!byte) return std::nullopt;
    bytes += static_cast<char>(*byte);
    at += c.length;
  }
  return bytes;
}

}  // namespace fr
