// Names, the environment, and what is found in a cache.
#include "tools_core/hub_cache.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tools_core/hub.h"
#include "tools_core/hub_names.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

class HubCache : public testing::Test {
 protected:
  void SetUp() override {
    std::string folder = (fs::temp_directory_path() / "fr_cache_XXXXXX").string();
    ASSERT_NE(::mkdtemp(folder.data()), nullptr);
    settings.cache = folder;
    settings.offline = true;
  }
  void TearDown() override { fs::remove_all(settings.cache); }

  void put(const std::string& repo, const std::string& commit, const std::string& file,
           const std::string& etag) const {
    const RepoFolder folder(settings.cache, repo);
    ASSERT_TRUE(make_folders(folder.root + "/blobs").ok());
    std::ofstream(folder.blob(etag)) << "12345";
    ASSERT_TRUE(folder.link(commit, file, etag).ok());
  }
  HubSettings settings;
};

TEST(HubNames, AreRead) {
  const HubName a = parse_hub_name("BlinkDL/rwkv7-g1:sub/rwkv7.pth").value();
  EXPECT_EQ(a.repo, "BlinkDL/rwkv7-g1");
  EXPECT_EQ(a.file, "sub/rwkv7.pth");
  EXPECT_EQ(a.revision, "main");
  const HubName b = parse_hub_name("gpt2@refs/pr/1").value();
  EXPECT_EQ(b.repo, "gpt2");
  EXPECT_EQ(b.revision, "refs/pr/1");
  EXPECT_EQ(b.file, "");
  for (const char* wrong : {"", "/", "a/", "/a", "a/b/c", "../a", "a/..", "a b", "a:", "a:../b", "a:/b", "a@",
                            "a@..:x", "a:b\nc", "a?b"}) {
    const auto got = parse_hub_name(wrong);
    ASSERT_FALSE(got.ok()) << wrong;
    EXPECT_EQ(got.error().code, ErrorCode::usage);
  }
}

TEST(HubNames, Models) {
  for (const char* name : {"a.pth", "x/a.safetensors", "a.gguf", "a.st", "a.bin", "a.fr"})
    EXPECT_TRUE(is_model_file(name)) << name;
  for (const char* name : {"a.json", ".pth", "a.pth.txt", "x/training_args.bin", "pth", ""})
    EXPECT_FALSE(is_model_file(name)) << name;
  EXPECT_EQ(vocabulary_beside("v1.0/a.b.pth"), "v1.0/a.b.vocab.txt");
  EXPECT_EQ(vocabulary_beside("v1.0/a"), "v1.0/a.vocab.txt");
  // A single file named like one shard of one is a model; one of two is not.
  EXPECT_EQ(choose_model({{"model-00001-of-00001.safetensors", 1}}).files.size(), 1u);
  EXPECT_TRUE(choose_model({{"model-00001-of-00002.safetensors", 1}}).files.empty());
  EXPECT_EQ(choose_model({{"config.json", 1}, {"pytorch_model.bin", 1}}).files,
            (std::vector<std::string>{"pytorch_model.bin", "config.json"}));
}

TEST(HubSettings, ComeFromTheEnvironment) {
  const char* const all[] = {"HF_ENDPOINT", "HF_HUB_CACHE",  "HF_HOME",       "XDG_CACHE_HOME",
                             "HF_TOKEN",    "HF_TOKEN_PATH", "HF_HUB_OFFLINE"};
  for (const char* name : all) ::unsetenv(name);
  const std::string home = testing::TempDir() + "fr_hub_home";
  fs::create_directories(home + "/.cache/huggingface");
  std::ofstream(home + "/.cache/huggingface/token") << "hf_file\n";
  const char* old = std::getenv("HOME");
  const std::string old_home = old == nullptr ? "" : old;
  ::setenv("HOME", home.c_str(), 1);
  const auto now = [] { return hub_settings_from_environment().value(); };
  EXPECT_EQ(now().endpoint, "https://huggingface.co");
  EXPECT_EQ(now().cache, home + "/.cache/huggingface/hub");
  EXPECT_EQ(now().token, "hf_file");
  EXPECT_FALSE(now().offline);
  ::setenv("XDG_CACHE_HOME", "/x", 1);
  EXPECT_EQ(now().cache, "/x/huggingface/hub");
  EXPECT_EQ(now().token, "");
  ::setenv("HF_HOME", "~/h", 1);
  EXPECT_EQ(now().cache, home + "/h/hub");
  ::setenv("HF_HUB_CACHE", "/c", 1);
  EXPECT_EQ(now().cache, "/c");
  ::setenv("HF_TOKEN_PATH", (home + "/.cache/huggingface/token").c_str(), 1);
  EXPECT_EQ(now().token, "hf_file");
  ::setenv("HF_TOKEN", " hf_variable \n", 1);
  EXPECT_EQ(now().token, "hf_variable");
  ::setenv("HF_ENDPOINT", "https://hf-mirror.com/", 1);
  EXPECT_EQ(now().endpoint, "https://hf-mirror.com");
  ::setenv("HF_HUB_OFFLINE", "yes", 1);
  EXPECT_TRUE(now().offline);
  ::setenv("HF_TOKEN", "hf\r\nX-Evil: 1", 1);
  EXPECT_FALSE(hub_settings_from_environment().ok());
  ::unsetenv("HF_TOKEN");
  ::setenv("HF_ENDPOINT", "ftp://x", 1);
  EXPECT_FALSE(hub_settings_from_environment().ok());
  for (const char* name : all) ::unsetenv(name);
  ::setenv("HOME", old_home.c_str(), 1);
  fs::remove_all(home);
}

