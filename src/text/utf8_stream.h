// UTF-8 for text that arrives in pieces: a token may end in the middle of a character.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace fr {

// Turns a stream of bytes into well-formed UTF-8, never emitting half a character. A byte sequence that can
// no longer become a character is replaced at once by U+FFFD, one for each maximal subpart (Unicode 15,
// section 3.9, table 3-7 and "U+FFFD substitution of maximal subparts"). The result does not depend on how
// the bytes are cut. Not thread-safe; copying it copies the pending bytes.
class Utf8Stream {
 public:
  // The text that `bytes` completes. At most three bytes stay pending.
  std::string push(std::string_view bytes);
  // The stream is over: a pending incomplete character becomes U+FFFD. The object can be used again.
  std::string finish();

 private:
  std::array<char, 3> pending_{};
  std::uint8_t count_ = 0;                  // pending bytes
  std::uint8_t needed_ = 0;                 // bytes that still have to follow
  unsigned char low_ = 0x80, high_ = 0xbf;  // range of the next byte
};

bool is_valid_utf8(std::string_view bytes);

struct Utf8Char {
  bool valid;          // false: one byte that begins no well-formed character
  char32_t scalar;     // 0 when not valid
  std::size_t length;  // in bytes
};
// The character at the start of `text`, which is not empty.
Utf8Char first_char(std::string_view text);

// Appends the UTF-8 form of a Unicode scalar value (at most U+10FFFF and no surrogate: the caller checks).
void append_utf8(std::string& out, char32_t scalar);

}  // namespace fr
