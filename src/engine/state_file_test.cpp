#include "engine/state_file.h"

#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "engine/test_model.h"
#include "formats/formats.h"
#include "formats/safetensors.h"

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

// 1,000 damaged files: every one is refused with a message that names the file.
TEST_F(StateFileTest, RefusesEveryDamage) {
  State state = new_state(shipped_engine());
  feed(state, std::vector<std::int32_t>{1803, 2418, 294});
  ASSERT_TRUE(save_state(state, path("s")).ok());
  const std::string good = bytes_of(path("s"));
  std::uint64_t header = 0;
  std::memcpy(&header, good.data(), sizeof header);
  const auto error_of = [&](const std::string& bytes) -> std::string {
    const auto file = parse_safetensors(std::as_bytes(std::span(bytes)), "damaged");
    if (!file.ok()) return file.error().message;
    const auto read = to_state(*file, *shipped_engine());
    return read.ok() ? "" : read.error().message;
  };
  ASSERT_EQ(error_of(good), "");
  std::mt19937 random(1);
  for (int i = 0; i < 1000; ++i) {
    std::string bad = good;
    const std::size_t in_header = 8 + random() % (header - 8);
    switch (i % 5) {
      case 0:
        bad[in_header] = static_cast<char>(bad[in_header] ^ static_cast<char>(1 + random() % 127));
        break;
      case 1:
        bad[8 + header + random() % (good.size() - 8 - header)] ^= static_cast<char>(1 << random() % 8);
        break;
      case 2:
        bad.resize(random() % good.size());
        break;
      case 3:
        bad.erase(in_header, 1 + random() % 50);
        break;
      default:
        bad[random() % 8] ^= static_cast<char>(1 + random() % 255);
        break;
    }
    const std::string message = error_of(bad);
    EXPECT_NE(message.find("damaged"), std::string::npos) << "file " << i << ": " << message;
  }
  write(path("cut"), good.substr(0, good.size() - 1));
  EXPECT_NE(load_error(path("cut")).find("cut"), std::string::npos);
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

// States of faster-rwkv, and the logits that follow (tools/make_chatrwkv_fixtures.py).
TEST_F(StateFileTest, ReadsStatesOfFasterRwkv) {
  const std::string fixtures = FR_SOURCE_DIR "/src/formats/testdata/chatrwkv/";
  std::ifstream in(fixtures + "expected.json");
  const auto expected = nlohmann::json::parse(in);
  const auto tokens = expected["tokens"].get<std::vector<std::int32_t>>();
  LoadOptions options;
  options.strategy = "reference fp32";
  for (const char* name : {"v4_fp32.state", "v5_1_fp16.state"}) {
    const auto& e = expected["files"][name];
    auto file = open_checkpoint(fixtures + e["model"].get<std::string>());
    ASSERT_TRUE(file.ok()) << file.error().message;
    const auto engine = Engine::make(std::move(*file), options);
    ASSERT_TRUE(engine.ok()) << engine.error().message;
    State state = new_state(*engine);
    const Status loaded = load_state(state, fixtures + name);
    ASSERT_TRUE(loaded.ok()) << loaded.error().message;
    const auto& rows = e["logits"];
    feed(state, std::span(tokens).subspan(tokens.size() - rows.size(), rows.size() - 1));
    std::vector<float> logits(static_cast<std::size_t>((*engine)->info().n_vocab));
    const SequenceInput last{&state, std::span(tokens).last(1), Want::last};
    ASSERT_TRUE((*engine)->step({&last, 1}, logits).ok());
    for (std::size_t i = 0; i < logits.size(); ++i)
      EXPECT_NEAR(logits[i], rows.back()[i].get<float>(), 1e-4) << name;
    EXPECT_NE(load_error(fixtures + name).find("not of a model like this one"), std::string::npos);
  }
}

}  // namespace
}  // namespace fr
