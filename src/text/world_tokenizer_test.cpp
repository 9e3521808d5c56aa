#include "text/world_tokenizer.h"

#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <thread>

#include "text/builtin_vocabulary.h"
#include "text/test_files.h"
#include "text/vocabulary_fixture.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

std::shared_ptr<const Tokenizer> read(std::string_view file) {
  const auto made = read_tokenizer(file, "test");
  EXPECT_TRUE(made.ok()) << (made.ok() ? "" : made.error().message);
  return made.ok() ? *made : nullptr;
}

std::string random_bytes(std::size_t n, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::string bytes(n, '\0');
  for (char& c : bytes) c = static_cast<char>(random());
  return bytes;
}

class WorldGoldens : public testing::TestWithParam<const char*> {
 protected:
  std::shared_ptr<const Tokenizer> tokenizer() const {
    const std::string form = GetParam();
    if (form == "msgpack") return read(read_file(fs::path(FR_SOURCE_DIR) / "tokenizer_model"));
    if (form == "builtin") return builtin_world_tokenizer();
    const std::string text = read_file(kShared / "goldens/tokenizer/rwkv_vocab_v20230424.txt");
    if (form == "txt") return read(text);
    std::string crlf;
    for (const char c : text) crlf += c == '\n' ? std::string("\r\n") : std::string(1, c);
    return read(crlf);
  }
};

TEST_P(WorldGoldens, EveryCaseGivesItsIdsAndComesBack) {
  const fs::path goldens = kShared / "goldens/tokenizer/world.json";
  if (!fs::exists(goldens)) GTEST_SKIP() << "SKIPPED, the golden ids are not here: " << goldens;
  const auto world = tokenizer();
  ASSERT_TRUE(world);
  EXPECT_EQ(world->vocab_size(), 65530u);
  const auto cases = nlohmann::json::parse(read_file(goldens)).at("cases");
  ASSERT_EQ(cases.size(), 312u);
  for (const auto& golden : cases) {
    const std::string bytes = from_base64(golden.at("b64").get<std::string>());
    const auto ids = world->encode(bytes);
    ASSERT_TRUE(ids.ok());
    EXPECT_EQ(*ids, golden.at("ids").get<std::vector<std::int32_t>>()) << golden.at("kind");
    EXPECT_EQ(world->decode(*ids), bytes) << golden.at("kind");
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, WorldGoldens, testing::Values("builtin", "msgpack", "txt", "txt_crlf"),
                         [](const auto& info) { return std::string(info.param); });

TEST(WorldTokenizer, TheBuiltInVocabularyIsThatOfTheFirstFasterRwkv) {
  const fs::path golden = kShared / "goldens/tokenizer/fr_world_tokenizer_model.msgpack";
  if (!fs::exists(golden)) GTEST_SKIP() << "SKIPPED, the golden file is not here: " << golden;
  EXPECT_TRUE(builtin_vocabulary() == read_file(golden));
}

TEST(WorldTokenizer, GivesTheIdsOfTheOfficialTokenizer) {
  const struct {
    std::string text;
    std::vector<std::int32_t> ids;  // by TRIE_TOKENIZER of the PyPI package rwkv 0.8.32
  } cases[] = {
      {"", {}},
      {"Hello world", {33155, 40213}},
      {"你好，世界！", {10464, 11685, 19137, 10267, 14610, 19126}},
      {"😀👍🏽", {3319, 153, 129, 28333, 3319, 144, 190}},
      {"\n\n\n", {3328}},
      {"  if (x)\t{\r\n", {267, 1942, 275, 121, 42, 10, 124, 263}},
      {"1234567890", {632, 654, 676, 698, 710}},
      {std::string("\0", 1), {1}},
      {"\xff", {256}},
  };
  for (const auto& c : cases) EXPECT_EQ(*builtin_world_tokenizer()->encode(c.text), c.ids) << c.text;
}

TEST(WorldTokenizer, RandomBytesComeBackAndIdZeroIsNeverGiven) {
  const auto world = builtin_world_tokenizer();
  const std::string bytes = random_bytes(200000, 11);
  const auto ids = *world->encode(bytes);
  EXPECT_EQ(world->decode(ids), bytes);
  for (const std::int32_t id : ids) ASSERT_TRUE(id >= 1 && id <= 65529);
}

TEST(WorldTokenizer, IdsWithoutBytesAddNothing) {
  const auto world = builtin_world_tokenizer();
  for (const std::int32_t id : {0, -1, 65530, 65535, INT32_MAX, INT32_MIN})
    EXPECT_EQ(world->token_bytes(id), "");
  EXPECT_EQ(world->decode(std::vector<std::int32_t>{0, 33155, -5, 40213, 99999}), "Hello world");
  EXPECT_EQ(world->name(), "World (built in)");
}

// Greedy longest match over an ordered map: slow and plain.
std::optional<std::vector<std::int32_t>> naive_encode(const TokenList& tokens, std::string_view text) {
  std::map<std::string_view, std::int32_t> ids;
  std::size_t longest = 0;
  for (const auto& [id, token] : tokens) {
    ids[token] = id;
    longest = std::max(longest, token.size());
  }
  std::vector<std::int32_t> out;
  for (std::size_t at = 0; at < text.size();) {
    std::size_t length = std::min(longest, text.size() - at);
    while (length > 0 && !ids.contains(text.substr(at, length))) --length;
    if (length == 0) return std::nullopt;
    out.push_back(ids[text.substr(at, length)]);
    at += length;
  }
  return out;
}

TEST(WorldTokenizer, EqualsTheNaiveLongestMatch) {
  std::mt19937 random(3);
  int encoded = 0, refused = 0;
  for (int round = 0; round < 400; ++round) {
    // Few letters and many lengths: deep, shared prefixes. Most vocabularies lack single bytes.
    TokenList tokens;
    std::set<std::string> seen;
    const auto n_letters = 1 + random() % 5;
    for (auto n = 1 + random() % 60; n > 0; --n) {
      std::string token;
      for (auto k = 1 + random() % 9; k > 0; --k) token += static_cast<char>(0x7d + random() % n_letters);
      if (seen.insert(token).second)
        tokens.emplace_back(static_cast<std::int32_t>(1 + 3 * tokens.size()), token);
    }
    std::shuffle(tokens.begin(), tokens.end(), random);
    const auto tokenizer = read(msgpack_form(tokens));
    ASSERT_TRUE(tokenizer);
    for (int i = 0; i < 20; ++i) {
      std::string text;
      for (auto k = random() % 40; k > 0; --k) text += static_cast<char>(0x7d + random() % n_letters);
      const auto want = naive_encode(tokens, text);
      const auto got = tokenizer->encode(text);
      ASSERT_EQ(got.ok(), want.has_value());
      ++(got.ok() ? encoded : refused);
      if (got.ok()) {
        ASSERT_EQ(*got, *want);
      }
    }
  }
  EXPECT_GT(encoded, 1000);
  EXPECT_GT(refused, 1000);

  const TokenList many = make_tokens(3000, 8);
  const auto tokenizer = read(text_form(many));
  const std::string text = random_bytes(5000, 9);
  EXPECT_EQ(*tokenizer->encode(text), *naive_encode(many, text));
}

TEST(WorldTokenizer, AByteWithoutATokenIsAnErrorWithItsOffset) {
  const auto tokenizer = read("1 '0' 1\n2 '01' 2\n3 '12' 2\n");
  EXPECT_EQ(*tokenizer->encode("00112"), (std::vector<std::int32_t>{1, 2, 3}));
  const auto failed = tokenizer->encode("012");  // 01 is taken first, no token begins with 2
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error().message,
            "no token for byte 50 at offset 2 of the text (test): leave it out or use another vocabulary");
}

