#include "text/vocabulary.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/test_allocations.h"
#include "text/tokenizer.h"
#include "text/vocabulary_fixture.h"

namespace fr {
namespace {

using namespace std::string_literals;

std::string message(const std::string& file) {
  const auto made = read_tokenizer(file, "V");
  return made.ok() ? "no error" : made.error().message;
}

TEST(VocabularyText, ReadsPythonLiterals) {
  const struct {
    const char* literal;
    std::string bytes;
  } cases[] = {
      {"'a'", "a"},
      {"' '", " "},
      {"'  '", "  "},
      {"\"it's\"", "it's"},
      {R"('it\'s')", "it's"},
      {R"("\"")", "\""},
      {R"('\\')", "\\"},
      {R"('\\n')", "\\n"},
      {R"('\a\b\f\n\r\t\v')", "\a\b\f\n\r\t\v"},
      {R"('\x41')", "A"},
      {R"('\xe9')", "\xc3\xa9"},
      {R"('\u4f60')", "\xe4\xbd\xa0"},
      {R"('\U0001F600')", "\xf0\x9f\x98\x80"},
      {R"('\0')", std::string(1, '\0')},
      {R"('\1012')", "A2"},
      {R"('\18')",
       "\x01"
       "8"},
      {R"('\777')", "\xc7\xbf"},
      {R"(b'\xe9')", "\xe9"},
      {R"(b'\351')", "\xe9"},
      {R"(b"\x00'")", std::string("\0'", 2)},
      {"'\xe4\xbd\xa0'", "\xe4\xbd\xa0"},
      {"'\xe2\x80\xa8\xc2\x85'", "\xe2\x80\xa8\xc2\x85"},  // line ends of Unicode do not end a line here
  };
  for (const auto& c : cases) {
    const auto v =
        parse_vocabulary_text("3 " + std::string(c.literal) + " " + std::to_string(c.bytes.size()), "V");
    ASSERT_TRUE(v.ok()) << v.error().message;
    EXPECT_EQ(v->bytes, c.bytes) << c.literal;
  }
}

TEST(VocabularyText, AnythingElseIsAnErrorWithItsLine) {
  const struct {
    const char *line, *what;
  } cases[] = {
      {"", "not of the form"},
      {"5", "not of the form"},
      {"5 'x'", "not of the form"},
      {" 5 'x' 1", "no token id"},
      {"x 'x' 1", "no token id"},
      {"1e3 'x' 1", "no token id"},
      {"+5 'x' 1", "no token id"},
      {"12345678901 'x' 1", "no token id"},
      {"-5 'x' 1", "a negative token id"},
      {"0 'x' 1", "token id 0"},
      {"1048577 'x' 1", "token id 1048577 is too large"},
      {"5 'x' 2", "a token of 1 bytes with the length 2"},
      {"5 'x' -1", "no length"},
      {"5 'x' 1 ", "no length"},
      {"5 'x' 0x1", "no length"},
      {"5 '' 0", "an empty token"},
      {"5 b'' 0", "an empty token"},
      {"5 x 1", "not in quotes"},
      {"5 'x 1", "not in quotes"},
      {"5 ' 1", "not in quotes"},
      {"5 'x\" 1", "not in quotes"},
      {"5 u'x' 1", "not in quotes"},
      {"5 'x''y' 2", "a quote inside"},
      {R"(5 'x\' 1)", "an unfinished escape"},
      {R"(5 '\q' 1)", "an unknown escape"},
      {R"(5 '\N{BULLET}' 3)", "an unknown escape"},
      {R"(5 b'\u4f60' 3)", "an unknown escape"},
      {R"(5 '\x4' 1)", "an unfinished escape"},
      {R"(5 '\xg0' 1)", "an unfinished escape"},
      {R"(5 '\u12' 1)", "an unfinished escape"},
      {R"(5 '\U0011000' 1)", "an unfinished escape"},
      {R"(5 '\U00110000' 4)", "no character"},
      {R"(5 '\ud800' 3)", "no character"},
      {R"(5 b'\777' 1)", "above 255"},
      {"5 b'\xe4\xbd\xa0' 3", "above 127"},
      {"5 '\xff' 1", "not valid UTF-8"},
      {"1 'x' 1", "token id 1 for the second time"},
      {"5 'a' 1", "the token of id 1 for the second time"},
  };
  for (const auto& c : cases) {
    for (const char* line_end : {"\n", "\r\n"}) {
      const std::string text =
          message("1 'a' 1" + std::string(line_end) + c.line + line_end + "9 'z' 1" + line_end);
      EXPECT_NE(text.find(c.what), std::string::npos) << c.line << " gave: " << text;
      EXPECT_NE(text.find(" (V, line 2): "), std::string::npos) << c.line << " gave: " << text;
    }
  }
  const std::string longest = "5 '" + std::string(65537, 'x') + "' 65537";
  EXPECT_NE(message("1 'a' 1\n" + longest).find("a token of 65537 bytes (V, line 2)"), std::string::npos);
}

TEST(VocabularyMsgpack, ReadsEveryIntegerAndByteForm) {
  const std::string file =
      "\x88"
      "\x01\xc4\x01"
      "a"
      "\xcc\x02\xc5\x00\x01"
      "b"
      "\xcd\x00\x03\xc6\x00\x00\x00\x01"
      "c"
      "\xce\x00\x00\x00\x04\xa1"
      "d"
      "\xcf\x00\x00\x00\x00\x00\x00\x00\x05\xd9\x01"
      "e"
      "\xd0\x06\xda\x00\x01"
      "f"
      "\xd1\x00\x07\xdb\x00\x00\x00\x01"
      "g"
      "\xd2\x00\x00\x00\x08\xc4\x01"
      "h"s;
  const auto v = parse_vocabulary_msgpack(file, "V");
  ASSERT_TRUE(v.ok()) << v.error().message;
  EXPECT_EQ(v->bytes, "abcdefgh");
  for (std::size_t i = 0; i < 8; ++i) EXPECT_EQ(v->entries[i].id, static_cast<int>(i) + 1);
}

TEST(VocabularyMsgpack, AnythingElseIsAnErrorWithItsEntry) {
  const struct {
    std::string entry;
    const char* what;
  } cases[] = {
      {"\xff\xc4\x01x", "a negative token id"},
      {"\xd0\x80\xc4\x01x", "a negative token id"},
      {"\xd3\xff\xff\xff\xff\xff\xff\xff\xff\xc4\x01x", "a negative token id"},
      {"\xd3\x80\x00\x00\x00\x00\x00\x00\x00\xc4\x01x"s, "a negative token id"},
      {"\xcf\xff\xff\xff\xff\xff\xff\xff\xff\xc4\x01x", "is too large"},
      {"\x00\xc4\x01x"s, "token id 0"},
      {"\x05\xc4\x00"s, "an empty token"},
      {"\x01\xc4\x01x", "token id 1 for the second time"},
      {"\x05\xc4\x01"
       "a",
       "the token of id 1 for the second time"},
      {"\x05\x05", "no complete pair of token id and bytes at byte 5"},
      {"\xc0\xc4\x01x", "no complete pair"},
      {"\xca\x00\x00\x00\x00\xc4\x01x"s, "no complete pair"},
      {"\x05\xc6\xff\xff\xff\xffx", "no complete pair"},
      {"\xa1x\xc4\x01x", "text keys"},
      {"", "no complete pair"},
  };
  for (const auto& c : cases) {
    const std::string text = message(
        "\x82\x01\xc4\x01"
        "a" +
        c.entry);
    EXPECT_NE(text.find(c.what), std::string::npos) << text;
    EXPECT_NE(text.find(" (V, entry 2): "), std::string::npos) << text;
  }
  EXPECT_NE(message("\x81\x01\xc4\x01"
                    "abc")
                .find("2 bytes after the last token (V, entry 2)"),
            std::string::npos);
  EXPECT_NE(message("\x80").find("no tokens (V, entry 1)"), std::string::npos);
  EXPECT_NE(message("\xdf\xff\xff\xff\xff").find("no complete msgpack map"), std::string::npos);
}

TEST(LoadTokenizer, NamesTheFileAndSaysWhatToDo) {
  const auto folder = std::filesystem::path(testing::TempDir());
  const auto error_of = [&](const std::string& content) {
    const auto path = folder / "vocabulary_test.file";
    std::ofstream(path, std::ios::binary) << content;
    const auto made = load_tokenizer(path.string());
    std::filesystem::remove(path);
    EXPECT_FALSE(made.ok());
    if (made.ok()) return std::string();
    EXPECT_EQ(made.error().code, ErrorCode::invalid_file);
    EXPECT_NE(made.error().message.find("vocabulary_test.file"), std::string::npos);
    return made.error().message;
  };
  EXPECT_NE(error_of("").find("empty"), std::string::npos);
  EXPECT_NE(error_of(" \n{\"model\": 1}").find("of a tokenizer"), std::string::npos);
  EXPECT_NE(error_of("PK\x03\x04").find("not a vocabulary"), std::string::npos);
  EXPECT_NE(error_of("Once upon a time").find("not a vocabulary"), std::string::npos);
  EXPECT_NE(error_of("12").find("line 1"), std::string::npos);
  EXPECT_FALSE(load_tokenizer((folder / "no such file").string()).ok());
  EXPECT_FALSE(load_tokenizer(folder.string()).ok());
}

// One way to break a file so that it cannot be read. Returns the broken file.
using Damage = std::string (*)(const std::string& file, const TokenList& tokens, std::mt19937& random);

std::string rewrite(TokenList tokens, std::size_t at, std::int32_t id, const std::string& token, bool text) {
  tokens[at] = {id, token};
  return text ? text_form(tokens) : msgpack_form(tokens);
}

template <bool text>
std::string same_id(const std::string&, const TokenList& tokens, std::mt19937& random) {
  const auto at = 1 + random() % (tokens.size() - 1);
  return rewrite(tokens, at, tokens[random() % at].first, tokens[at].second, text);
}
template <bool text>
std::string same_token(const std::string&, const TokenList& tokens, std::mt19937& random) {
  const auto at = 1 + random() % (tokens.size() - 1);
  return rewrite(tokens, at, tokens[at].first, tokens[random() % at].second, text);
}
template <bool text>
std::string bad_id(const std::string&, const TokenList& tokens, std::mt19937& random) {
  const std::int32_t ids[] = {0, -1, -128, INT32_MIN, (1 << 20) + 1, 99999999};
  const auto at = random() % tokens.size();
  return rewrite(tokens, at, ids[random() % 6], tokens[at].second, text);
}
template <bool text>
std::string bad_size(const std::string&, const TokenList& tokens, std::mt19937& random) {
  const auto at = random() % tokens.size();
  return rewrite(tokens, at, tokens[at].first, random() % 8 ? "" : std::string(65537 + random() % 1000, 'x'),
                 text);
}

std::size_t line_begin(const std::string& file, std::size_t at) {
  return at == 0 ? 0 : file.rfind('\n', at - 1) + 1;  // npos + 1 is 0
}
std::string lying_length(const std::string& file, const TokenList&, std::mt19937& random) {
  const std::size_t end = file.find('\n', line_begin(file, random() % file.size()));
  std::string broken = file;
  broken.insert(end, 1, static_cast<char>('0' + random() % 10));
  return broken;
}
std::string cut_line(const std::string& file, const TokenList&, std::mt19937& random) {
  const std::size_t begin = line_begin(file, 8 + random() % (file.size() - 8));
  const std::size_t length_field = file.rfind(' ', file.find('\n', begin));
  return file.substr(0, begin + 1 + random() % (length_field - begin));
}
std::string no_newline(const std::string& file, const TokenList&, std::mt19937& random) {
  std::string broken = file;
  broken.erase(file.find('\n', random() % (file.size() - 20)), 1);
  return broken;
}
std::string junk_line(const std::string& file, const TokenList&, std::mt19937& random) {
  std::string junk;
  for (auto n = random() % 30; n > 0; --n)
    junk += static_cast<char>(random() % 10 == 0 ? 0 : 'A' + random() % 60);
  std::string broken = file;
  broken.insert(line_begin(file, random() % file.size()), junk + "\n");
  return broken;
}
std::string bad_escape(const std::string& file, const TokenList&, std::mt19937& random) {
  const char* escapes[] = {"\\q", "\\x", "\\xz1", "\\ud83d", "\\U99999999", "\\N{DASH}", "\\8"};
  const std::size_t begin = line_begin(file, random() % file.size());
  std::string broken = file;
  broken.insert(file.rfind(' ', file.find('\n', begin)) - 1, escapes[random() % 7]);
  return broken;
}

std::string truncated(const std::string& file, const TokenList&, std::mt19937& random) {
  return file.substr(0, 1 + random() % (file.size() - 1));
}
std::string lying_count(const std::string& file, const TokenList& tokens, std::mt19937& random) {
  std::uint32_t count = static_cast<std::uint32_t>(random());
  if (count == tokens.size()) ++count;
  std::string broken = file.substr(0, 1);
  put_big_endian(broken, count, 4);
  return broken + file.substr(5);
}
std::string extra_bytes(const std::string& file, const TokenList&, std::mt19937& random) {
  return file + std::string(1 + random() % 100, static_cast<char>(random()));
}
std::string lying_bin(const std::string& file, const TokenList&, std::mt19937& random) {
  std::string broken =
      file.substr(0, 5 + 4 * (random() % 100));  // at the border of two of the first, 4-byte entries
  broken += "\x05\xc6"s;
  put_big_endian(broken, 65537 + random() % 0xfffe0000u, 4);
  return broken + file.substr(5);
}

void check_damage(const std::string& file, const TokenList& tokens, const std::vector<Damage>& damages,
                  std::string_view unit) {
  std::mt19937 random(17);
  ASSERT_TRUE(read_tokenizer(file, "V").ok());
  for (int i = 0; i < 1000; ++i) {
    const std::size_t kind = static_cast<std::size_t>(i) % damages.size();
    const std::string broken = damages[kind](file, tokens, random);
    std::string text;
    const std::size_t memory = test::peak_allocation([&] { text = message(broken); });
    ASSERT_LE(memory, broken.size() + (64 << 20)) << "damage " << kind;
    ASSERT_TRUE(text.find("(V, " + std::string(unit) + " ") != std::string::npos ||
                text.starts_with("not a vocabulary (V): "))  // the first byte is gone
        << "damage " << kind << " gave: " << text;
    ASSERT_EQ(text.find('\n'), std::string::npos);
  }
}

// Bits flipped anywhere: it may still be a vocabulary, and then it has to work.
void check_noise(const std::string& file) {
  std::mt19937 random(23);
  int readable = 0;
  for (int i = 0; i < 1000; ++i) {
    std::string broken = file;
    for (auto n = 1 + random() % 2; n > 0; --n) {  // bits
      char& byte = broken[random() % broken.size()];
      byte = static_cast<char>(byte ^ (1 << random() % 8));
    }
    const auto made = read_tokenizer(broken, "V");
    if (!made.ok()) {
      ASSERT_NE(made.error().message.find("(V"), std::string::npos);
      continue;
    }
    ++readable;
    for (std::size_t id = 0; id < (*made)->vocab_size(); ++id) {
      const std::string_view token = (*made)->token_bytes(static_cast<std::int32_t>(id));
      if (token.empty()) continue;
      ASSERT_EQ(*(*made)->encode(token), std::vector<std::int32_t>{static_cast<std::int32_t>(id)});
    }
  }
  EXPECT_GT(readable, 10);
}

TEST(DamagedVocabulary, TextIsANamedError) {
  const TokenList tokens = make_tokens(400, 5);
  check_damage(text_form(tokens), tokens,
               {same_id<true>, same_token<true>, bad_id<true>, bad_size<true>, lying_length, cut_line,
                no_newline, junk_line, bad_escape},
               "line");
}

TEST(DamagedVocabulary, MsgpackIsANamedError) {
  const TokenList tokens = make_tokens(400, 6);
  check_damage(msgpack_form(tokens), tokens,
               {same_id<false>, same_token<false>, bad_id<false>, bad_size<false>, truncated, lying_count,
                extra_bytes, lying_bin},
               "entry");
}

TEST(DamagedVocabulary, NoiseIsAnErrorOrAVocabularyThatWorks) {
  check_noise(text_form(make_tokens(300, 7)));
  check_noise(msgpack_form(make_tokens(300, 7)));
}

TEST(DamagedVocabulary, TheLargestOnesStayWithinTheMemoryBound) {
  TokenList tokens;  // as many as allowed, with two nodes for each
  for (std::int32_t id = 1; id <= 1 << 20; ++id) {
    std::string token;
    put_big_endian(token, static_cast<std::uint64_t>(id - 1) << 12, 4);
    tokens.emplace_back(id, token);
  }
  std::string file = msgpack_form(tokens);
  std::string text;
  EXPECT_LE(test::peak_allocation([&] { text = message(file); }), file.size() + (64 << 20));
  EXPECT_EQ(text, "no error");

  file = text_form(tokens) + "1 'a' 1\n";
  tokens = {};
  EXPECT_LE(test::peak_allocation([&] { text = message(file); }), file.size() + (64 << 20));
  EXPECT_NE(text.find("too many tokens (V, line 1048577)"), std::string::npos) << text;
}

}  // namespace
}  // namespace fr