TEST_F(HubCache, FindsFilesByRevisionAndCommit) {
  const std::string commit(40, 'a');
  put("org/m", commit, "sub/a.pth", "e1");
  const RepoFolder folder(settings.cache, "org/m");
  EXPECT_FALSE(pull({"org/m", "main", "sub/a.pth"}, settings).ok());
  ASSERT_TRUE(folder.set_reference("main", commit).ok());
  const std::string path = settings.cache + "/models--org--m/snapshots/" + commit + "/sub/a.pth";
  EXPECT_EQ(pull({"org/m", "main", "sub/a.pth"}, settings).value().path, path);
  EXPECT_EQ(pull({"org/m", "main", ""}, settings).value().path, path);
  EXPECT_EQ(pull({"org/m", commit, ""}, settings).value().path, path);
  EXPECT_EQ(fs::read_symlink(path), "../../../blobs/e1");
  EXPECT_FALSE(pull({"org/m", "main", "b.pth"}, settings).ok());
  EXPECT_FALSE(pull({"org/other", "main", "sub/a.pth"}, settings).ok());
}

TEST_F(HubCache, ABrokenLinkIsNoModelAndIsListed) {
  const std::string commit(40, 'a');
  put("org/m", commit, "a.pth", "e1");
  put("org/m", commit, "b.pth", "e2");
  put("single", std::string(40, 'b'), "c.gguf", "e3");
  const RepoFolder folder(settings.cache, "org/m");
  ASSERT_TRUE(folder.set_reference("main", commit).ok());
  fs::remove(folder.blob("e1"));
  EXPECT_FALSE(find_in_cache({"org/m", "main", "a.pth"}, settings).ok());
  const auto list = local_models(settings.cache);
  ASSERT_EQ(list.size(), 3u);
  EXPECT_EQ(list[0].name, "hf:org/m:a.pth");
  EXPECT_TRUE(list[0].broken);
  EXPECT_EQ(list[1].name, "hf:org/m:b.pth");
  EXPECT_FALSE(list[1].broken);
  EXPECT_EQ(list[1].size, 5u);
  EXPECT_EQ(list[2].name, "hf:single@" + std::string(40, 'b') + ":c.gguf");
  EXPECT_TRUE(local_models(settings.cache + "/nowhere").empty());
}

TEST_F(HubCache, AFolderIsOneModel) {
  const std::string commit(40, 'c');
  for (const char* file : {"config.json", "tokenizer.json", "model.safetensors"})
    put("org/f", commit, file, std::string("e") + file[0] + file[1]);
  ASSERT_TRUE(RepoFolder(settings.cache, "org/f").set_reference("main", commit).ok());
  const auto list = local_models(settings.cache);
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0].name, "hf:org/f");
  EXPECT_EQ(list[0].size, 15u);
  EXPECT_EQ(find_in_cache({"org/f", "main", ""}, settings).value().path, list[0].path);
}

TEST_F(HubCache, ALinkIsReplacedByTheNewVersion) {
  const std::string commit(40, 'a');
  put("m", commit, "a.pth", "e1");
  put("m", commit, "a.pth", "e2");
  const RepoFolder folder(settings.cache, "m");
  EXPECT_EQ(fs::read_symlink(folder.snapshot(commit) + "/a.pth"), "../../blobs/e2");
  EXPECT_EQ(folder.files_of(commit).size(), 1u) << "no temporary link is left";
}

}  // namespace
}  // namespace fr