TEST(WorldTokenizer, TakesLongTokensLargeIdsAndGaps) {
  TokenList tokens = {
      {1 << 20, "a"}, {7, std::string(65536, 'a')}, {70000, "ab"}, {8, std::string(65535, 'a') + 'b'}};
  for (const std::string& file : {text_form(tokens), msgpack_form(tokens)}) {
    const auto tokenizer = read(file);
    ASSERT_TRUE(tokenizer);
    EXPECT_EQ(tokenizer->vocab_size(), (1u << 20) + 1);
    const std::string text = "aab" + std::string(65536, 'a') + std::string(65535, 'a') + 'b';
    const auto ids = *tokenizer->encode(text);
    EXPECT_EQ(ids, (std::vector<std::int32_t>{1 << 20, 70000, 7, 8}));
    EXPECT_EQ(tokenizer->decode(ids), text);
    EXPECT_EQ(tokenizer->token_bytes(9), "");
  }
}

TEST(WorldTokenizer, ReadsTheVocabularyOfTheSmallModel) {
  fs::path folder = fs::path(FR_SOURCE_DIR) / "models";
  if (!fs::exists(folder / "rwkv7-story-9m.vocab.txt")) folder = kShared / "models";
  if (!fs::exists(folder / "expected.json"))
    GTEST_SKIP() << "SKIPPED, the small model is not here: " << folder;
  const auto loaded = load_tokenizer((folder / "rwkv7-story-9m.vocab.txt").string());
  ASSERT_TRUE(loaded.ok()) << loaded.error().message;
  EXPECT_EQ((*loaded)->vocab_size(), 4096u);
  const auto expected = nlohmann::json::parse(read_file(folder / "expected.json"));
  for (const auto& prompt : expected.at("prompts")) {
    EXPECT_EQ(*(*loaded)->encode(prompt.at("text").get<std::string>()),
              prompt.at("ids").get<std::vector<std::int32_t>>());
    EXPECT_EQ((*loaded)->decode(prompt.at("greedy_ids").get<std::vector<std::int32_t>>()),
              prompt.at("greedy_text").get<std::string>());
  }
}

TEST(WorldTokenizer, IsSharedByThreads) {
  const std::string bytes = random_bytes(20000, 4);
  const auto want = *builtin_world_tokenizer()->encode(bytes);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] { EXPECT_EQ(*builtin_world_tokenizer()->encode(bytes), want); });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace fr
