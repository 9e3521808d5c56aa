// frwkv tokenize: both ways, any bytes.
#include <gtest/gtest.h>

#include "process.h"

namespace fr::test {
namespace {

TEST(Tokenize, WorldByDefault) {
  const Finished f = run({frwkv(), "tokenize"}, "Hello world!\n");
  EXPECT_EQ(f.code, 0) << f.err;
  EXPECT_EQ(f.out, "[33155,40213,34,11]\n");
  EXPECT_EQ(run({frwkv(), "tokenize"}).out, "[]\n");
  EXPECT_EQ(run({frwkv(), "tokenize", "--vocab", FR_SOURCE_DIR "/tokenizer_model"}, "Hello world!\n").out,
            f.out);
}

TEST(Tokenize, BuiltInVocabulariesByName) {
  const auto ids = [](const char* vocab, const std::string& text) {
    return run({frwkv(), "tokenize", "--vocab", vocab}, text).out;
  };
  EXPECT_EQ(ids("world", "Hello world!\n"), "[33155,40213,34,11]\n");
  EXPECT_EQ(ids("20b", "text<|endoftext|>more"), "[1156,0,3062]\n");
  EXPECT_EQ(ids("abc", "\x02S:2"), "[2,83,58,50]\n");
  EXPECT_EQ(run({frwkv(), "tokenize", "--vocab", "20b", "--decode"}, "[89,50275,90]").out, "x   y");
  EXPECT_EQ(run({frwkv(), "tokenize", "--vocab", "abc"}, "\xc3\xa9").code, 1);
  EXPECT_EQ(run({frwkv(), "tokenize", "--vocab", "30b"}, "x").code, 3);
}

TEST(Tokenize, WordsFromATokenizerJson) {
  const Folder folder;
  const std::string path = folder.write("midi.json", R"({"normalizer": {"type": "Lowercase"},
    "pre_tokenizer": {"type": "WhitespaceSplit"},
    "model": {"type": "WordLevel", "vocab": {"<pad>": 0, "t1": 1}, "unk_token": "<pad>"}})");
  EXPECT_EQ(run({frwkv(), "tokenize", "--vocab", path}, "T1  no\nt1").out, "[1,0,1]\n");
  EXPECT_EQ(run({frwkv(), "tokenize", "--vocab", path, "--decode"}, "[1,0,1]").out, "t1 <pad> t1");
  const std::string other = folder.write("other.json", R"({"model": {"type": "Unigram"}})");
  const Finished refused = run({frwkv(), "tokenize", "--vocab", other}, "x");
  EXPECT_EQ(refused.code, 3);
  EXPECT_NE(refused.err.find("Unigram"), std::string::npos) << refused.err;
}

TEST(Tokenize, ModelsHaveTheirOwn) {
  const std::string text = "Once upon a time, there was a little";
  const Finished model = run({frwkv(), "tokenize", "--model", model_path()}, text);
  EXPECT_EQ(model.out, "[1803,2418,294,2404,45,2916,1781,294,3224]\n") << model.err;
  EXPECT_EQ(run({frwkv(), "tokenize", "--vocab", vocab_path()}, text).out, model.out);
  EXPECT_EQ(run({frwkv(), "tokenize", "--vocab", vocab_path(), "--model", model_path()}).code, 2);
}

TEST(Tokenize, AnyBytesComeBack) {
  std::string bytes;
  for (int i = 0; i < 256; ++i) bytes += static_cast<char>(i);
  for (const std::string& text : {bytes, std::string("\xff\xfe\0\xf0\x9f", 5),
                                  std::string("caf\xc3\xa9 \xe4\xbd\xa0\xe5\xa5\xbd\n\n")}) {
    const Finished ids = run({frwkv(), "tokenize"}, text);
    ASSERT_EQ(ids.code, 0) << ids.err;
    EXPECT_EQ(run({frwkv(), "tokenize", "--decode"}, ids.out).out, text);
  }
}

TEST(Tokenize, WrongIds) {
  for (const char* bad : {"", "[1,", "7", "{}", "nonsense"})
    EXPECT_EQ(run({frwkv(), "tokenize", "--decode"}, bad).code, 3) << bad;
  for (const char* bad : {"[\"a\"]", "[1.5]", "[70000]", "[-3]"}) {
    const Finished f = run({frwkv(), "tokenize", "--decode"}, bad);
    EXPECT_EQ(f.code, 2) << bad;
    EXPECT_NE(f.err.find("position 0"), std::string::npos) << f.err;
  }
}

}  // namespace
}  // namespace fr::test
