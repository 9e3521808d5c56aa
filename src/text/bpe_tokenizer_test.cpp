#include "text/bpe_tokenizer.h"

#include <gtest/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <random>

#include "text/test_files.h"
#include "text/tokenizer_fixture.h"
#include "text/tokenizer_json.h"
#include "text/unicode.h"

namespace fr {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<std::int32_t>;

std::shared_ptr<const Tokenizer> read(const nlohmann::json& json) {
  const auto made = read_tokenizer(json.dump(), "test");
  EXPECT_TRUE(made.ok()) << (made.ok() ? "" : made.error().message);
  return made.ok() ? *made : nullptr;
}

// Merges as the definition says, in quadratic time: the best pair of the whole word, again and again.
Ids naive(const MergeList& merges, const nlohmann::json& vocabulary, std::string_view word) {
  std::vector<std::string> symbols;
  for (const char c : word) symbols.push_back(byte_level(std::string(1, c)));
  while (true) {
    std::size_t best = merges.size(), at = 0;
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
      const auto rank = static_cast<std::size_t>(
          std::find(merges.begin(), merges.end(), std::pair{symbols[i], symbols[i + 1]}) - merges.begin());
      if (rank < best) best = rank, at = i;
    }
    if (best == merges.size()) break;
    symbols[at] += symbols[at + 1];
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
  Ids ids;
  for (const std::string& symbol : symbols) ids.push_back(vocabulary.at(symbol));
  return ids;
}

TEST(BpeTokenizer, EqualsTheNaiveMerging) {
  for (std::uint32_t seed = 1; seed <= 8; ++seed) {
    const MergeList merges = random_merges(60, seed);
    const auto json = bpe_json(merges);
    const auto tokenizer = read(json);
    ASSERT_TRUE(tokenizer);
    std::mt19937 random(seed);
    for (int n = 0; n < 300; ++n) {
      std::string word = n % 2 ? " " : "";  // one word of the pre-tokenizer
      for (auto length = 1 + random() % 40; length > 0; --length)
        word += random() % 6 ? std::string(1, "abcde"[random() % 5]) : std::string("\xc3\xa9");
      ASSERT_EQ(*tokenizer->encode(word), naive(merges, json["model"]["vocab"], word))
          << seed << ": " << word;
    }
  }
}

// Merges whose results depend on the order: "ab" first makes "abc" out of reach for "ab" + "c" words.
TEST(BpeTokenizer, ATokenIsNotAlwaysMadeOfItsOwnBytes) {
  const auto tokenizer = read(bpe_json({{"b", "c"}, {"a", "b"}, {"ab", "c"}}));
  ASSERT_TRUE(tokenizer);
  EXPECT_EQ(tokenizer->token_bytes(258), "abc");
  EXPECT_EQ(*tokenizer->encode("abc"), (Ids{'a', 256}));
}

TEST(BpeTokenizer, AddedTokensComeFirstAndTextIsNormalized) {
  const auto tokenizer = read(bpe_json({{"a", "a"}}));  // 256 aa, 257 <|end|>, 258 two spaces
  ASSERT_TRUE(tokenizer);
  EXPECT_EQ(tokenizer->vocab_size(), 259u);
  EXPECT_EQ(*tokenizer->encode("a<|end|>aa<|end|"), (Ids{'a', 257, 256, '<', '|', 'e', 'n', 'd', '|'}));
  EXPECT_EQ(*tokenizer->encode("a     a"), (Ids{'a', 258, 258, ' ', 'a'}));
  EXPECT_EQ(*tokenizer->encode("e\xcc\x81<|end|>\xcc\x81"), (Ids{0xc3, 0xa9, 257, 0xcc, 0x81}));
  EXPECT_EQ(tokenizer->decode(*tokenizer->encode("e\xcc\x81<|end|>  ")), "\xc3\xa9<|end|>  ");
  EXPECT_EQ(tokenizer->token_bytes(-1), "");
  EXPECT_EQ(tokenizer->token_bytes(259), "");
}

TEST(BpeTokenizer, AnyBytesComeBackNormalized) {
  const auto tokenizer = read(bpe_json(random_merges(40, 3)));
  ASSERT_TRUE(tokenizer);
  std::mt19937 random(7);
  for (int n = 0; n < 200; ++n) {
    std::string bytes(random() % 100, '\0');
    for (char& c : bytes) c = static_cast<char>(random());
    EXPECT_EQ(tokenizer->decode(*tokenizer->encode(bytes)), nfc(bytes));
  }
}

TEST(BpeTokenizer, TakesLongWordsInTime) {
  const auto begin = std::chrono::steady_clock::now();
  const auto tokenizer = builtin_20b_tokenizer();
  for (const char* unit : {"a", "ab", "aab", " ", "\n", "\xe4\xbd\xa0", "\xff"}) {
    std::string word;
    while (word.size() < 200000) word += unit;
    const auto ids = tokenizer->encode(word);
    EXPECT_EQ(ids.ok(), word[0] != '\xff');
    if (ids) {
      EXPECT_EQ(tokenizer->decode(*ids), word);
    }
  }
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
}

// Ids by Hugging Face's tokenizers 0.23.2 with 20B_tokenizer.json.
TEST(Tokenizer20B, GivesTheIdsOfHuggingFace) {
  const struct {
    std::string text;
    Ids ids;
  } cases[] = {
      {"a", {66}},
      {"Z", {59}},
      {"def f(x):\x0a    return x**2\x0a", {1545, 269, 9, 89, 2262, 187, 50274, 2309, 1269, 424, 19, 187}},
      {"<div class=\"x\">&nbsp;<br/></div>",
       {29, 2154, 966, 568, 89, 31841, 6732, 26077, 1288, 16, 3073, 2154, 31}},
      {"\xe4\xbb\x8a\xe5\xa4\xa9\xe5\xa4\xa9\xe6\xb0\x94\xe4\xb8\x8d\xe9\x94\x99",
       {37248, 40120, 40120, 17289, 231, 14274, 39915, 236}},
      {"\xec\x95\x88\xeb\x85\x95\xed\x95\x98\xec\x84\xb8\xec\x9a\x94 \xec\x84\xb8\xea\xb3\x84",
       {33104, 219, 167, 216, 232, 29470, 29597, 118, 42170, 7775, 215, 118, 26437, 215}},
      {"\xd9\x85\xd8\xb1\xd8\xad\xd8\xa8\xd8\xa7 \xd8\xa8\xd8\xa7\xd9\x84\xd8\xb9\xd8\xa7\xd9\x84\xd9\x85",
       {5843, 6900, 21931, 13621, 3142, 15677, 7427, 13793, 7427, 5843}},
      {"\xd7\xa9\xd7\x9c\xd7\x95\xd7\x9d \xd7\xa2\xd7\x95\xd7\x9c\xd7\x9d",
       {26344, 20770, 12859, 240, 6810, 97, 12859, 239, 42252}},
      {"\xf0\x9f\x98\x80", {14931, 235, 211}},
      {"\xf0\x9f\x8f\xb3\xef\xb8\x8f\xe2\x80\x8d\xf0\x9f\x8c\x88",
       {14931, 226, 113, 171, 118, 226, 325, 224, 14931, 223, 219}},
      {"e\xcc\x81", {860}},
      {"a\xcc\x88o\xcc\x88u\xcc\x88", {1392, 2381, 3090}},
      {" ", {209}},
      {"  ", {50276}},
      {"<|endoftext|>", {0}},
      {"text<|endoftext|>more", {1156, 0, 3062}},
      {"-1>A:+453#&=u`Pi{}lU", {14, 18, 31, 34, 27, 12, 31213, 4, 8114, 86, 65, 10314, 15564, 77, 54}},
      {"I wanted to wipe that se", {42, 3078, 281, 31179, 326, 396}},
      {"x y", {89, 340}},
      {"x   y", {89, 50275, 90}},
  };
  const auto tokenizer = builtin_20b_tokenizer();
  EXPECT_EQ(tokenizer->vocab_size(), 50277u);
  EXPECT_EQ(tokenizer->name(), "20B (built in)");
  for (const auto& c : cases) EXPECT_EQ(*tokenizer->encode(c.text), c.ids) << c.text;
}

TEST(Tokenizer20B, BytesThatUtf8NeverHasAreAnError) {
  const auto tokenizer = builtin_20b_tokenizer();
  EXPECT_EQ(tokenizer->decode(*tokenizer->encode("a\x80\xe4\xbd")), "a\x80\xe4\xbd");
  const auto failed = tokenizer->encode("a\xff");
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error().code, ErrorCode::runtime);
  EXPECT_EQ(failed.error().message,
            "no token for byte 255 (20B (built in)): it is no part of UTF-8, leave it out or use another "
            "vocabulary");
}

