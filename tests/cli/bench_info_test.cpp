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

std::string layouts(const std::string& name) { return FR_SOURCE_DIR "/src/formats/testdata/layouts/" + name; }
Json info_of(const std::string& path) { return Json::parse(run({frwkv(), "info", path, "--json"}).out); }

TEST(Info, FilesOfOtherPrograms) {
  const Finished text = run({frwkv(), "info", layouts("v7.fla")});
  ASSERT_EQ(text.code, 0) << text.err;
  for (const char* part :
       {"safetensors in the layout of fla, 3 files", "RWKV-7", "model_type rwkv7", "fp16 69 ("})
    EXPECT_NE(text.out.find(part), std::string::npos) << part << "\n" << text.out;
  const Json fla = info_of(layouts("v7.fla"));
  EXPECT_EQ(fla["format"], "safetensors");
  EXPECT_EQ(fla["layout"], "fla");
  EXPECT_EQ(fla["files"].size(), 3u);
  EXPECT_EQ(fla["config"]["architectures"], "RWKV7ForCausalLM");
  EXPECT_EQ(fla["config"]["head_dim"], "16");
  const Json official = info_of(layouts("v7.safetensors"));
  EXPECT_EQ(official["layout"], "official");
  for (const char* key : {"n_parameters", "fingerprint", "version", "head_size", "lora_ranks"})
    EXPECT_EQ(fla[key], official[key]) << key;

  const Json tied = info_of(layouts("v7_tied.fla.safetensors"));
  EXPECT_EQ(tied["n_parameters"].get<int>(), official["n_parameters"].get<int>() - 16 * 32);
  EXPECT_NE(tied["notes"].dump().find("the head is the embedding"), std::string::npos);
}

