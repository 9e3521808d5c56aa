// Repositories: which files belong to the model, lists that lie, several processes, interruptions.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <random>

#include "tools_core/hub_fixture.h"

namespace fr::test {
namespace {

using HubPull = HubTest;

TEST_F(HubPull, TheOnlyModelOfARepositoryAndItsVocabulary) {
  server.add("README.md", "text");
  server.add("model.vocab.txt", "vocabulary");
  const auto got = pull({"org/model", "main", ""}, settings);
  ASSERT_TRUE(got.ok()) << got.error().message;
  EXPECT_EQ(got->path, pointer());
  EXPECT_EQ(read(root() + "/snapshots/" + HubServer::commit_id + "/model.vocab.txt"), "vocabulary");
  EXPECT_FALSE(exists(root() + "/snapshots/" + HubServer::commit_id + "/README.md"));
  // Naming the file brings the vocabulary too; an absent one is no error (the other tests).
  std::filesystem::remove_all(settings.cache);
  ASSERT_TRUE(pull_file().ok());
  EXPECT_TRUE(exists(root() + "/snapshots/" + HubServer::commit_id + "/model.vocab.txt"));
}

TEST_F(HubPull, SeveralModelsAreChoices) {
  server.add("b.gguf", "12345");
  const auto got = pull({"org/model", "main", ""}, settings);
  ASSERT_TRUE(got.ok());
  EXPECT_EQ(got->path, "");
  ASSERT_EQ(got->choices.size(), 2u);
  EXPECT_EQ(got->choices[0].name, "b.gguf");
  EXPECT_EQ(got->choices[0].size, 5u);
  EXPECT_FALSE(exists(settings.cache));
}

TEST_F(HubPull, AFolderModelComesWhole) {
  HubServer folder;
  settings.endpoint = folder.endpoint();
  const std::vector<std::string> files = {"config.json", "model-00001-of-00002.safetensors",
                                          "model-00002-of-00002.safetensors", "model.safetensors.index.json",
                                          "tokenizer.json"};
  for (const std::string& f : files) folder.add(f, "content of " + f);
  folder.add("pytorch_model.bin", "not this one");
  folder.add("images/big.json", "nor this");
  const auto got = pull({"org/model", "main", ""}, settings);
  ASSERT_TRUE(got.ok()) << got.error().message;
  EXPECT_EQ(got->path, root() + "/snapshots/" + HubServer::commit_id);
  for (const std::string& f : files) EXPECT_EQ(read(got->path + "/" + f), "content of " + f);
  EXPECT_FALSE(exists(got->path + "/pytorch_model.bin"));
  EXPECT_FALSE(exists(got->path + "/images"));
  EXPECT_EQ(find_in_cache({"org/model", "main", ""}, settings).value().path, got->path);
  std::filesystem::remove(got->path + "/model-00002-of-00002.safetensors");
  EXPECT_FALSE(find_in_cache({"org/model", "main", ""}, settings).ok()) << "a shard is missing";
}

TEST_F(HubPull, ListsThatLieAreRefused) {
  const std::string begin = R"({"sha":"0123456789abcdef0123456789abcdef01234567","siblings":[{"rfilename":")";
  std::vector<std::string> lists = {"",
                                    "[]",
                                    "{}",
                                    "null",
                                    R"({"sha":"abc"})",
                                    R"({"sha":"../../x","siblings":[]})",
                                    R"({"sha":"abc","siblings":[1]})",
                                    R"({"sha":"abc","siblings":[{"rfilename":7}]})",
                                    R"({"sha":"abc","siblings":{"a":1}})",
                                    std::string(100000, '['),
                                    begin};
  for (const char* name : {"../x.pth", "/etc/x.pth", "a/../../x.pth", "a//x.pth", "./x.pth", "a\\\\x.pth",
                           "x\\u0000.pth", "x\\n.pth", ""})
    lists.push_back(begin + name + R"("}]})");
  for (const std::string& list : lists) {
    server.set({.listing = list.empty() ? " " : list});
    const auto got = pull({"org/model", "main", ""}, settings);
    ASSERT_FALSE(got.ok()) << list.substr(0, 200);
    EXPECT_EQ(got.error().code, ErrorCode::invalid_file) << got.error().message;
    EXPECT_EQ(got.error().message.find('\n'), std::string::npos);
  }
  EXPECT_FALSE(exists(settings.cache));
}

TEST_F(HubPull, AListWithoutEndIsGivenUp) {
  settings.limits.listing_bytes = 1 << 20;
  server.set({.listing = std::string(20 << 20, ' ')});
  const auto got = pull({"org/model", "main", ""}, settings);
  ASSERT_FALSE(got.ok());
  EXPECT_EQ(got.error().code, ErrorCode::invalid_file);
  EXPECT_NE(got.error().message.find("longer than 1 MiB"), std::string::npos) << got.error().message;
}