class Goldens20B : public testing::TestWithParam<const char*> {};

TEST_P(Goldens20B, EveryCaseGivesItsIdsAndText) {
  const fs::path folder = kShared / "goldens/tokenizer";
  if (!fs::exists(folder / "bpe20b.json")) GTEST_SKIP() << "SKIPPED, the golden ids are not here: " << folder;
  const bool builtin = std::string(GetParam()) == "builtin";
  const auto file =
      builtin ? builtin_20b_tokenizer() : load_tokenizer((folder / "20B_tokenizer.json").string());
  ASSERT_TRUE(file.ok()) << file.error().message;
  const auto cases = nlohmann::json::parse(read_file(folder / "bpe20b.json")).at("cases");
  ASSERT_EQ(cases.size(), 191u);
  for (const auto& golden : cases) {
    const std::string text = from_base64(golden.at("b64").get<std::string>());
    const auto ids = (*file)->encode(text);
    ASSERT_TRUE(ids.ok()) << ids.error().message;
    EXPECT_EQ(*ids, golden.at("ids").get<Ids>()) << golden.at("kind") << ": " << text;
    EXPECT_EQ((*file)->decode(*ids), from_base64(golden.at("decoded_b64").get<std::string>())) << text;
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, Goldens20B, testing::Values("builtin", "json"),
                         [](const auto& info) { return std::string(info.param); });

TEST(Tokenizer20B, TheBuiltInVocabularyIsThatOfTheFile) {
  const fs::path path = kShared / "goldens/tokenizer/20B_tokenizer.json";
  if (!fs::exists(path)) GTEST_SKIP() << "SKIPPED, the golden vocabulary is not here: " << path;
  const auto file = load_tokenizer(path.string());
  ASSERT_TRUE(file.ok()) << file.error().message;
  const auto builtin = builtin_20b_tokenizer();
  EXPECT_EQ((*file)->vocab_size(), builtin->vocab_size());
  for (std::int32_t id = 0; id < 50277; ++id) EXPECT_EQ((*file)->token_bytes(id), builtin->token_bytes(id));
}

}  // namespace
}  // namespace fr
