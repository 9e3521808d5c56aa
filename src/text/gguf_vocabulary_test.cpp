#include "text/gguf_vocabulary.h"

#include <gtest/gtest.h>

#include "text/abc_tokenizer.h"
#include "text/tokenizer.h"

namespace fr {
namespace {

using Ids = std::vector<std::int32_t>;

Result<std::shared_ptr<const Tokenizer>> read(std::vector<std::string_view> tokens,
                                              std::string_view model = "rwkv") {
  return tokenizer_from_gguf(model, tokens, "m.gguf");
}

TEST(GgufVocabulary, ReadsEscapesAndSkipsPadding) {
  const auto made = read({"<s>", R"(\x00)", R"(a\n)", R"(\\x41)", R"(\'")", R"(\t\r)", R"(\xe4\xBD)", "it's",
                          "[PAD7]", "[PAD9]", "[PAD10]"});
  ASSERT_TRUE(made.ok()) << made.error().message;
  const Tokenizer& t = **made;
  EXPECT_EQ(t.name(), "m.gguf");
  EXPECT_EQ(t.vocab_size(), 9u);  // token 8 is called [PAD7], 9 and 10 are padding
  const std::string_view want[] = {
      "", std::string_view("\0", 1), "a\n", "\\x41", "'\"", "\t\r", "\xe4\xbd", "it's", "[PAD7]"};
  for (std::int32_t id = 0; id < 9; ++id) EXPECT_EQ(t.token_bytes(id), want[id]) << id;
  EXPECT_EQ(*t.encode("a\nit's\xe4\xbd"), (Ids{2, 7, 6}));
}

TEST(GgufVocabulary, ErrorsNameTheKindAndTheToken) {
  const auto message = [](const auto& made) { return made.ok() ? std::string() : made.error().message; };
  EXPECT_EQ(message(read({"<s>", "a"}, "gpt2")),
            "a vocabulary of the kind \"gpt2\" (m.gguf): give the model's own with --vocab");
  for (const char* bad : {"\\", "\\x", "\\x4", "\\xg0"})
    EXPECT_NE(message(read({"<s>", "a", bad})).find("an unfinished escape (m.gguf, token 2)"),
              std::string::npos);
  EXPECT_NE(message(read({"<s>", "a", ""})).find("an empty token (m.gguf, token 2)"), std::string::npos);
  EXPECT_NE(message(read({"<s>", "a", "a"})).find("for the second time (m.gguf, token 2)"),
            std::string::npos);
  EXPECT_NE(message(read({"<s>"})).find("no tokens"), std::string::npos);
  EXPECT_NE(message(read({})).find("no tokens"), std::string::npos);
}

TEST(GgufVocabulary, WorldIsWrittenAsLlamaCppWritesItAndComesBack) {
  const auto world = builtin_world_tokenizer();
  const GgufTokens made = gguf_tokens(*world, 65536);
  ASSERT_EQ(made.tokens.size(), 65536u);
  ASSERT_EQ(made.types.size(), 65536u);
  EXPECT_EQ(made.tokens[0], "<s>");
  EXPECT_EQ(made.tokens[1], R"(\x00)");
  EXPECT_EQ(made.tokens[11], R"(\n)");
  EXPECT_EQ(made.tokens[40], "'");
  EXPECT_EQ(made.tokens[93], R"(\\)");
  EXPECT_EQ(made.tokens[65529], world->token_bytes(65529));  // spaces
  EXPECT_EQ(made.tokens[65530], "[PAD65530]");
  EXPECT_EQ(made.types[0], 3);
  EXPECT_EQ(made.types[1], 1);
  EXPECT_EQ(made.types[65529], 1);
  EXPECT_EQ(made.types[65530], 5);
  // FNV-1a of all of them, each followed by a newline, as made by Python from rwkv_vocab_v20230424.txt in the
  // way of llama.cpp's converter: repr(token)[2:-1].
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const std::string& token : made.tokens) {
    for (const char c : token + "\n") hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  }
  EXPECT_EQ(hash, 0xe0c7987edf3c38dau);

  const std::vector<std::string_view> views(made.tokens.begin(), made.tokens.end());
  const auto again = read(views);
  ASSERT_TRUE(again.ok()) << again.error().message;
  EXPECT_EQ((*again)->vocab_size(), world->vocab_size());
  for (std::int32_t id = 0; id < 65536; ++id)
    ASSERT_EQ((*again)->token_bytes(id), world->token_bytes(id)) << id;
}

TEST(AbcTokenizer, TokensAreCodePoints) {
  EXPECT_EQ(AbcTokenizer(128).end_of_text(), 3);
  const auto abc = builtin_abc_tokenizer();
  EXPECT_EQ(abc->vocab_size(), 128u);
  EXPECT_EQ(*abc->encode("\x02S:2\n"), (Ids{2, 'S', ':', '2', '\n'}));
  EXPECT_EQ(abc->decode(Ids{2, 'A', 0, 3, '|', 128, -1}), "A|");
  for (const char* bad : {"A\xc3\xa9", "A\xff"}) {
    const auto failed = abc->encode(bad);
    ASSERT_FALSE(failed.ok());
    EXPECT_NE(failed.error().message.find("at offset 1 "), std::string::npos);
  }
  const auto more = builtin_abc_tokenizer(0x10000);
  EXPECT_EQ(more->decode(*more->encode("A\xc3\xa9\xe4\xbd\xa0")), "A\xc3\xa9\xe4\xbd\xa0");
  EXPECT_EQ(more->token_bytes(0xd800), "");
  EXPECT_EQ(builtin_abc_tokenizer(2)->vocab_size(), 2u);
}

TEST(LoadTokenizer, NamesOfTheBuiltInVocabularies) {
  EXPECT_EQ((*load_tokenizer("world"))->vocab_size(), 65530u);
  EXPECT_EQ((*load_tokenizer("20b"))->vocab_size(), 50277u);
  EXPECT_EQ((*load_tokenizer("abc"))->vocab_size(), 128u);
  EXPECT_FALSE(load_tokenizer("20B").ok());
  EXPECT_FALSE(load_tokenizer("./world").ok());
}

}  // namespace
}  // namespace fr
