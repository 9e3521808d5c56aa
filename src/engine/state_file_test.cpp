#include "engine/state_file.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "engine/test_model.h"

namespace fr {
namespace {

class StateFileTest : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(folder_); }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string path(const std::string& name) const { return folder_ + "/" + name; }

  static std::string bytes_of(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  static void write(const std::string& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
  }
  static std::string load_error(const std::string& path) {
    State state = new_state(shipped_engine());
    const Status status = load_state(state, path);
    return status.ok() ? "" : status.error().message;
  }

  const std::string folder_ = testing::TempDir() + "frwkv_state_" + std::to_string(::getpid());
};

TEST_F(StateFileTest, RestoresExactly) {
  State state = new_state(shipped_engine()), other = new_state(shipped_engine());
  feed(state, std::vector<std::int32_t>{1803, 2418, 294});
  ASSERT_TRUE(save_state(state, path("s")).ok());
  feed(other, std::vector<std::int32_t>{7});
  ASSERT_TRUE(load_state(other, path("s")).ok());
  EXPECT_EQ(other.values(), state.values());
  EXPECT_EQ(other.tokens_seen(), 3u);
  // The same model with other stored numbers takes it too: it is the same file.
  State fp16 = new_state(shipped_engine("cpu fp16"));
  EXPECT_TRUE(load_state(fp16, path("s")).ok());
}

TEST_F(StateFileTest, RefusesEveryDamage) {
  State state = new_state(shipped_engine());
  feed(state, std::vector<std::int32_t>{1803, 2418, 294});
  ASSERT_TRUE(save_state(state, path("s")).ok());
  const std::string good = bytes_of(path("s"));
  std::size_t refused = 0, tried = 0;
  for (std::size_t at = 0; at < good.size(); at += 1 + at / 40, ++tried) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0x20);
    write(path("bad"), bad);
    const std::string message = load_error(path("bad"));
    refused += message.empty() ? 0 : 1;
    // Harmless: white space, or the case of a letter or digit in a free text; none of it is in our header.
    EXPECT_FALSE(message.empty()) << "byte " << at;
  }
  EXPECT_EQ(refused, tried);
  for (const std::size_t size :
       {std::size_t{1}, std::size_t{8}, std::size_t{100}, good.size() / 2, good.size() - 1}) {
    write(path("bad"), good.substr(0, size));
    EXPECT_NE(load_error(path("bad")).find("bad"), std::string::npos) << "cut to " << size;
  }
}

TEST_F(StateFileTest, RefusesAnotherModelsState) {
  State state = new_state(shipped_engine());
  ASSERT_TRUE(save_state(state, path("s")).ok());
  std::string bytes = bytes_of(path("s"));
  const std::string key = "\"rwkv.fingerprint\":\"";
  const std::size_t at = bytes.find(key);
  ASSERT_NE(at, std::string::npos);
  bytes[at + key.size()] = bytes[at + key.size()] == '0' ? '1' : '0';
  write(path("other"), bytes);
  EXPECT_NE(load_error(path("other")).find("another model"), std::string::npos);
  EXPECT_NE(load_error(shipped_path()).find("neither a saved state nor a tuned one"), std::string::npos);
  EXPECT_NE(load_error(path("missing")).find("missing"), std::string::npos);
}

}  // namespace
}  // namespace fr
