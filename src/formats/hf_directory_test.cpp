#include "formats/hf_directory.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "formats/formats.h"
#include "formats/test_files.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

// A safetensors file with tensors of two bytes each.
std::string shard(const std::vector<std::string>& names) {
  std::string json = "{";
  std::size_t at = 0;
  for (const std::string& name : names) {
    json += "\"" + name + "\":{\"dtype\":\"BF16\",\"shape\":[1],\"data_offsets\":[" + std::to_string(at) +
            "," + std::to_string(at + 2) + "]},";
    at += 2;
  }
  json.back() = '}';
  return test::safetensors(json, std::string(at, 'x'));
}
// {"weight_map": {name: file, ...}}
std::string index_of(const std::vector<std::pair<std::string, std::string>>& map) {
  std::string json = "{\"metadata\":{\"total_size\":4},\"weight_map\":{";
  for (const auto& [name, file] : map) json += "\"" + name + "\":\"" + file + "\",";
  json.back() = '}';
  return json + "}";
}
const std::string pth = test::pth_zip(test::two_tensors(), test::two_storages());

class HfDirectory : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) /
              ("fr_hf_" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
    clear();
  }
  void TearDown() override { fs::remove_all(folder_); }
  void clear() const {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void write(const std::string& name, const std::string& content) const {
    std::ofstream(folder_ / name, std::ios::binary) << content;
  }
  // `where`: the file that the message names, the directory when empty.
  void expect_error(std::string_view part, const std::string& where = {}) const {
    const auto c = open_checkpoint(folder_);
    ASSERT_FALSE(c.ok()) << "wanted: " << part;
    EXPECT_NE(c.error().message.find(part), std::string::npos) << c.error().message;
    EXPECT_EQ(c.error().code, ErrorCode::invalid_file);
    EXPECT_LT(c.error().message.size(), 600u);
    const fs::path named = where.empty() ? folder_ : folder_ / where;
    EXPECT_TRUE(test::is_good_message(c.error(), named.string())) << c.error().message;
  }
  std::vector<std::string> names() const {
    const auto c = open_checkpoint(folder_);
    EXPECT_TRUE(c.ok()) << c.error().message;
    std::vector<std::string> out;
    if (!c.ok()) return out;
    EXPECT_EQ(c->path, folder_.string());
    for (const TensorView& t : c->tensors) out.push_back(t.name);
    return out;
  }
  fs::path folder_;
};
using Names = std::vector<std::string>;

TEST_F(HfDirectory, TakesTheWeights) {
  write("other.txt", "hello");
  write("only.pth", pth);
  EXPECT_EQ(names(), (Names{"a", "b"}));
  write("pytorch_model.bin", test::pth_zip(test::two_tensors(), test::two_storages()));
  EXPECT_EQ(names(), (Names{"a", "b"}));
  write("model.safetensors", shard({"s"}));
  EXPECT_EQ(names(), Names{"s"});
  write("one.safetensors", shard({"x"}));
  write("two.safetensors", shard({"y", "z"}));
  write("model.safetensors.index.json",
        index_of({{"x", "one.safetensors"}, {"y", "two.safetensors"}, {"z", "two.safetensors"}}));
  EXPECT_EQ(names(), (Names{"x", "y", "z"}));
  const auto c = open_checkpoint(folder_);
  ASSERT_EQ(c->files.size(), 2u);
  EXPECT_EQ(c->file_size(), c->files[0]->bytes().size() + c->files[1]->bytes().size());
}

TEST_F(HfDirectory, ShardsOfPytorchAreVerified) {
  write("a.bin", pth);
  write("b.bin", test::pth_zip(test::PickleBuilder()
                                   .empty_dict()
                                   .text("c")
                                   .tensor("FloatStorage", "0", 6, 0, {6}, {1})
                                   .set()
                                   .stop(),
                               {{"0", test::counting(1.0f, 6)}}));
  write("pytorch_model.bin.index.json", index_of({{"a", "a.bin"}, {"b", "a.bin"}, {"c", "b.bin"}}));
  EXPECT_EQ(names(), (Names{"a", "b", "c"}));
  auto c = open_checkpoint(folder_);
  ASSERT_TRUE(verify_checkpoint(*c).ok());
  EXPECT_TRUE(*verify_checkpoint(*c));
  std::string damaged = pth;
  damaged[pth.find(test::counting(1.0f, 6))] ^= 1;
  write("a.bin", damaged);
  c = open_checkpoint(folder_);
  ASSERT_TRUE(c.ok());
  const auto verified = verify_checkpoint(*c);
  ASSERT_FALSE(verified.ok());
  EXPECT_NE(verified.error().message.find("a.bin"), std::string::npos) << verified.error().message;
}

TEST_F(HfDirectory, NoWeightsOrTooMany) {
  expect_error("directory without weights");
  write("config.json", R"({"model_type":"rwkv7"})");
  expect_error("directory without weights");
  write("b.pth", pth);
  write("a.pth", pth);
  expect_error("several models: \"a.pth\", \"b.pth\"");
}

