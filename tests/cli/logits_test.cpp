// frwkv logits: raw rows, chunks, states.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "process.h"

namespace fr::test {
namespace {

constexpr std::size_t n_vocab = 4096;
const std::string ids = "1803,2418,294,2404,45,2916,1781,294,3224";
constexpr std::size_t n_ids = 9;

std::vector<float> floats(const std::string& bytes) {
  std::vector<float> out(bytes.size() / sizeof(float));
  if (!out.empty()) std::memcpy(out.data(), bytes.data(), out.size() * sizeof(float));
  return out;
}

std::vector<float> logits(const Arguments& more) {
  Arguments all{frwkv(), "logits", model_path(), "--strategy", "cpu fp32", "--threads", "1"};
  all.insert(all.end(), more.begin(), more.end());
  const Finished f = run(all);
  EXPECT_EQ(f.code, 0) << f.err;
  EXPECT_EQ(f.err, "");
  EXPECT_EQ(f.out.size() % sizeof(float), 0u);
  return floats(f.out);
}

float difference(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  float worst = 0;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    worst = std::max(worst, std::fabs(a[i] - b[i]));
  return worst;
}

TEST(Logits, LastRowOrAll) {
  const std::vector<float> last = logits({"--tokens", ids}), all = logits({"--tokens", ids, "--all"});
  ASSERT_EQ(last.size(), n_vocab);
  ASSERT_EQ(all.size(), n_ids * n_vocab);
  EXPECT_LT(difference(last, {all.end() - n_vocab, all.end()}), 1e-4f);
  // The model's own next word, " girl".
  EXPECT_EQ(std::max_element(last.begin(), last.end()) - last.begin(), 2154);
}

TEST(Logits, ChunksChangeNothing) {
  const std::vector<float> all = logits({"--tokens", ids, "--all"}), last = logits({"--tokens", ids});
  for (const char* chunk : {"1", "2", "4", "8", "9", "100"}) {
    EXPECT_LT(difference(logits({"--tokens", ids, "--all", "--chunk", chunk}), all), 1e-4f) << chunk;
    EXPECT_LT(difference(logits({"--tokens", ids, "--chunk", chunk}), last), 1e-4f) << chunk;
  }
}

TEST(Logits, StateCarriesOn) {
  const Folder folder;
  const std::string state = folder.path("s.safetensors"), out = folder.path("logits.bin");
  EXPECT_EQ(logits({"--tokens", "1803,2418,294,2404", "--state-out", state}).size(), n_vocab);
  logits({"--tokens", "45,2916,1781,294,3224", "--state-in", state, "-o", out});
  EXPECT_LT(difference(floats(Folder::read(out)), logits({"--tokens", ids})), 1e-4f);
  const std::string broken = folder.write("broken.st", Folder::read(state).substr(0, 5000));
  const Finished f = run({frwkv(), "logits", model_path(), "--tokens", "1", "--state-in", broken});
  EXPECT_EQ(f.code, 3);
  EXPECT_NE(f.err.find(broken), std::string::npos);
}

TEST(Logits, TokensFile) {
  const Folder folder;
  const std::string file = folder.write("tokens.json", " [1803, 2418,\n294] ");
  EXPECT_LT(difference(logits({"--tokens-file", file}), logits({"--tokens", "1803,2418,294"})), 1e-6f);
}

TEST(Logits, LongInputsNeedLittleMemory) {
  // 8,000 tokens with --all are 131 MB of logits, written as they come.
  const Folder folder;
  const auto peak = [&](int n) {
    std::string json = "[0";
    for (int i = 1; i < n; ++i) json.append(",").append(std::to_string(i % 4000));
    const std::string file = folder.write("tokens.json", json + "]"), out = folder.path("out.bin");
    const Finished f = run({frwkv(), "logits", model_path(), "--tokens-file", file, "--all", "-o", out});
    EXPECT_EQ(f.code, 0) << f.err;
    EXPECT_EQ(Folder::read(out).size(), static_cast<std::size_t>(n) * n_vocab * sizeof(float));
    return f.peak;
  };
  EXPECT_LT(peak(8000), peak(1000) + (16L << 20));
}

TEST(Logits, WrongTokensAreNamed) {
  const Folder folder;
  const auto error = [](const Arguments& more) {
    Arguments all{frwkv(), "logits", model_path()};
    all.insert(all.end(), more.begin(), more.end());
    return run(all);
  };
  Finished f = error({"--tokens", "5,4096"});
  EXPECT_EQ(f.code, 2);
  EXPECT_NE(f.err.find("token id 4096 at position 1 is outside the vocabulary of 4096"), std::string::npos)
      << f.err;
  f = error({"--tokens", "5,-1"});
  EXPECT_EQ(f.code, 2);
  EXPECT_NE(f.err.find("-1 at position 1"), std::string::npos) << f.err;
  f = error({"--tokens", "5,,6"});
  EXPECT_EQ(f.code, 2);
  EXPECT_NE(f.err.find("position 1"), std::string::npos) << f.err;
  EXPECT_EQ(error({}).code, 2);
  EXPECT_EQ(error({"--tokens", "1", "--tokens-file", "x"}).code, 2);
  EXPECT_EQ(error({"--tokens", "1", "--chunk", "-2"}).code, 2);
  EXPECT_EQ(error({"--tokens-file", folder.write("a", "[]")}).code, 2);
  EXPECT_EQ(error({"--tokens-file", folder.write("b", "[1, 99999]")}).code, 2);
  EXPECT_EQ(error({"--tokens-file", folder.write("c", "[1, 2.5]")}).code, 2);
  EXPECT_EQ(error({"--tokens-file", folder.write("d", "[1, 99999999999]")}).code, 2);
  EXPECT_EQ(error({"--tokens-file", folder.write("e", "1 2 3")}).code, 3);
  EXPECT_EQ(error({"--tokens-file", folder.write("f", "{\"a\": 1}")}).code, 3);
  EXPECT_EQ(error({"--tokens-file", folder.write("g", std::string(100000, '['))}).code, 3);
  EXPECT_EQ(error({"--tokens-file", folder.path("none")}).code, 3);
  EXPECT_EQ(error({"--tokens", "1", "-o", folder.path("no/such/folder")}).code, 1);
}

}  // namespace
}  // namespace fr::test
