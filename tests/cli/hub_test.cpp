// frwkv pull, list and doctor, and hf:REPO:FILE as MODEL, against a local hub.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "process.h"
#include "tools_core/test_hub_server.h"

namespace fr::test {
namespace {

using Json = nlohmann::json;

class Hub : public testing::Test {
 protected:
  Variables variables() const {
    return {{"HF_ENDPOINT", server.endpoint()},
            {"HF_HUB_CACHE", folder.path("hub")},
            {"HF_HUB_OFFLINE", ""},
            {"HF_TOKEN", ""},
            {"HF_HOME", folder.path("home")},
            {"no_proxy", "127.0.0.1"}};
  }
  Finished frwkv_with(Arguments arguments) const {
    arguments.insert(arguments.begin(), frwkv());
    return run(arguments, "", variables());
  }
  void add_shipped_model() {
    server.add("story.pth", Folder::read(model_path()));
    server.add("story.vocab.txt", Folder::read(vocab_path()));
  }
  static void expect_error(const Finished& f, int code, const std::string& part) {
    EXPECT_EQ(f.code, code) << f.err;
    EXPECT_TRUE(f.err.starts_with("frwkv: error: ")) << f.err;
    EXPECT_EQ(std::count(f.err.begin(), f.err.end(), '\n'), 1) << f.err;
    EXPECT_NE(f.err.find(part), std::string::npos) << f.err;
  }

  Folder folder;
  HubServer server;
};

TEST_F(Hub, AModelIsDownloadedOnceAndRuns) {
  add_shipped_model();
  const Arguments options = {"-p", "Once upon a time", "-n", "8", "--temperature", "0"};
  const auto generate = [&](Arguments model) {
    model.insert(model.begin(), "generate");
    model.insert(model.end(), options.begin(), options.end());
    return frwkv_with(model);
  };
  const Finished local = generate({model_path()});
  ASSERT_EQ(local.code, 0) << local.err;
  EXPECT_EQ(generate({"hf:org/model:story.pth", "--offline"}).code, 3);
  EXPECT_TRUE(server.requests().empty());
  const Finished first = generate({"hf:org/model:story.pth"});
  EXPECT_EQ(first.code, 0) << first.err;
  EXPECT_EQ(first.out, local.out);
  EXPECT_EQ(first.err, "");
  const std::size_t asked = server.requests().size();
  EXPECT_EQ(generate({"hf:org/model"}).out, local.out);
  EXPECT_EQ(generate({"-hf", "org/model:story.pth", "--offline"}).out, local.out);
  EXPECT_EQ(server.requests().size(), asked) << "it was in the cache";

  const Finished info = frwkv_with({"info", "hf:org/model", "--json"});
  EXPECT_EQ(Json::parse(info.out)["n_parameters"], 9083904);
  const Json list = Json::parse(frwkv_with({"list", "--json"}).out);
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(list[0]["kind"], "shipped");
  EXPECT_EQ(list[1]["name"], "hf:org/model:story.pth");
  EXPECT_EQ(list[1]["size"], list[0]["size"]);
  EXPECT_NE(frwkv_with({"list"}).out.find("hf:org/model:story.pth"), std::string::npos);
}

TEST_F(Hub, PullPrintsThePath) {
  add_shipped_model();
  const Finished f = frwkv_with({"pull", "org/model"});
  EXPECT_EQ(f.code, 0) << f.err;
  EXPECT_EQ(f.err, "");
  EXPECT_TRUE(f.out.starts_with(folder.path("hub"))) << f.out;
  EXPECT_TRUE(f.out.ends_with("/story.pth\n")) << f.out;
  EXPECT_EQ(frwkv_with({"pull", "hf:org/model:story.pth", "--revision", "v2"}).code, 0);
  EXPECT_EQ(frwkv_with({"pull", "org/model@v2:story.pth", "--offline"}).out, f.out);
}

TEST_F(Hub, SeveralModelsAreListed) {
  server.add("a.pth", "1");
  server.add("b.gguf", "2");
  const Finished f = frwkv_with({"pull", "org/model"});
  expect_error(f, 2, "2 model files");
  EXPECT_NE(f.out.find("org/model:a.pth"), std::string::npos) << f.out;
  expect_error(frwkv_with({"info", "hf:org/model"}), 2, "a.pth, b.gguf");
}

TEST_F(Hub, ExitCodes) {
  server.add("a.pth", random_bytes(1, 100000));
  expect_error(frwkv_with({"pull"}), 2, "ORG/NAME");
  expect_error(frwkv_with({"pull", "../x"}), 2, "no name of a repository");
  expect_error(frwkv_with({"pull", "org/model:b.pth"}), 4, "did you mean one of a.pth");
  expect_error(frwkv_with({"pull", "org/other"}), 4, "org/other");
  expect_error(frwkv_with({"pull", "org/model", "--offline"}), 3, "not in the cache");
  server.set({.flip_byte = true});
  expect_error(frwkv_with({"pull", "org/model"}), 3, "checksum");
  server.set({.status = 401, .error_code = "GatedRepo"});
  expect_error(frwkv_with({"generate", "hf:org/model", "-p", "x"}), 4, "HF_TOKEN");
}

TEST_F(Hub, CtrlCKeepsThePart) {
  const std::string content = random_bytes(3, 3000000);
  server.add("a.pth", content);
  server.set({.stall_ms = 5000, .stalls = 1});
  Child child(Child::Kind::terminal, {frwkv(), "pull", "org/model:a.pth"}, variables());
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  const auto on_its_way = [&] {
    const auto requests = server.requests();
    return !requests.empty() && requests.back().target.starts_with("/cdn/");
  };
  while (!on_its_way() && std::chrono::steady_clock::now() < end)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  child.signal(SIGINT);
  EXPECT_TRUE(child.expect("the same command goes on where it stopped"));
  EXPECT_EQ(child.wait(), 130);
  const Finished f = frwkv_with({"pull", "org/model:a.pth"});
  ASSERT_EQ(f.code, 0) << f.err;
  EXPECT_EQ(Folder::read(f.out.substr(0, f.out.size() - 1)), content);
  EXPECT_TRUE(server.requests().back().headers.contains("range"));
}

TEST_F(Hub, Doctor) {
  const Finished text = frwkv_with({"doctor"});
  EXPECT_EQ(text.code, 0) << text.err;
  for (const char* part : {"processor", "instructions", "memory", "advice", "rwkv7-story-9m.pth"})
    EXPECT_NE(text.out.find(part), std::string::npos) << part << "\n" << text.out;
  const Finished json = frwkv_with({"doctor", model_path(), "--json"});
  ASSERT_EQ(json.code, 0) << json.err;
  const Json j = Json::parse(json.out);
  EXPECT_EQ(j["model"]["n_parameters"], 9083904);
  EXPECT_EQ(j["cache"]["path"], folder.path("hub"));
  EXPECT_NE(frwkv_with({"doctor", model_path()}).out.find("int4: "), std::string::npos);
  expect_error(frwkv_with({"doctor", "/no/model"}), 3, "/no/model");
}

}  // namespace
}  // namespace fr::test