TEST_F(HfDirectory, OtherModelsAreNamed) {
  write("model.safetensors", shard({"x"}));
  const std::pair<const char*, const char*> cases[] = {
      {R"({"architectures":["LlamaForCausalLM"],"model_type":"llama"})",
       "this is a LLaMA model (LlamaForCausalLM)"},
      {R"({"model_type":"gpt_neox"})", "this is a GPT-NeoX model"},
      {R"({"architectures":["NewThing"],"model_type":"new\nthing"})",
       "this is a new\\x0athing model (NewThing)"},
  };
  for (const auto& [config, part] : cases) {
    write("config.json", config);
    expect_error(part, "config.json");
  }
  for (const char* config : {"{}", R"({"architectures":["RwkvForCausalLM"],"model_type":"other"})",
                             R"({"model_type":"rwkv6qwen2","nested":{"model_type":"llama"}})"}) {
    write("config.json", config);
    EXPECT_EQ(names(), Names{"x"}) << config;
  }
}

TEST_F(HfDirectory, ConfigIsMetadata) {
  const auto config = read_model_config(
      R"({"model_type":"rwkv7","head_dim":64,"norm_eps":1e-05,"tie_word_embeddings":true,"attn":null,"secret":1,)"
      R"("architectures":["RWKV7ForCausalLM","Second"]})",
      "c");
  ASSERT_TRUE(config.ok()) << config.error().message;
  EXPECT_EQ(*config, (std::map<std::string, std::string>{{"config.architectures", "RWKV7ForCausalLM"},
                                                         {"config.model_type", "rwkv7"},
                                                         {"config.head_dim", "64"},
                                                         {"config.norm_eps", "1e-05"},
                                                         {"config.tie_word_embeddings", "true"}}));
}

TEST_F(HfDirectory, ShardsThatAreWrong) {
  const std::string index = "model.safetensors.index.json";
  write("a.st", shard({"x"}));
  write(index, index_of({{"x", "a.st"}, {"y", "b.st"}, {"z", "c.st"}}));
  expect_error("2 of 3 weight files are missing or cannot be opened: \"b.st\", \"c.st\"");
  write("b.st", shard({"x", "y"}));
  write(index, index_of({{"x", "a.st"}, {"y", "b.st"}}));
  expect_error("tensor \"x\" occurs more than once");
  write("b.st", shard({"other"}));
  expect_error("tensor \"y\" is not in this file", "b.st");
  write("b.st", pth);
  expect_error("some shards are safetensors, others pth");
  write("b.st", "");
  expect_error("empty", "b.st");
  write("b.st", "<html>");
  expect_error("web page", "b.st");
  fs::remove(folder_ / "b.st");
  fs::create_directory(folder_ / "b.st");
  expect_error("directory", "b.st");
}

TEST_F(HfDirectory, LinksAreFollowedAndLoopsEnd) {
  const fs::path blobs = folder_ / "blobs";
  fs::create_directory(blobs);
  std::ofstream(blobs / "0123", std::ios::binary) << shard({"x"});
  fs::create_symlink("blobs/0123", folder_ / "a.st");
  write("model.safetensors.index.json", index_of({{"x", "a.st"}}));
  EXPECT_EQ(names(), Names{"x"});
  fs::remove(folder_ / "a.st");
  fs::create_symlink("a.st", folder_ / "a.st");
  expect_error("\"a.st\"");
  fs::remove(folder_ / "a.st");
  fs::create_symlink(".", folder_ / "a.st");
  expect_error("directory", "a.st");
}

TEST_F(HfDirectory, FilesOutsideTheDirectoryAreRefused) {
  for (const char* file : {"../x", "/etc/passwd", "a/b", "..", ".", "", "a\\\\b", "a\\u0000b"}) {
    write("model.safetensors.index.json", index_of({{"x", file}}));
    expect_error("not a file name in this directory", "model.safetensors.index.json");
  }
}

TEST_F(HfDirectory, IndexesThatAreWrong) {
  const auto refused = [](const std::string& json, std::string_view part) {
    const auto result = read_shard_index(json, "f");
    ASSERT_FALSE(result.ok()) << json.substr(0, 100);
    EXPECT_NE(result.error().message.find(part), std::string::npos) << result.error().message;
    EXPECT_TRUE(test::is_good_message(result.error(), "f")) << result.error().message;
  };
  refused("", "not valid JSON");
  refused("{", "not valid JSON at byte");
  refused("[]", "not a JSON object");
  refused("1", "not a JSON object");
  refused("null", "not a JSON object");
  refused("{}", "no weight_map");
  refused(R"({"weight_map":[]})", "no weight_map");
  refused(R"({"weight_map":{"x":"a","x":"b"}})", "\"x\" twice");
  refused(std::string(100, '['), "not a JSON object");
  std::string deep;
  for (int i = 0; i < 100; ++i) deep += "{\"a\":";
  refused(deep, "nested too deeply");
  refused(std::string((std::size_t{4} << 20) + 1, ' '), "more than 4 MB");
  refused("{\"" + std::string(2000, 'k') + "\":1}", "key that is too long");
  std::vector<std::pair<std::string, std::string>> tensors, shards;
  for (int i = 0; i < 40000; ++i) tensors.emplace_back(std::to_string(i), "a");
  refused(index_of(tensors), "too many tensors");
  for (int i = 0; i < 5000; ++i) shards.emplace_back(std::to_string(i), std::to_string(i));
  refused(index_of(shards), "too many weight files");
  refused("{\"weight_map\":{\"\xff\":\"a\"}}", "not valid JSON");
}

}  // namespace
}  // namespace fr
