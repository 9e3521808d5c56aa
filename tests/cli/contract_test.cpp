// Commands, options, exit codes, and errors in one line.
#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>

#include "process.h"

namespace fr::test {
namespace {

// The whole of stderr is one line with this beginning and this in it; nothing on stdout.
void expect_error(const Finished& f, int code, const std::string& part) {
  EXPECT_EQ(f.code, code) << f.err;
  EXPECT_EQ(f.out, "");
  EXPECT_TRUE(f.err.starts_with("frwkv: error: ")) << f.err;
  EXPECT_EQ(std::count(f.err.begin(), f.err.end(), '\n'), 1) << f.err;
  EXPECT_NE(f.err.find(part), std::string::npos) << f.err;
}

TEST(Contract, HelpAndVersion) {
  const Finished help = run({frwkv(), "help"});
  EXPECT_EQ(help.code, 0);
  for (const char* command :
       {"chat", "generate", "logits", "tokenize", "info", "bench", "pull", "list", "doctor"}) {
    EXPECT_NE(help.out.find(std::string("\n  ") + command + " "), std::string::npos) << command;
    const Finished one = run({frwkv(), command, "--help"});
    EXPECT_EQ(one.code, 0);
    EXPECT_EQ(one.err, "");
    EXPECT_NE(one.out.find("--"), std::string::npos);
    EXPECT_EQ(run({frwkv(), "help", command}).out, one.out);
  }
  EXPECT_EQ(run({frwkv(), "--help"}).out, help.out);
  const Finished version = run({frwkv(), "--version"});
  EXPECT_EQ(version.code, 0);
  EXPECT_TRUE(version.out.starts_with("frwkv 0.")) << version.out;
  EXPECT_NE(version.out.find("compiler: "), std::string::npos);
}

TEST(Contract, EveryModelCommandTakesTheSharedOptions) {
  for (const char* command : {"chat", "generate", "logits", "bench", "info", "doctor"}) {
    const std::string help = run({frwkv(), command, "--help"}).out;
    for (const char* option :
         {"--model", "--strategy", "--threads", "--cpu-mask", "--deterministic", "--state", "--vocab"}) {
      EXPECT_NE(help.find(option), std::string::npos) << command << " " << option;
    }
  }
  for (const char* command : {"chat", "generate"}) {
    const std::string help = run({frwkv(), command, "--help"}).out;
    for (const char* option :
         {"--temperature", "--temp", "--top-k", "--top-p", "--min-p", "--typical", "--presence-penalty",
          "--frequency-penalty", "--penalty-decay", "--sampler", "--seed", "--stop", "--logit-bias",
          "--template", "--think", "--system", "-n", "-s"}) {
      EXPECT_NE(help.find(option), std::string::npos) << command << " " << option;
    }
  }
}

TEST(Contract, UsageErrors) {
  expect_error(run({frwkv()}), 2, "no command");
  expect_error(run({frwkv(), "chta"}), 2, "did you mean 'frwkv chat'?");
  expect_error(run({frwkv(), "frobnicate"}), 2, "'frwkv help'");
  expect_error(run({frwkv(), "help", "chta"}), 2, "did you mean 'frwkv chat'?");
  expect_error(run({frwkv(), "generate", "--temprature", "1"}), 2,
               "unknown option '--temprature' (frwkv generate): did you mean --temperature?");
  expect_error(run({frwkv(), "generate", "--xyzzy"}), 2, "see 'frwkv generate --help'");
  expect_error(run({frwkv(), "chat", "a.pth", "b.pth"}), 2, "unexpected argument 'b.pth'");
  expect_error(run({frwkv(), "generate", "-p", "x", "--threads", "many"}), 2,
               "'many' is not a value for --threads");
  expect_error(run({frwkv(), "generate", "-p", "x", "--threads", "-1"}), 2, "--threads");
  expect_error(run({frwkv(), "generate", "-p", "x", "--top-k"}), 2, "--top-k needs a value");
  expect_error(run({frwkv(), "generate", "-p", "x", "--temperature", "-1"}), 2, "temperature");
  expect_error(run({frwkv(), "generate", "-p", "x", "--sampler", "best"}), 2, "rwkv, albatross or ai00");
  expect_error(run({frwkv(), "generate", "-p", "x", "--seed", "now"}), 2, "seed");
  expect_error(run({frwkv(), "generate", "-p", "x", "--logit-bias", "5"}), 2, "logit-bias");
  expect_error(run({frwkv(), "generate", "-p", "x", "--logit-bias", "5000=-inf"}), 2, "5000");
  expect_error(run({frwkv(), "generate", "-p", "x", "--logit-bias", "5000+1"}), 2, "5000");
  expect_error(run({frwkv(), "generate", "-p", "x", "-f", "y"}), 2, "both");
  expect_error(run({frwkv(), "chat", "--template", "chatml"}), 2, "chatml");
  expect_error(run({frwkv(), "chat", "--think", "on"}), 2, "no think mode");
  expect_error(run({frwkv(), "bench", "--batch", "0"}), 2, "--batch");
  expect_error(run({frwkv(), "bench", "--shape", "5b"}), 2, "5b");
  expect_error(run({frwkv(), "bench", "x.pth", "--shape", "0.1b"}), 2, "give one");
  expect_error(run({frwkv(), "bench", "--threads", "1,-2"}), 2, "--threads");
  expect_error(run({frwkv(), "bench", "--threads", "1,two"}), 2, "--threads");
  expect_error(run({frwkv(), "bench", "--dtypes", "fp16,fp7"}), 2, "fp7");
  expect_error(run({frwkv(), "bench", "--dtypes", "fp16", "--strategy", "cpu int8"}), 2, "--dtypes");
}

TEST(Contract, CpuMask) {
  const std::string beyond = "8" + std::string(255, '0');
  expect_error(run({frwkv(), "logits", "--tokens", "1", "--cpu-mask", ""}), 2, "--cpu-mask");
  expect_error(run({frwkv(), "logits", "--tokens", "1", "--cpu-mask", "two"}), 2, "'two' is no hexadecimal");
  expect_error(run({frwkv(), "generate", "-p", "x", "--cpu-mask", "0"}), 2, "names no processor");
  expect_error(run({frwkv(), "bench", "--cpu-mask", beyond}), 2, "processor 1023");
  expect_error(run({frwkv(), "doctor"}, "", {{"FRWKV_CPU_MASK", beyond}}), 2, "processor 1023");
  // On the first processor that this process has, there is one core.
  cpu_set_t mask;
  ASSERT_EQ(::sched_getaffinity(0, sizeof mask, &mask), 0);
  std::size_t first = 0;
  while (!CPU_ISSET(first, &mask)) ++first;
  std::string one(first / 4 + 1, '0');
  one[0] = static_cast<char>('0' + (1 << first % 4));
  const Finished f = run({frwkv(), "doctor", "--cpu-mask", one});
  EXPECT_EQ(f.code, 0) << f.err;
  EXPECT_NE(f.out.find(", 1 cores for this process"), std::string::npos) << f.out;
}

TEST(Contract, StrategiesOfOtherBuildsSayWhatThereIs) {
  expect_error(run({frwkv(), "generate", "-p", "x", "--strategy", "gpu"}), 2, "this build has");
  for (const char* strategy : {"ncnn fp16", "onnx auto"}) {
    expect_error(run({frwkv(), "generate", "-p", "x", "--strategy", strategy}), 2, "frwkv export");
  }
  // The device library is looked for when it is wanted.
  expect_error(run({frwkv(), "generate", "-p", "x", "--strategy", "cuda fp16"}, "",
                   {{"FRWKV_CUDA_LIBRARY", "/no/library.so"}}),
               1, "/no/library.so");
  expect_error(run({frwkv(), "generate", "-p", "x", "--strategy", "cpu:1"}), 2, "no device numbers");
  expect_error(run({frwkv(), "generate", "-p", "x", "--strategy", "cpu fp7"}), 2, "fp7");
}

TEST(Contract, OfflineModelsComeFromTheCache) {
  expect_error(run({frwkv(), "generate", "hf:org/x:x.pth", "--offline"}, "", {{"HF_HUB_CACHE", "/no/cache"}}),
               3, "org/x:x.pth is not in the cache");
  expect_error(run({frwkv(), "generate", "-hf", "org/x", "-p", "x"}, "",
                   {{"HF_HUB_CACHE", "/no/cache"}, {"HF_HUB_OFFLINE", "1"}}),
               3, "org/x is not in the cache");
  expect_error(run({frwkv(), "info", "hf:org/x:x.pth", "--offline"}, "", {{"HF_HUB_CACHE", "/no/cache"}}), 3,
               "org/x:x.pth is not in the cache");
}

TEST(Contract, WrongFilesAreNamed) {
  const Folder folder;
  const std::string empty = folder.write("empty.pth", ""),
                    text = folder.write("text.pth", "Once upon a time\n"),
                    missing = folder.path("missing.pth"), directory = folder.path("");
  for (const char* command : {"info", "generate", "bench"}) {
    for (const std::string& file : {empty, text, missing, directory}) {
      expect_error(run({frwkv(), command, file}, "hello"), 3, file);
    }
    EXPECT_NE(run({frwkv(), command, missing}, "hello").err.find("check the path"), std::string::npos);
  }
  expect_error(run({frwkv(), "tokenize", "--vocab", text}), 3, text);
  expect_error(run({frwkv(), "tokenize", "--vocab", missing}), 3, missing);
  expect_error(run({frwkv(), "tokenize", "--model", missing}), 3, missing);
  expect_error(run({frwkv(), "generate", "-f", missing}), 3, missing);
  expect_error(run({frwkv(), "generate", "-p", "x", "--state", missing}), 3, missing);
  expect_error(run({frwkv(), "generate", "-p", "x", "--state", text}), 3, text);
  // A vocabulary with more words than the model has rows.
  expect_error(run({frwkv(), "generate", "-p", "x", "--vocab", FR_SOURCE_DIR "/tokenizer_model"}), 3,
               "--vocab");
}

TEST(Contract, TruncatedModelIsAFileError) {
  const Folder folder;
  const std::string whole = Folder::read(model_path());
  ASSERT_GT(whole.size(), 1000000u);
  const std::string half = folder.write("half.pth", whole.substr(0, whole.size() / 2));
  expect_error(run({frwkv(), "generate", half, "-p", "x"}), 3, half);
}

TEST(Contract, VariablesStandInForOptions) {
  const Arguments generate{frwkv(), "generate", "-p", "Once upon a time", "--temperature", "0"};
  Arguments with_option = generate;
  with_option.insert(with_option.end(), {"-n", "3"});
  const Finished expected = run(with_option);
  ASSERT_EQ(expected.code, 0) << expected.err;
  EXPECT_EQ(run(generate, "", {{"FRWKV_MAX_TOKENS", "3"}}).out, expected.out);
  EXPECT_EQ(run(with_option, "", {{"FRWKV_MAX_TOKENS", "9"}}).out, expected.out);  // the command line wins
  expect_error(run(generate, "", {{"FRWKV_MODEL", "/no/such.pth"}}), 3, "/no/such.pth");
  expect_error(run(generate, "", {{"FRWKV_STRATEGY", "abacus fp32"}}), 2, "abacus");
  expect_error(run(generate, "", {{"FRWKV_THREADS", "x"}}), 2, "FRWKV_THREADS");
}

TEST(Contract, AliasesOfLlamaCpp) {
  const Finished expected =
      run({frwkv(), "generate", "--model", model_path(), "--prompt", "The cat", "--max-tokens", "8",
           "--threads", "1", "--seed", "7", "--temperature", "1.5"});
  ASSERT_EQ(expected.code, 0) << expected.err;
  EXPECT_FALSE(expected.out.empty());
  EXPECT_EQ(run({frwkv(), "generate", "-m", model_path(), "-p", "The cat", "-n", "8", "-t", "1", "-s", "7",
                 "--temp", "1.5"})
                .out,
            expected.out);
  EXPECT_EQ(
      run({frwkv(), "generate", model_path(), "-p", "The cat", "--n-predict=8", "-t1", "-s7", "--temp=1.5"})
          .out,
      expected.out);
}

TEST(Contract, OutputThatCannotBeWrittenIsAnError) {
  const Finished f = run({"/bin/sh", "-c", "exec \"$0\" generate -p hi -n 4 > /dev/full", frwkv()});
  expect_error(f, 1, "standard output");
  for (const char* command : {"info >&-", "generate -p hi -n 2 >&-", "help >&-"}) {
    expect_error(run({"/bin/sh", "-c", std::string("exec \"$0\" ") + command, frwkv()}), 1,
                 "standard output");
  }
  expect_error(run({frwkv(), "logits", "--tokens", "1", "--state-out", "x", "-o", "x"}), 2, "name two");
}

TEST(Contract, InputThatCannotBeReadIsAnError) {
  for (const char* input : {"<&-", "< /"}) {
    expect_error(run({"/bin/sh", "-c", std::string("exec \"$0\" tokenize ") + input, frwkv()}), 3,
                 "standard input");
    const Finished chat = run({"/bin/sh", "-c", std::string("exec \"$0\" chat ") + input, frwkv()});
    EXPECT_EQ(chat.code, 3);
    EXPECT_NE(chat.err.find("cannot read standard input"), std::string::npos) << chat.err;
  }
}

TEST(OldChat, ArgumentsOf2023) {
  const Finished ok = run({chat(), vocab_path(), model_path(), "cpu fp32"}, "Hello\n");
  EXPECT_EQ(ok.code, 0) << ok.err;
  EXPECT_TRUE(ok.out.ends_with("\n\n"));
  EXPECT_GT(ok.out.size(), 4u);
  const Finished few = run({chat(), vocab_path(), model_path()});
  EXPECT_EQ(few.code, 2);
  EXPECT_EQ(few.err,
            "chat: error: wrong number of arguments (chat): use chat TOKENIZER MODEL \"STRATEGY\" [STATE]\n");
  const Finished cuda =
      run({chat(), vocab_path(), model_path(), "cuda fp16"}, "", {{"FRWKV_CUDA_LIBRARY", "/no/library.so"}});
  EXPECT_EQ(cuda.code, 1);
  EXPECT_NE(cuda.err.find("/no/library.so"), std::string::npos) << cuda.err;
  EXPECT_EQ(run({chat(), "/no/vocab", model_path(), "cpu fp32"}).code, 3);
  EXPECT_EQ(run({chat(), vocab_path(), "/no/model", "cpu fp32"}).code, 3);
  EXPECT_EQ(run({chat(), vocab_path(), model_path(), "cpu fp32", "/no/state"}).code, 3);
}

}  // namespace
}  // namespace fr::test