TEST(Info, NumbersThatAConverterMade) {
  const Json v5 = info_of(layouts("v5_0.rwkv_cpp.bin"));
  EXPECT_EQ(v5["layout"], "rwkv.cpp");
  EXPECT_EQ(v5["processed"], Json::parse(R"(["att.time_decay","att.time_first"])"));
  EXPECT_EQ(v5["metadata"]["file_version"], "101");
  const Json quantised = info_of(layouts("v4_quantised.rwkv_cpp.bin"));
  std::int64_t tensors = 0, parameters = 0;
  for (const Json& share : quantised["dtype_table"]) {
    tensors += share["tensors"].get<int>();
    parameters += share["parameters"].get<int>();
    if (share["dtype"] == "q8_0") {
      EXPECT_EQ(share["bytes"].get<int>(), share["parameters"].get<int>() / 32 * 34);
    }
  }
  EXPECT_EQ(tensors, static_cast<std::int64_t>(quantised["tensors"].size()));
  EXPECT_EQ(parameters, quantised["n_parameters"].get<std::int64_t>());
  for (const char* type : {"q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "fp16", "fp32"})
    EXPECT_TRUE(quantised["dtypes"].contains(type)) << type;
  EXPECT_NE(run({frwkv(), "info", layouts("v5_0.rwkv_cpp.bin")}).out.find("att.time_decay, att.time_first"),
            std::string::npos);
}

TEST(Info, OtherModelsAreNamed) {
  const Folder folder;
  const std::string header =
      R"({"model.layers.0.self_attn.q_proj.weight":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
  std::string file(8, '\0');
  file[0] = static_cast<char>(header.size());
  const std::string llama = folder.write("model.safetensors", file.append(header).append("x"));
  Finished f = run({frwkv(), "info", llama});
  EXPECT_EQ(f.code, 3);
  EXPECT_NE(f.err.find("this is a LLaMA-type transformer"), std::string::npos) << f.err;
  folder.write("config.json", R"({"architectures":["LlamaForCausalLM"],"model_type":"llama"})");
  f = run({frwkv(), "info", llama.substr(0, llama.rfind('/'))});
  EXPECT_EQ(f.code, 3);
  EXPECT_NE(f.err.find("this is a LLaMA model (LlamaForCausalLM)"), std::string::npos) << f.err;
}

TEST(Bench, TableAndJson) {
  const Arguments quick{frwkv(),    "bench", "--batch",   "1,4", model_path(),
                        "--prompt", "32",    "--seconds", "0.1"};
  const Finished table = run(quick);
  ASSERT_EQ(table.code, 0) << table.err;
  EXPECT_EQ(table.err, "");
  for (const char* part : {"decode x1", "decode x4", "prefill 32", "GB/s", "native", "of its limit", "fp32",
                           "zeros: measured in this model", "RssAnon", "VmHWM", "load"}) {
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

// The keys that scripts rely on, of several runs in one table.
TEST(Bench, RowsOfSeveralRuns) {
  const Finished f = run({frwkv(), "bench", "--dtypes", "fp16,int8", "--threads", "1,2", "--batch", "1,3",
                          "--prompt", "8", "--seconds", "0", "--json"});
  ASSERT_EQ(f.code, 0) << f.err;
  const Json json = Json::parse(f.out);
  for (const char* key : {"name", "processors", "cores", "cache", "instruction_sets", "limits"})
    EXPECT_TRUE(json["machine"].contains(key)) << key;
  ASSERT_EQ(json["machine"]["limits"].size(), 2u);
  EXPECT_EQ(json["machine"]["limits"][1]["threads"], 2);
  EXPECT_GT(json["machine"]["limits"][0]["read_bandwidth"].get<double>(), 1e8);
  EXPECT_EQ(json["machine"]["limits"][0]["peaks"][0]["numbers"], "fp32");
  EXPECT_EQ(json["zeros_source"], "measured in this model");
  ASSERT_EQ(json["runs"].size(), 4u);
  for (const char* key : {"strategy", "device", "load_seconds", "step_weight_bytes", "memory"})
    EXPECT_TRUE(json["runs"][0].contains(key)) << key;
  EXPECT_GT(json["runs"][0]["memory"]["rss_anon_peak"].get<double>(), 1e6);
  ASSERT_EQ(json["rows"].size(), 12u);
  for (const Json& row : json["rows"]) {
    for (const char* key : {"tokens_per_second", "ms", "deviation", "bytes_per_second", "share", "zeros"})
      EXPECT_TRUE(row[key].is_number()) << key << "\n" << row;
    EXPECT_NEAR(
        row["share"].get<double>(),
        row["limit"] == "read"
            ? row.value(row["bytes_read_per_second"].is_null() ? "bytes_per_second" : "bytes_read_per_second",
                        0.0) /
                  json["machine"]["limits"][row["threads"] == 1 ? 0 : 1]["read_bandwidth"].get<double>()
            : row["share_of_peak"].get<double>(),
        1e-6);
  }
  EXPECT_EQ(json["rows"][0]["test"], "decode x1");
  EXPECT_TRUE(json["rows"][1]["bytes_read_per_second"].is_null());
  EXPECT_EQ(json["rows"][2]["test"], "prefill 8");
  EXPECT_EQ(json["rows"][3]["threads"], 2);
  EXPECT_EQ(json["rows"][11]["dtype"], "int8");
  EXPECT_FALSE(json.contains("decode")) << "which run's?";
}

TEST(Bench, RandomWeights) {
  const Finished f = run({frwkv(), "bench", "--shape", "0.1b", "--version", "7", "--zeros", "0.86", "--batch",
                          "1", "--prompt", "0", "--seconds", "0", "--json"});
  ASSERT_EQ(f.code, 0) << f.err;
  const Json json = Json::parse(f.out);
  EXPECT_NEAR(json["n_parameters"].get<double>(), 191e6, 2e6);
  EXPECT_FALSE(json.contains("prefill"));
  EXPECT_NEAR(json["decode"][0]["zeros"].get<double>(), 0.86, 0.03);
  EXPECT_EQ(json["zeros_source"], "random weights, 86 % asked for");
  EXPECT_GT(json["memory"]["rss_anon"].get<double>(), json["random_weights"].get<double>());
}

}  // namespace
}  // namespace fr::test
