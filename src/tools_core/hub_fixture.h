// A server with a model and an empty cache, for the tests of downloads.
#pragma once
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "tools_core/hub.h"
#include "tools_core/test_hub_server.h"

namespace fr::test {

class HubTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string folder = (std::filesystem::temp_directory_path() / "fr_hub_XXXXXX").string();
    ASSERT_NE(::mkdtemp(folder.data()), nullptr);
    folder_ = folder;
    settings.endpoint = server.endpoint();
    settings.cache = folder_ + "/hub";
    settings.limits.pause = std::chrono::milliseconds(1);
    settings.limits.stall = std::chrono::milliseconds(5000);
    settings.limits.stall_bytes = 1;
    server.add("model.pth", content);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  static std::string read(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::stringstream all;
    all << file.rdbuf();
    return std::move(all).str();
  }
  static bool exists(const std::string& path) { return std::filesystem::exists(path); }

  Result<HubModel> pull_file() const { return pull({"org/model", "main", "model.pth"}, settings); }
  std::string root() const { return settings.cache + "/models--org--model"; }
  std::string blob() const { return root() + "/blobs/" + sha256_of(content); }
  std::string partial() const { return blob() + ".incomplete"; }
  std::string pointer() const { return root() + "/snapshots/" + HubServer::commit_id + "/model.pth"; }

  // Nothing can be loaded, and the part of the download is kept or not.
  void expect_nothing(bool part_kept) const {
    EXPECT_FALSE(exists(pointer()));
    EXPECT_FALSE(exists(blob()));
    EXPECT_EQ(exists(partial()), part_kept);
    EXPECT_FALSE(find_in_cache({"org/model", "main", "model.pth"}, settings).ok());
  }

  const std::string content = random_bytes(1, 400003);
  HubServer server;
  HubSettings settings;

 private:
  std::string folder_;
};

}  // namespace fr::test
