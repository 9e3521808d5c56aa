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
