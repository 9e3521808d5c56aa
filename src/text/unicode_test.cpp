#include "text/unicode.h"

#include <gtest/gtest.h>

#include <chrono>

#include "text/byte_level.h"

namespace fr {
namespace {

using namespace std::string_literals;

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  while (!text.empty()) {
    const std::size_t length = byte_level_word(text);
    words.emplace_back(text.substr(0, length));
    text.remove_prefix(length);
  }
  return words;
}

// Expected values are those of Python's unicodedata.normalize("NFC", ...).
TEST(Nfc, ComposesAndOrders) {
  const std::pair<const char*, const char*> cases[] = {
      {"", ""},
      {"plain \xc3\xa9", "plain \xc3\xa9"},
      {"e\xcc\x81", "\xc3\xa9"},                                             // e + acute
      {"\xe2\x84\xab", "\xc3\x85"},                                          // Angstrom sign
      {"q\xcc\x87\xcc\xa3", "q\xcc\xa3\xcc\x87"},                            // dot above, dot below: ordered
      {"d\xcc\x87\xcc\xa3", "\xe1\xb8\x8d\xcc\x87"},                         // the lower dot composes
      {"\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab", "\xed\x95\x9c"},              // Hangul jamo
      {"\xe0\xa5\x98", "\xe0\xa4\x95\xe0\xa4\xbc"},                          // excluded from composition
      {"\xef\xac\x81", "\xef\xac\x81"},                                      // a ligature stays
      {"\xf0\x9f\x98\x80\xe4\xbd\xa0", "\xf0\x9f\x98\x80\xe4\xbd\xa0"},      // emoji, Chinese
      {">\xcc\xb8", "\xe2\x89\xaf"},                                         // > + solidus
      {"\xcd\x84", "\xcc\x88\xcc\x81"},                                      // a mark that is two
      {"\xe0\xbd\xb3\xe0\xbd\xb1", "\xe0\xbd\xb1\xe0\xbd\xb1\xe0\xbd\xb2"},  // no mark, but made of two
  };
  for (const auto& [text, want] : cases) {
    EXPECT_EQ(nfc(text), want) << text;
    EXPECT_EQ(nfc(want), want) << text;
  }
}

TEST(Nfc, LeavesBrokenUtf8InItsPlace) {
  EXPECT_EQ(nfc("e\xcc\x81\xff"
                "e\xcc\x81"),
            "\xc3\xa9\xff\xc3\xa9");
  EXPECT_EQ(nfc("e\xff\xcc\x81"), "e\xff\xcc\x81");  // nothing composes across it
  for (const std::string& text :
       {"\xcc"s, "\xed\xa0\x80"s, "\xf4\x90\x80\x80"s, "\xc0\x80"s, "\xf0\x9f\x98"s})
    EXPECT_EQ(nfc(text), text);
  EXPECT_EQ(nfc("\0e\xcc\x81\0"s), "\0\xc3\xa9\0"s);
}

TEST(Nfc, TakesLongRunsOfMarksInTime) {
  std::string marks, ordered;
  for (int i = 0; i < 200000; ++i) marks += "\xcc\x80\xcc\xa3";  // above, below, above, ...
  for (int i = 0; i < 200000; ++i) ordered += "\xcc\xa3";
  for (int i = 0; i < 200000; ++i) ordered += "\xcc\x80";
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_TRUE(nfc(marks) == ordered);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
}

TEST(Unicode, LowerCase) {
  EXPECT_EQ(to_lower("ABC \xc3\x89\xce\xa9\xd0\x96\xff z"), "abc \xc3\xa9\xcf\x89\xd0\xb6\xff z");
}

TEST(Unicode, Classes) {
  for (const char32_t c : {U'\t', U'\n', U'\v', U'\f', U'\r', U' ', U'\x85', U'\u00a0', U'\u1680', U'\u2000',
                           U'\u200a', U'\u2028', U'\u2029', U'\u202f', U'\u205f', U'\u3000'})
    EXPECT_EQ(char_class(c), CharClass::space) << std::hex << static_cast<unsigned>(c);
  for (const char32_t c : {U'a', U'Z', U'\u00aa', U'\u01c5', U'\u02b0', U'\u4f60', U'\u05d0'})
    EXPECT_EQ(char_class(c), CharClass::letter) << std::hex << static_cast<unsigned>(c);
  for (const char32_t c : {U'0', U'\u00b2', U'\u0663', U'\u2167'})
    EXPECT_EQ(char_class(c), CharClass::number) << std::hex << static_cast<unsigned>(c);
  for (const char32_t c :
       {U'\0', U'\x1c', U'\x1f', U'!', U'_', U'\u0301', U'\u180e', U'\u200b', U'\u20ac', U'\U0001f600'})
    EXPECT_EQ(char_class(c), CharClass::other) << std::hex << static_cast<unsigned>(c);
}

TEST(ByteLevel, CutsWords) {
  using Words = std::vector<std::string>;
  EXPECT_EQ(words_of("Hello world!  I'm  12 x\n\ny"),
            (Words{"Hello", " world", "!", " ", " I", "'m", " ", " 12", " x", "\n", "\n", "y"}));
  EXPECT_EQ(words_of("they'll've 'S don't 're"),
            (Words{"they", "'ll", "'ve", " '", "S", " don", "'t", " '", "re"}));
  EXPECT_EQ(words_of("  "), (Words{"  "}));
  EXPECT_EQ(words_of("a \t "), (Words{"a", " \t "}));
  EXPECT_EQ(words_of("\t a"), (Words{"\t", " a"}));
  EXPECT_EQ(words_of(" \ta"), (Words{" ", "\t", "a"}));
  EXPECT_EQ(words_of("\xe3\x80\x80\xe3\x80\x80\xe4\xbd\xa0\xe5\xa5\xbd\xef\xbc\x81"
                     "3\xc2\xb2"),
            (Words{"\xe3\x80\x80", "\xe3\x80\x80", "\xe4\xbd\xa0\xe5\xa5\xbd", "\xef\xbc\x81", "3\xc2\xb2"}));
  EXPECT_EQ(words_of(" \xff\xfe! a"), (Words{" \xff\xfe!", " a"}));
  EXPECT_EQ(words_of("e\xcc\x81"), (Words{"e", "\xcc\x81"}));  // a mark is no letter
}

TEST(ByteLevel, WritesBytesAsCharacters) {
  EXPECT_EQ(byte_level_char(' '), U'\u0120');
  EXPECT_EQ(byte_level_char('\n'), U'\u010a');
  EXPECT_EQ(byte_level_char(0xad), U'\u0143');
  EXPECT_EQ(byte_level_char('a'), U'a');
  EXPECT_EQ(from_byte_level("\xc4\xa0"
                            "a\xc3\xa9"),
            " a\xe9");
  EXPECT_EQ(from_byte_level("\xc4\xa0 a"), std::nullopt);    // a space
  EXPECT_EQ(from_byte_level("\xe4\xbd\xa0"), std::nullopt);  // not of the 256
  EXPECT_EQ(from_byte_level("\xc5\x84"), std::nullopt);      // U+0144
  EXPECT_EQ(from_byte_level("\xff"), std::nullopt);
}

}  // namespace
}  // namespace fr
