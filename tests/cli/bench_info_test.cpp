// frwkv info and frwkv bench.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "process.h"

namespace fr::test {
namespace {

using Json = nlohmann::json;

TEST(Info, ForPeopleAndAsJson) {
  const Finished text = run({frwkv(), "info", model_path()});
  ASSERT_EQ(text.code, 0) << text.err;
  for (const char* part : {"RWKV-7", "9083904", "8 layers", "vocabulary 4096", "4 heads of 64", "pth", "fp16",
                           "rwkv7-story-9m.vocab.txt"}) {
    EXPECT_NE(text.out.find(part), std::string::npos) << part << "\n" << text.out;
  }
  const Json json = Json::parse(run({frwkv(), "info", "--json"}).out);  // the model that ships
  EXPECT_EQ(json["version"], "7");
  EXPECT_EQ(json["n_layer"], 8);
  EXPECT_EQ(json["n_parameters"], 9083904);
  EXPECT_EQ(json["state_size"], 8 * (2 * 256 + 4 * 64 * 64));
  EXPECT_EQ(json["tensors"].size(), 270u);
  EXPECT_EQ(json["tensors"][0]["name"], "emb.weight");
}

TEST(Info, VerifyFindsAFlippedByte) {
  EXPECT_EQ(run({frwkv(), "info", "--verify"}).code, 0);
  EXPECT_NE(run({frwkv(), "info", "--verify"}).out.find("checksums   right"), std::string::npos);
  const Folder folder;
  std::string bytes = Folder::read(model_path());
  bytes[bytes.size() / 2] ^= 1;
  const std::string bad = folder.write("bad.pth", bytes);
  EXPECT_EQ(run({frwkv(), "info", bad}).code, 0);
  EXPECT_EQ(run({frwkv(), "info", bad, "--verify"}).code, 3);
}

TEST(Info, VerifyClaimsNothingWithoutChecksums) {
  const Folder folder;
  const std::string state = folder.path("s.safetensors");
  ASSERT_EQ(run({frwkv(), "logits", "--tokens", "1", "--state-out", state, "-o", "/dev/null"}).code, 0);
  const Finished f = run({frwkv(), "info", state, "--verify"});
  EXPECT_EQ(f.code, 0) << f.err;
  EXPECT_NE(f.out.find("checksums   none in this format"), std::string::npos) << f.out;
  EXPECT_FALSE(Json::parse(run({frwkv(), "info", state, "--verify", "--json"}).out)["verified"].get<bool>());
}

TEST(Info, StatesAreRecognised) {
  const Folder folder;
  const std::string state = folder.path("a.safetensors");
  ASSERT_EQ(
      run({frwkv(), "logits", model_path(), "--tokens", "1,2", "--state-out", state, "-o", "/dev/null"}).code,
      0);
  const Finished f = run({frwkv(), "info", state});
  EXPECT_EQ(f.code, 0) << f.err;
  EXPECT_NE(f.out.find("state"), std::string::npos);
}

TEST(Bench, TableAndJson) {
  const Arguments quick{frwkv(),    "bench", "--batch",   "1,4", model_path(),
                        "--prompt", "32",    "--seconds", "0.1"};
  const Finished table = run(quick);
  ASSERT_EQ(table.code, 0) << table.err;
  EXPECT_EQ(table.err, "");
  for (const char* part : {"decode x1", "decode x4", "prefill 32", "GB/s", "native"}) {
    EXPECT_NE(table.out.find(part), std::string::npos) << part << "\n" << table.out;
  }
  Arguments with_json = quick;
  with_json.push_back("--json");
  const Json json = Json::parse(run(with_json).out);
  ASSERT_EQ(json["decode"].size(), 2u);
  EXPECT_EQ(json["decode"][1]["batch"], 4);
  EXPECT_GT(json["decode"][0]["tokens_per_second"].get<double>(), 1);
  EXPECT_EQ(json["prefill"]["tokens"], 32);
  EXPECT_GT(json["read_bandwidth"].get<double>(), 1e8);
  EXPECT_GT(json["memory"]["peak"].get<double>(), 1e6);
}

TEST(Bench, RandomWeights) {
  const Finished f = run({frwkv(), "bench", "--shape", "0.1b", "--version", "7", "--zeros", "0.86", "--batch",
                          "1", "--prompt", "0", "--seconds", "0", "--json"});
  ASSERT_EQ(f.code, 0) << f.err;
  const Json json = Json::parse(f.out);
  EXPECT_NEAR(json["n_parameters"].get<double>(), 191e6, 2e6);
  EXPECT_FALSE(json.contains("prefill"));
  EXPECT_NEAR(json["decode"][0]["zeros"].get<double>(), 0.86, 0.03);
}

}  // namespace
}  // namespace fr::test