TEST_F(HubPull, OtherRevisionsHaveTheirOwnName) {
  const auto got = pull({"org/model", "refs/pr/1", "model.pth"}, settings);
  ASSERT_TRUE(got.ok()) << got.error().message;
  EXPECT_EQ(read(root() + "/refs/refs/pr/1"), HubServer::commit_id);
  EXPECT_FALSE(exists(root() + "/refs/main"));
  EXPECT_NE(server.requests()[0].target.find("/resolve/refs%2Fpr%2F1/"), std::string::npos);
  EXPECT_FALSE(find_in_cache({"org/model", "main", "model.pth"}, settings).ok());
  EXPECT_TRUE(find_in_cache({"org/model", HubServer::commit_id, "model.pth"}, settings).ok());
  const auto list = local_models(settings.cache);
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0].name, "hf:org/model@refs/pr/1:model.pth");
}

TEST_F(HubPull, OfflineAsksNobody) {
  settings.offline = true;
  const auto got = pull_file();
  ASSERT_FALSE(got.ok());
  EXPECT_EQ(got.error().code, ErrorCode::invalid_file);
  EXPECT_TRUE(server.requests().empty());
  settings.offline = false;
  ASSERT_TRUE(pull_file().ok());
  const std::size_t asked = server.requests().size();
  settings.offline = true;
  EXPECT_EQ(pull_file().value().path, pointer());
  EXPECT_EQ(server.requests().size(), asked);
}

// The progress says stop at 50 random places: the part stays, no name appears, and at last it is all there.
TEST_F(HubPull, InterruptionsLeaveNothingThatLoads) {
  std::mt19937_64 random(7);
  for (int i = 0; i < 50; ++i) {
    std::filesystem::remove_all(settings.cache);
    const std::uint64_t stop = random() % content.size();
    settings.progress = [&](std::string_view, std::uint64_t done, std::uint64_t total) {
      return total == 0 || done < stop;
    };
    const auto got = pull_file();
    ASSERT_FALSE(got.ok());
    ASSERT_EQ(got.error().code, ErrorCode::interrupted);
    EXPECT_FALSE(exists(pointer()));
    EXPECT_FALSE(exists(blob()));
    EXPECT_FALSE(find_in_cache({"org/model", "main", "model.pth"}, settings).ok());
    const std::uint64_t kept = exists(partial()) ? std::filesystem::file_size(partial()) : 0;
    EXPECT_GE(kept, stop);
    settings.progress = {};
    const auto finished = pull_file();
    ASSERT_TRUE(finished.ok()) << finished.error().message;
    EXPECT_EQ(finished->received, content.size() - kept);
    EXPECT_EQ(read(pointer()), content);
  }
}

// The same with a process that is killed, wherever it happens to be.
TEST_F(HubPull, KilledProcessesLeaveNothingThatLoads) {
  std::mt19937_64 random(8);
  for (int i = 0; i < 20; ++i) {
    std::filesystem::remove_all(settings.cache);
    const std::uint64_t stop = random() % (content.size() + 1);
    const pid_t child = ::fork();
    if (child == 0) {
      settings.progress = [&](std::string_view, std::uint64_t done, std::uint64_t total) {
        if (total > 0 && done >= stop) ::kill(::getpid(), SIGKILL);
        return true;
      };
      ::_exit(pull_file().ok() ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
    if (const auto found = find_in_cache({"org/model", "main", "model.pth"}, settings); found.ok()) {
      EXPECT_EQ(read(found->path), content);
    }
    const auto finished = pull_file();
    ASSERT_TRUE(finished.ok()) << finished.error().message;
    EXPECT_EQ(read(pointer()), content);
  }
}

TEST_F(HubPull, TwoAtOnceDownloadOnce) {
  server.set({.stall_ms = 100, .stalls = 1});
  std::vector<std::thread> threads;
  std::atomic<int> good = 0;
  for (int i = 0; i < 4; ++i) threads.emplace_back([&] { good += pull_file().ok() ? 1 : 0; });
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(good, 4);
  EXPECT_EQ(server.bytes_sent("model.pth"), content.size());
  EXPECT_EQ(read(pointer()), content);
}

TEST_F(HubPull, WaitingForAnotherCanBeInterrupted) {
  server.set({.stall_ms = 400, .stalls = 1});
  std::thread first([&] { EXPECT_TRUE(pull_file().ok()); });
  while (!exists(partial())) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  HubSettings impatient = settings;
  impatient.progress = [](std::string_view, std::uint64_t, std::uint64_t total) { return total == 0; };
  const auto got = pull({"org/model", "main", "model.pth"}, impatient);
  ASSERT_FALSE(got.ok());
  EXPECT_EQ(got.error().code, ErrorCode::interrupted);
  first.join();
}

}  // namespace
}  // namespace fr::test
