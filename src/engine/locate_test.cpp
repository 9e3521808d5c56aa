#include "engine/locate.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "text/vocabulary_fixture.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

class FindTokenizer : public testing::Test {
 protected:
  FindTokenizer() { fs::create_directories(folder_); }
  ~FindTokenizer() override { fs::remove_all(folder_); }

  std::string write(const std::string& name, const std::string& content) const {
    std::ofstream(folder_ / name, std::ios::binary) << content;
    return (folder_ / name).string();
  }
  // The name of what is found, "" for nothing, or the error.
  std::string find(int n_vocab, const std::string& vocab = "") const {
    const auto found = find_tokenizer(vocab, model_, n_vocab);
    if (!found.ok()) return found.error().message;
    return *found ? (*found)->name() : "";
  }

  const fs::path folder_ =
      fs::path(testing::TempDir()) / testing::UnitTest::GetInstance()->current_test_info()->name();
  Checkpoint model_;
};

TEST_F(FindTokenizer, BySizeWhenThereIsNoOther) {
  model_.path = (folder_ / "m.pth").string();
  EXPECT_EQ(find(65536), "World (built in)");
  EXPECT_EQ(find(65529).substr(0, 34), "the vocabulary has 65530 entries, ");
  EXPECT_EQ(find(50277), "20B (built in)");
  EXPECT_EQ(find(50304), "20B (built in)");
  EXPECT_EQ(find(50276), "");
  EXPECT_EQ(find(20096), "");
}

TEST_F(FindTokenizer, ByName) {
  model_.path = (folder_ / "m.pth").string();
  EXPECT_EQ(find(65530, "world"), "World (built in)");
  EXPECT_EQ(find(50277, "20b"), "20B (built in)");
  EXPECT_EQ(find(176, "abc"), "ABC (built in)");
  EXPECT_EQ((*find_tokenizer("abc", model_, 176))->vocab_size(), 176u);
  EXPECT_EQ(find(65536, "20b"),
            "the vocabulary has 50277 entries, the model 65536"
            " (20B (built in)): give the model's own with --vocab");
  EXPECT_NE(find(65536, "no such name").find("no such name"), std::string::npos);
}

TEST_F(FindTokenizer, BesideTheModelComesBeforeTheOneInside) {
  model_.path = (folder_ / "m.gguf").string();
  model_.metadata["tokenizer.ggml.model"] = "rwkv";
  model_.tokens = {"<s>", "a", "b", "\\n"};
  EXPECT_EQ(find(4), model_.path);
  EXPECT_EQ(*(*find_tokenizer("", model_, 4))->encode("b\n"), (std::vector<std::int32_t>{2, 3}));
  EXPECT_EQ(find(65536), "the vocabulary has 4 entries, the model 65536 (" + model_.path +
                             "): give the model's own with --vocab");
  const std::string beside = write("m.vocab.txt", text_form(make_tokens(300, 1)));
  EXPECT_EQ(find(301), beside);
  fs::remove(beside);
  model_.metadata["tokenizer.ggml.model"] = "gpt2";
  EXPECT_NE(find(4).find("\"gpt2\""), std::string::npos);
}

TEST_F(FindTokenizer, InTheFolderOfTheModel) {
  model_.path = folder_.string();
  EXPECT_EQ(find(65536), "World (built in)");
  const std::string json = write("tokenizer.json", R"({"pre_tokenizer": {"type": "WhitespaceSplit"},
    "model": {"type": "WordLevel", "vocab": {"<pad>": 0, "t1": 1}, "unk_token": "<pad>"}})");
  EXPECT_EQ(find(2), json);
  write("tokenizer.json", R"({"model": {"type": "Unigram"}})");  // passed over
  EXPECT_EQ(find(65536), "World (built in)");
  const std::string text = write("vocab.txt", text_form(make_tokens(300, 1)));
  EXPECT_EQ(find(304), text);
}

TEST_F(FindTokenizer, OfAnExportBesideIt) {
  write("story-0.1b.param", "7767517\n");
  const std::string text = write("story-0.1b.vocab.txt", text_form(make_tokens(300, 1)));
  model_.path = (folder_ / "story-0.1b").string();
  EXPECT_EQ(find(304), text);
}

TEST_F(FindTokenizer, ExportsByTheirNames) {
  const auto kind = [&](const std::string& name) { return exported_kind((folder_ / name).string()); };
  EXPECT_EQ(kind("m.onnx"), "onnx");
  EXPECT_EQ(kind("m"), "");
  write("m.param", "7767517\n");
  write("m.bin", "weights");
  for (const char* name : {"m", "m.param", "m.bin"}) EXPECT_EQ(kind(name), "ncnn") << name;
  write("other.pth", "x");
  write("other.pth.param", "7767517\n");
  EXPECT_EQ(kind("other.pth"), "") << "a file of exactly this name comes first";
  write("cpp.bin", "fmgg and more");
  write("cpp.param", "7767517\n");
  EXPECT_EQ(kind("cpp.bin"), "") << "rwkv.cpp";
  EXPECT_FALSE(refuse_exported((folder_ / "m").string()).ok());
  EXPECT_TRUE(refuse_exported((folder_ / "other.pth").string()).ok());
}

}  // namespace
}  // namespace fr
