#include "text/tokenizer_json.h"

#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "text/test_files.h"
#include "text/tokenizer_fixture.h"

namespace fr {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<std::int32_t>;
using Json = nlohmann::json;

std::string message(const std::string& file) {
  const auto made = read_tokenizer(file, "V");
  EXPECT_FALSE(made.ok()) << file.substr(0, 200);
  if (made.ok()) return "";
  EXPECT_EQ(made.error().code, ErrorCode::invalid_file);
  EXPECT_NE(made.error().message.find("(V): "), std::string::npos) << made.error().message;
  return made.error().message;
}

std::shared_ptr<const Tokenizer> read(const Json& json) {
  const auto made = read_tokenizer(json.dump(), "V");
  EXPECT_TRUE(made.ok()) << (made.ok() ? "" : made.error().message);
  return made.ok() ? *made : nullptr;
}

TEST(TokenizerJson, TakesBothFormsOfMerges) {
  Json json = bpe_json({{"a", "b"}, {"ab", "c"}});
  json["model"]["merges"] = Json::array({Json::array({"a", "b"}), Json::array({"ab", "c"})});
  const auto tokenizer = read(json), same = read(bpe_json({{"a", "b"}, {"ab", "c"}}));
  ASSERT_TRUE(tokenizer && same);
  for (const char* text : {"abc", "ab", "abcabcab", "cab"})
    EXPECT_EQ(*tokenizer->encode(text), *same->encode(text));
  EXPECT_EQ(*tokenizer->encode("abcab"), (Ids{257, 256}));
}

TEST(TokenizerJson, RefusesByNameWhatWouldChangeTheIds) {
  const struct {
    std::function<void(Json&)> change;
    const char* what;
  } cases[] = {
      {[](Json& j) { j.erase("model"); }, "without the \"model\" of a tokenizer"},
      {[](Json& j) { j["model"] = 3; }, "without the \"model\" of a tokenizer"},
      {[](Json& j) { j["model"]["type"] = "Unigram"; }, "of the kind \"Unigram\""},
      {[](Json& j) { j["model"]["type"] = "WordPiece"; }, "of the kind \"WordPiece\""},
      {[](Json& j) { j["model"].erase("type"); }, "of the kind \"\""},
      {[](Json& j) { j["normalizer"]["type"] = "NFKC"; }, "the normalizer \"NFKC\""},
      {[](Json& j) { j["normalizer"] = 7; }, "the normalizer \"\""},
      {[](Json& j) { j["pre_tokenizer"]["type"] = "Sequence"; }, "the pre_tokenizer \"Sequence\""},
      {[](Json& j) { j["pre_tokenizer"] = nullptr; }, "the pre_tokenizer \"\""},
      {[](Json& j) { j["pre_tokenizer"]["add_prefix_space"] = true; }, "the option \"add_prefix_space\""},
      {[](Json& j) { j["pre_tokenizer"]["use_regex"] = false; }, "cuts no words"},
      {[](Json& j) { j["model"]["dropout"] = 0.1; }, "the option \"dropout\""},
      {[](Json& j) { j["model"]["byte_fallback"] = true; }, "the option \"byte_fallback\""},
      {[](Json& j) { j["model"]["end_of_word_suffix"] = "</w>"; }, "the option \"end_of_word_suffix\""},
      {[](Json& j) { j["added_tokens"][0]["lstrip"] = true; }, "the option \"lstrip\""},
      {[](Json& j) { j["added_tokens"][0]["single_word"] = true; }, "the option \"single_word\""},
  };
  for (const auto& c : cases) {
    Json json = bpe_json({{"a", "b"}});
    c.change(json);
    EXPECT_NE(message(json.dump()).find(c.what), std::string::npos) << c.what << ": " << message(json.dump());
  }
}

TEST(TokenizerJson, DamageIsAClearError) {
  const struct {
    std::function<void(Json&)> change;
    const char* what;
  } cases[] = {
      {[](Json& j) { j["model"]["vocab"] = Json::object(); }, "without tokens"},
      {[](Json& j) { j["model"]["vocab"] = Json::array({"a"}); }, "without tokens"},
      {[](Json& j) { j["model"]["vocab"]["a"] = -1; },
       "the token \"a\" with an id that is not in 0..1048576"},
      {[](Json& j) { j["model"]["vocab"]["a"] = 1048577; }, "the token \"a\" with an id"},
      {[](Json& j) { j["model"]["vocab"]["a"] = 1e18; }, "the token \"a\" with an id"},
      {[](Json& j) { j["model"]["vocab"]["a"] = "7"; }, "the token \"a\" with an id"},
      {[](Json& j) { j["model"]["vocab"]["zz"] = 7; }, "token id 7 for the second time"},
      {[](Json& j) { j["model"]["vocab"][" b"] = 700; }, "not written in byte-level characters"},
      {[](Json& j) { j["model"]["vocab"][""] = 700; }, "an empty token"},
      {[](Json& j) { j["model"]["vocab"][std::string(70000, 'a')] = 700; }, "more than 65536 bytes"},
      {[](Json& j) { j["model"].erase("merges"); }, "without merges"},
      {[](Json& j) { j["model"]["merges"].push_back("a zz"); },
       "merge 2, whose parts or result are no tokens"},
      {[](Json& j) { j["model"]["merges"].push_back("a c"); }, "merge 2, whose"},
      {[](Json& j) { j["model"]["merges"].push_back("ab"); }, "merge 2, whose"},
      {[](Json& j) { j["model"]["merges"].push_back(5); }, "merge 2, whose"},
      {[](Json& j) {
         j["model"]["merges"].push_back({"a", "b", "c"});
       },
       "merge 2, whose"},
      {[](Json& j) { j["model"]["merges"].push_back("a b"); }, "merge 2 for the second time"},
      {[](Json& j) { j["added_tokens"] = "x"; }, "\"added_tokens\" that are no array"},
      {[](Json& j) { j["added_tokens"].push_back(3); }, "an added token without its content"},
      {[](Json& j) { j["added_tokens"][0]["id"] = 7; }, "token id 7 for the second time"},
      {[](Json& j) { j["added_tokens"][0]["id"] = -7; }, "the added token \"<|end|>\" with an id"},
      {[](Json& j) { j["added_tokens"][0]["content"] = ""; }, "an empty added token"},
      {[](Json& j) {
         j["added_tokens"].push_back({{"id", 900}, {"content", "<|end|>"}});
       },
       "an added token that occurs twice"},
  };
  for (const auto& c : cases) {
    Json json = bpe_json({{"a", "b"}});
    c.change(json);
    EXPECT_NE(message(json.dump()).find(c.what), std::string::npos) << c.what << ": " << message(json.dump());
  }
}

TEST(TokenizerJson, HostileJsonIsRefused) {
  const std::string good = bpe_json({{"a", "b"}}).dump();
  for (std::size_t size = 1; size < good.size(); size += 97) message(good.substr(0, size));
  EXPECT_NE(message(std::string("{\"model\":").append(1000000, '[')).find("nested more than 64"),
            std::string::npos);
  std::string deep = "{\"a\":";
  for (int i = 0; i < 100; ++i) deep += "{\"a\":";
  EXPECT_NE(message(deep).find("nested more than 64"), std::string::npos);
  std::string many = "{\"model\":[";
  for (int i = 0; i < 5000000; ++i) many += "0,";
  EXPECT_NE(message(many).find("more than 4194304 values"), std::string::npos);
  EXPECT_NE(message(std::string("{").append(kMaxJsonFile, ' ')).find("more than 64 MB"), std::string::npos);
  EXPECT_NE(message("{\"model\":\"\xff\"}").find("not valid JSON"), std::string::npos);
  EXPECT_NE(message("{} {}").find("not valid JSON"), std::string::npos);
  EXPECT_NE(message("{}").find("without the \"model\""), std::string::npos);
}

TEST(WordTokenizer, EncodesWordsAndJoinsThem) {
  const auto tokenizer = read(words_json());
  ASSERT_TRUE(tokenizer);
  EXPECT_EQ(tokenizer->vocab_size(), 6u);
  EXPECT_EQ(*tokenizer->encode(""), Ids{});
  EXPECT_EQ(*tokenizer->encode(" \t\n"), Ids{});
  EXPECT_EQ(*tokenizer->encode("T1 PI:3F:A\xc2\xa0\xc3\x89T\xc3\x89\xe3\x80\x80no t1 "),
            (Ids{2, 3, 5, 0, 2}));
  EXPECT_EQ(*tokenizer->encode("<start>t1<pad>"), (Ids{1, 2, 0}));  // found inside words
  EXPECT_EQ(*tokenizer->encode("<START>"), (Ids{1}));               // the word in lower case
  EXPECT_EQ(*tokenizer->encode("t1\xff t1"), (Ids{0, 2}));
  EXPECT_EQ(tokenizer->decode(Ids{1, 2, 0, 3}), "<start> t1 <pad> pi:3f:a");
  EXPECT_EQ(tokenizer->decode(Ids{}), "");
  EXPECT_EQ(tokenizer->decode(Ids{4, 2, 77, -1, 3}), "t1 pi:3f:a");  // 4 is a gap
  // What a reply streams continues the text of its prompt.
  std::string text = tokenizer->decode(Ids{1, 2});
  for (const std::int32_t id : {3, 2}) text += tokenizer->token_bytes(id);
  EXPECT_EQ(text, tokenizer->decode(Ids{1, 2, 3, 2}));
}

TEST(WordTokenizer, RefusesWhatItCannotDo) {
  const struct {
    std::function<void(Json&)> change;
    const char* what;
  } cases[] = {
      {[](Json& j) { j["normalizer"]["type"] = "BertNormalizer"; }, "the normalizer \"BertNormalizer\""},
      {[](Json& j) { j["pre_tokenizer"]["type"] = "Whitespace"; }, "the pre_tokenizer \"Whitespace\""},
      {[](Json& j) { j["model"].erase("unk_token"); }, "without a token for unknown words"},
      {[](Json& j) { j["model"]["unk_token"] = "zz"; }, "without a token for unknown words"},
      {[](Json& j) { j["model"]["vocab"]["zz"] = 1; }, "token id 1 for the second time"},
      {[](Json& j) {
         j["added_tokens"].push_back({{"id", 9}, {"content", "t1"}});
       },
       "token 9 has the word of another"},
  };
  for (const auto& c : cases) {
    Json json = words_json();
    c.change(json);
    EXPECT_NE(message(json.dump()).find(c.what), std::string::npos) << c.what << ": " << message(json.dump());
  }
}

TEST(WordTokenizer, EveryGoldenCaseGivesItsIdsAndText) {
  const fs::path folder = kShared / "goldens/tokenizer";
  if (!fs::exists(folder / "midi.json")) GTEST_SKIP() << "SKIPPED, the golden ids are not here: " << folder;
  const auto midi = load_tokenizer((folder / "tokenizer-midi.json").string());
  ASSERT_TRUE(midi.ok()) << midi.error().message;
  EXPECT_EQ((*midi)->vocab_size(), 20096u);
  const auto cases = Json::parse(read_file(folder / "midi.json")).at("cases");
  ASSERT_EQ(cases.size(), 24u);
  for (const auto& golden : cases) {
    const std::string text = from_base64(golden.at("b64").get<std::string>());
    EXPECT_EQ(*(*midi)->encode(text), golden.at("ids").get<Ids>()) << text;
    EXPECT_EQ((*midi)->decode(golden.at("ids").get<Ids>()),
              from_base64(golden.at("decoded_b64").get<std::string>()));
  }
}

}  // namespace
}  // namespace fr
