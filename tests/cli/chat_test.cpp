// frwkv chat in a pipe: every line is one turn, stdout gets the replies alone.
#include <gtest/gtest.h>

#include <filesystem>

#include "process.h"

#if defined(__has_feature)
#define FR_CLANG_SANITIZES __has_feature(address_sanitizer)
#else
#define FR_CLANG_SANITIZES 0
#endif

namespace fr::test {
namespace {

// One thread: the model is too small to gain from two, and other tests may run beside this one.
Arguments chat_with(const Arguments& more, const char* threads = "1") {
  Arguments all{frwkv(), "chat", "--threads", threads};
  all.insert(all.end(), more.begin(), more.end());
  return all;
}
const Arguments greedy = chat_with({"--temperature", "0"});

// The replies of a run, without their blank lines. Replies of the model may hold single newlines, no blank
// lines.
std::vector<std::string> replies(const std::string& out) {
  std::vector<std::string> all;
  for (std::size_t at = 0; at < out.size();) {
    const std::size_t end = out.find("\n\n", at);
    if (end == std::string::npos) {
      ADD_FAILURE() << "no blank line at the end of: " << out;
      break;
    }
    all.push_back(out.substr(at, end - at));
    at = end + 2;
  }
  return all;
}

TEST(PipeChat, OneReplyPerLine) {
  const Finished f = run(greedy, "Hello, who are you?\n\n   \nTell me a story about a cat.\r\nThank you!");
  EXPECT_EQ(f.code, 0) << f.err;
  const auto r = replies(f.out);
  ASSERT_EQ(r.size(), 3u) << f.out;
  for (const std::string& reply : r) EXPECT_GT(reply.size(), 1u);
  EXPECT_NE(f.err.find("RWKV-7"), std::string::npos);
  EXPECT_NE(f.err.find("demo"), std::string::npos);
  EXPECT_NE(f.err.find("huggingface.co/BlinkDL"), std::string::npos);
  EXPECT_EQ(f.out.find("RWKV-7"), std::string::npos);
  EXPECT_EQ(run(greedy, "").out, "");
}

TEST(PipeChat, ResetForgetsUndoGoesBack) {
  const auto alone = replies(run(greedy, "Hello, who are you?\n").out);
  const auto second = replies(run(greedy, "Hello!\nHello, who are you?\n").out);
  const auto reset = replies(run(greedy, "Hello!\n/reset\nHello, who are you?\n").out);
  const auto undo = replies(run(greedy, "Hello!\n/undo\nHello, who are you?\n").out);
  const auto plus = replies(run(greedy, "Hello!\n+reset\nHello, who are you?\n").out);
  ASSERT_EQ(alone.size(), 1u);
  ASSERT_EQ(second.size(), 2u);
  for (const auto& r : {reset, undo, plus}) {
    ASSERT_EQ(r.size(), 2u);
    EXPECT_EQ(r[1], alone[0]);
    EXPECT_EQ(r[0], second[0]);
  }
}

TEST(PipeChat, RetryDrawsAgain) {
  const auto r = replies(
      run(chat_with({"--seed", "3", "--top-p", "1", "-n", "60"}), "Tell me a story.\n/retry\n+\n").out);
  ASSERT_EQ(r.size(), 3u);
  EXPECT_NE(r[0], r[1]);
  EXPECT_NE(r[1], r[2]);
  // Greedy retries change nothing.
  const auto same = replies(run(greedy, "Tell me a story.\n/retry\n").out);
  EXPECT_EQ(same[0], same[1]);
}

TEST(PipeChat, SaveLoadForkSwitch) {
  const Folder folder;
  const std::string file = folder.path("chat.safetensors");
  const std::string first = "My name is Tim.\n", second = "Tell me a story.\n";
  const auto straight = replies(run(greedy, first + second).out);
  const Finished saved = run(greedy, first + "/save " + file + "\n");
  EXPECT_EQ(saved.code, 0) << saved.err;
  const auto loaded = replies(run(greedy, "/load " + file + "\n" + second).out);
  ASSERT_EQ(loaded.size(), 1u);
  EXPECT_EQ(loaded[0], straight[1]);
  const auto by_option = replies(run(chat_with({"--temperature", "0", "--state", file}), second).out);
  EXPECT_EQ(by_option.size(), 1u);

  const auto forked = replies(run(greedy, first + "/fork side\nI like dogs.\n/switch main\n" + second +
                                              "/switch side\n/undo\n" + second)
                                  .out);
  ASSERT_EQ(forked.size(), 4u);
  EXPECT_EQ(forked[2], straight[1]);
  EXPECT_EQ(forked[3], straight[1]);
}

TEST(PipeChat, TheModelIsNotOverwritten) {
  const Folder folder;
  const std::string model = folder.path("m.pth");
  std::filesystem::copy_file(model_path(), model);
  const auto size = std::filesystem::file_size(model);
  const Finished f =
      run(chat_with({"-m", model, "--vocab", vocab_path(), "-n", "4"}), "/save " + model + "\n");
  EXPECT_EQ(f.code, 2);
  EXPECT_NE(f.err.find("the output is the model file itself"), std::string::npos) << f.err;
  EXPECT_EQ(std::filesystem::file_size(model), size);
}

TEST(PipeChat, SettingsAndStats) {
  const Finished f = run(chat_with({"--seed", "9"}),
                         "/set temperature 0\n/set presence_penalty 0\n/set frequency_penalty 0\nHello, who "
                         "are you?\n/stats\n/show\n/set\n/forks\n/help\n");
  EXPECT_EQ(f.code, 0) << f.err;
  EXPECT_EQ(f.out, run(greedy, "Hello, who are you?\n").out);
  for (const char* part :
       {"temperature = 0", "tokens/s", "1 turn,", "template = world", "* main", "/retry"}) {
    EXPECT_NE(f.err.find(part), std::string::npos) << part << "\n" << f.err;
  }
  const Arguments brief = chat_with({"--temperature", "0", "-n", "60"});
  const Finished plain = run(brief, "Tell me a story.\n");
  const auto r = replies(run(brief, "Tell me a story. -temp=3 -top_p=1\n/reset\nTell me a story.\n").out);
  ASSERT_EQ(r.size(), 2u);
  EXPECT_NE(r[0] + "\n\n", plain.out);
  EXPECT_EQ(r[1] + "\n\n", plain.out);
}

TEST(PipeChat, FreeGeneration) {
  const auto r =
      replies(run(greedy,
                  "/set max_tokens 12\n+gen Once upon a time, there was a little\n+++\n++\nHello\n+qa Hello, "
                  "who are you?\n+qq Who is Tim?\n+i Write a line.\n")
                  .out);
  ASSERT_EQ(r.size(), 7u);
  const Finished whole = run({frwkv(), "generate", "-p", "Once upon a time, there was a little", "-n", "24",
                              "--temperature", "0", "--threads", "1"});
  EXPECT_EQ(r[0] + r[1], whole.out);
  EXPECT_EQ(r[2], r[0]);  // greedy: the same again
  for (const std::string& reply : r) EXPECT_FALSE(reply.empty());
}

TEST(PipeChat, FilesAsMessagesAndPrompts) {
  const Folder folder;
  const std::string message = folder.write("message.txt", "Hello, who are you?"),
                    prompt = folder.write("prompt.txt", "User: My name is Tim.\n\nAssistant: Hello Tim!\n\n");
  EXPECT_EQ(run(greedy, "/read " + message + "\n").out, run(greedy, "Hello, who are you?\n").out);
  const auto once =
      replies(run(greedy, "+prompt " + prompt + "\nTell me a story.\n+reset\nTell me a story.\n").out);
  ASSERT_EQ(once.size(), 2u);
  EXPECT_EQ(once[0], once[1]);  // +reset comes back to the prompt
}

TEST(PipeChat, ErrorsAreReportedAndItGoesOn) {
  const std::string zero("a zero\0byte\n", 12);
  const Finished f = run(greedy, "Hello\n" + zero + "/load /no/such/file\nTell me a story.\n");
  EXPECT_EQ(f.code, 3);
  EXPECT_EQ(replies(f.out), replies(run(greedy, "Hello\nTell me a story.\n").out));
  EXPECT_NE(f.err.find("error: line 2: the message holds a zero byte"), std::string::npos) << f.err;
  EXPECT_NE(f.err.find("error: line 3: cannot open"), std::string::npos) << f.err;
  EXPECT_NE(f.err.find("/no/such/file"), std::string::npos);
  EXPECT_EQ(run(greedy, "/set colour red\n").code, 2);
  EXPECT_EQ(run(greedy, "/set top_p 7\n").code, 2);
  EXPECT_EQ(run(greedy, "/save\n").code, 2);
  EXPECT_EQ(run(greedy, "/undo\n").code, 2);
  EXPECT_EQ(run(greedy, "/switch nowhere\n").code, 2);
  EXPECT_EQ(run(greedy, "/quit\nHello\n").out, "");
  // What is no command is a message.
  EXPECT_EQ(replies(run(greedy, "/etc/passwd is a file.\n+5 is a number.\n").out).size(), 2u);
}

TEST(PipeChat, SameTextWithAnyNumberOfThreads) {
  const std::string input = "Hello, who are you?\nTell me a story about a dog.\n";
  for (const Arguments& sampling : {Arguments{"--temperature", "0"}, {"--seed", "4", "--top-p", "0.9"}}) {
    const std::string one = run(chat_with(sampling, "1"), input).out;
    EXPECT_GT(one.size(), 50u);
    EXPECT_EQ(run(chat_with(sampling, "2"), input).out, one);
  }
}

// The whole conversation lives in a state of fixed size: 10,000 tokens are about 36,000 bytes of this model's
// text.
TEST(PipeChat, TenThousandTokensLeaveMemoryConstant) {
#if defined(__SANITIZE_ADDRESS__) || FR_CLANG_SANITIZES
  GTEST_SKIP() << "the address sanitizer keeps freed memory: run this in a build without it";
#endif
  Child child(Child::Kind::pipes, chat_with({"--seed", "1"}));
  const auto talk_until = [&](std::size_t bytes) {
    while (child.output().size() < bytes) {
      child.send("Tell me a story.\n");
      if (!child.expect("\n\n")) return false;
    }
    return true;
  };
  ASSERT_TRUE(talk_until(6000));  // more turns than there are snapshots
  const long before = child.rss_anon();
  ASSERT_TRUE(talk_until(6000 + 36000));
  const long after = child.rss_anon();
  EXPECT_GT(before, 1 << 20);
  EXPECT_LT(after, before + (1 << 20)) << "before " << before << ", after " << after;
  child.close_input();
  EXPECT_EQ(child.wait(), 0);
}

}  // namespace
}  // namespace fr::test
