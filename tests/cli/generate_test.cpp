// frwkv generate: the text and nothing else.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "process.h"

namespace fr::test {
namespace {

using Json = nlohmann::json;

const Arguments greedy{"--temperature", "0"};  // no penalties unless asked for

Arguments generate(const Arguments& more, const Arguments& base = greedy) {
  Arguments all{frwkv(), "generate", "--threads", "1"};
  all.insert(all.end(), base.begin(), base.end());
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

// What the training code of the shipped model wrote, token for token.
TEST(Generate, GreedyTextOfTheShippedModel) {
  const Json expected = Json::parse(Folder::read(FR_SOURCE_DIR "/models/expected.json"));
  for (const Json& p : expected["prompts"]) {
    const auto n = std::to_string(p["greedy_ids"].size());
    const Finished f = run(generate({"-p", p["text"], "-n", n, "--json", "--strategy", "cpu fp32"}));
    ASSERT_EQ(f.code, 0) << f.err;
    const Json out = Json::parse(f.out);
    Json ids = p["greedy_ids"];
    const bool ends = ids.back() == 0;  // end of text: drawn, but no part of the text
    if (ends) ids.erase(ids.size() - 1);
    EXPECT_EQ(out["tokens"], ids) << p["text"];
    EXPECT_EQ(out["text"], p["greedy_text"]);
    EXPECT_EQ(out["prompt_tokens"], p["ids"].size());
    EXPECT_EQ(out["finish_reason"], ends ? "stop" : "length");
  }
}

TEST(Generate, PromptFromEverywhere) {
  const Folder folder;
  const std::string file = folder.write("prompt.txt", "The little dog\n");
  const Finished expected = run(generate({"-p", "The little dog", "-n", "12"}));
  ASSERT_EQ(expected.code, 0) << expected.err;
  EXPECT_GT(expected.out.size(), 12u);
  EXPECT_EQ(expected.err, "");
  EXPECT_EQ(run(generate({"-f", file, "-n", "12"})).out, expected.out);
  EXPECT_EQ(run(generate({"-p", "-", "-n", "12"}), "The little dog\n").out, expected.out);
  EXPECT_EQ(run(generate({"-n", "12"}), "The little dog").out, expected.out);
  EXPECT_EQ(run(generate({model_path(), "-n", "12"}), "The little dog").out, expected.out);
  EXPECT_NE(run(generate({"-n", "12"}), "The little dog\n\n").out, expected.out);
}

TEST(Generate, EmptyPromptBeginsAText) {
  const Finished f = run(generate({"-p", "", "-n", "8", "--json"}));
  ASSERT_EQ(f.code, 0) << f.err;
  const Json out = Json::parse(f.out);
  EXPECT_EQ(out["prompt_tokens"], 1);
  EXPECT_EQ(out["tokens"].size(), 8u);
  EXPECT_EQ(run(generate({"-n", "8"})).out, out["text"].get<std::string>());
}

TEST(Generate, JsonFitsTheText) {
  const Arguments more{"-p", "Once upon a time", "-n", "20", "--seed", "5"};
  Arguments with_json = more;
  with_json.push_back("--json");
  const Finished text = run(generate(more, {})), json = run(generate(with_json, {}));
  ASSERT_EQ(json.code, 0) << json.err;
  const Json out = Json::parse(json.out);
  EXPECT_EQ(out["text"], text.out);
  EXPECT_EQ(out["seed"], 5);
  EXPECT_EQ(out["generated_tokens"], 20);
  EXPECT_EQ(out["tokens"].size(), 20u);
  EXPECT_EQ(out["model"]["version"], "7");
  EXPECT_EQ(out["model"]["path"], model_path());
  for (const char* key : {"load_seconds", "prompt_seconds", "generate_seconds", "prompt_tokens_per_second",
                          "generated_tokens_per_second"}) {
    EXPECT_GE(out["timings"][key].get<double>(), 0) << key;
  }
}

TEST(Generate, StopStringsEndTheText) {
  const std::string whole = run(generate({"-p", "Once upon a time, there was a little", "-n", "40"})).out;
  const std::size_t at = whole.find("Lily");
  ASSERT_NE(at, std::string::npos) << whole;
  const Finished f = run(generate({"-p", "Once upon a time, there was a little", "-n", "40", "--stop", "zzz",
                                   "--stop", "ily", "--json"}));
  const Json out = Json::parse(f.out);
  EXPECT_EQ(out["text"], whole.substr(0, at + 1));
  EXPECT_EQ(out["finish_reason"], "stop");
}

TEST(Generate, BiasBansAndForces) {
  const Json free = Json::parse(run(generate({"-p", "The", "-n", "1", "--json"})).out);
  const std::string first = free["tokens"][0].dump();
  const Json banned =
      Json::parse(run(generate({"-p", "The", "-n", "1", "--json", "--logit-bias", first + "=-inf"})).out);
  EXPECT_NE(banned["tokens"][0], free["tokens"][0]);
  const Json forced = Json::parse(run(generate({"-p", "The", "-n", "2", "--json", "--logit-bias", "100+1000",
                                                "--logit-bias", first + "-5"}))
                                      .out);
  EXPECT_EQ(forced["tokens"], Json::parse("[100, 100]"));
}

TEST(Generate, SeedsRepeatAndDiffer) {
  const auto text = [](const char* seed) {
    return run(generate({"-p", "Once upon a time", "-n", "40", "--seed", seed, "--top-p", "1"}, {})).out;
  };
  EXPECT_EQ(text("1"), text("1"));
  EXPECT_NE(text("1"), text("2"));
  EXPECT_NE(text("random"), text("-1"));
}

TEST(Generate, SameTextWithAnyNumberOfThreads) {
  for (const Arguments& sampling : {greedy, Arguments{"--seed", "11", "--top-p", "0.9"},
                                    Arguments{"--seed", "3", "--sampler", "ai00", "--top-k", "50"}}) {
    Arguments one = generate({"-p", "One day, a girl named Mia", "-n", "120", "-t", "1"}, sampling),
              two = one;
    two.back() = "2";
    const Finished a = run(one), b = run(two);
    ASSERT_EQ(a.code, 0) << a.err;
    EXPECT_GT(a.out.size(), 100u);
    EXPECT_EQ(a.out, b.out);
  }
}

TEST(Generate, TemplateMakesAChatMessage) {
  const std::string raw =
      run(generate({"-p", "User: Hello, who are you?\n\nAssistant:", "-n", "60", "--stop", "\n\n"})).out;
  const std::string chat =
      run(generate({"-p", "Hello, who are you?", "-n", "60", "--template", "world"})).out;
  ASSERT_FALSE(chat.empty());
  EXPECT_EQ(raw, " " + chat);
  EXPECT_NE(run(generate({"-p", "Hello, who are you?", "-n", "60", "--system", "You are a cat."})).out, "");
}

TEST(Generate, StateContinuesAText) {
  const Folder folder;
  const std::string state = folder.path("state.st");
  const std::string head = "One day, a brave mouse", tail = " named Pip went to the";
  const Finished ids = run({frwkv(), "tokenize", "--model", model_path()}, head);
  const std::string tokens = folder.write("tokens.json", ids.out);
  ASSERT_EQ(
      run({frwkv(), "logits", model_path(), "--tokens-file", tokens, "--state-out", state, "-o", "/dev/null"})
          .code,
      0);
  const Finished whole = run(generate({"-p", head + tail, "-n", "20"})),
                 rest = run(generate({"-p", tail, "-n", "20", "--state", state}));
  EXPECT_EQ(rest.code, 0) << rest.err;
  EXPECT_EQ(rest.out, whole.out);
}

TEST(Generate, CtrlCEndsWith130) {
  Child child(Child::Kind::pipes,
              {frwkv(), "generate", "-p", "Once upon a time", "-n", "-1", "--logit-bias", "0=-inf"});
  ASSERT_TRUE(child.expect(" "));
  child.signal(2);
  EXPECT_EQ(child.wait(), 130);
}

}  // namespace
}  // namespace fr::test
