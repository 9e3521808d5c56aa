// The chat on a pseudo-terminal: editing, history, Ctrl-C, Ctrl-D.
#include <gtest/gtest.h>

#include "process.h"

namespace fr::test {
namespace {

const std::string ctrl_c = "\x03", ctrl_d = "\x04", up = "\033[A", left = "\033[D", enter = "\r";
const std::string prompt = "\033[?2004h>>> ";

struct Terminal : Child {
  explicit Terminal(const Arguments& more = {}, const Variables& variables = {})
      : Child(Kind::terminal, command(more), variables) {}
  static Arguments command(const Arguments& more) {
    Arguments all{frwkv(), "chat", "--temperature", "0", "--threads", "1"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
};
// A reply that never ends.
const Arguments endless{"--template", "plain", "--logit-bias", "0=-inf", "--max-tokens", "-1"};

TEST(TerminalChat, GreetsAnswersAndLeaves) {
  Terminal t;
  ASSERT_TRUE(t.expect("demo")) << t.output();
  ASSERT_TRUE(t.expect("/help"));
  ASSERT_TRUE(t.expect(prompt));
  t.send("Hello, who are you?" + enter);
  ASSERT_TRUE(t.expect("model")) << t.output();
  ASSERT_TRUE(t.expect(prompt));
  t.send("/stats" + enter);
  ASSERT_TRUE(t.expect("tokens/s")) << t.output();
  ASSERT_TRUE(t.expect(prompt));
  t.send("/sttas" + enter);
  ASSERT_TRUE(t.expect("did you mean /stats?")) << t.output();
  ASSERT_TRUE(t.expect(prompt));
  t.send(ctrl_d);
  EXPECT_EQ(t.wait(), 0);
}

TEST(TerminalChat, CtrlCStopsTheReplyAndKeepsTheChat) {
  Terminal t(endless);
  ASSERT_TRUE(t.expect(prompt));
  t.send("Once upon a time" + enter);
  ASSERT_TRUE(t.expect(" "));
  ASSERT_TRUE(t.expect("."));
  t.send(ctrl_c);
  ASSERT_TRUE(t.expect("stopped")) << t.rest();
  ASSERT_TRUE(t.expect(prompt));
  t.send("/stats" + enter);
  ASSERT_TRUE(t.expect("1 turn,")) << t.rest();
  ASSERT_TRUE(t.expect(prompt));
  t.send("/continue" + enter);
  ASSERT_TRUE(t.expect("."));
  t.send(ctrl_c);
  ASSERT_TRUE(t.expect("stopped"));
  ASSERT_TRUE(t.expect(prompt));
  t.send("/quit" + enter);
  EXPECT_EQ(t.wait(), 0);
}

TEST(TerminalChat, CtrlCTwiceAtThePromptLeaves) {
  Terminal t;
  ASSERT_TRUE(t.expect(prompt));
  t.send("half a line");
  ASSERT_TRUE(t.expect("half a line"));
  t.send(ctrl_c);  // drops the line
  ASSERT_TRUE(t.expect(prompt));
  t.send(ctrl_c);
  ASSERT_TRUE(t.expect("Ctrl-C again")) << t.rest();
  ASSERT_TRUE(t.expect(prompt));
  t.send("/forks" + enter);  // anything else in between: not twice in a row
  ASSERT_TRUE(t.expect("main: 0 turns")) << t.rest();
  ASSERT_TRUE(t.expect(prompt));
  t.send(ctrl_c);
  ASSERT_TRUE(t.expect("Ctrl-C again"));
  ASSERT_TRUE(t.expect(prompt));
  t.send(ctrl_c);
  EXPECT_EQ(t.wait(), 130);
}

TEST(TerminalChat, LinesCanBeEdited) {
  Terminal t;
  ASSERT_TRUE(t.expect(prompt));
  t.send("/forsk" + left + "\x7f" + "\033[C" + "s" +
         enter);  // the s before the k goes, a new one behind it comes
  ASSERT_TRUE(t.expect("main: 0 turns")) << t.rest();
  ASSERT_TRUE(t.expect(prompt));
  t.send("/swi\tmain" + enter);  // completed
  ASSERT_TRUE(t.expect("Now in copy 'main'")) << t.rest();
  ASSERT_TRUE(t.expect(prompt));
  t.send("\xe4\xbd\xa0\xe5\xa5\xbd\x7f\x7f/forks" + enter);  // two wide characters, deleted
  ASSERT_TRUE(t.expect("main: 0 turns")) << t.rest();
}

TEST(TerminalChat, HistoryIsKept) {
  const Folder folder;
  const Variables home{{"XDG_STATE_HOME", folder.path("")}, {"FRWKV_HISTORY", "on"}};
  {
    Terminal t({}, home);
    ASSERT_TRUE(t.expect(prompt));
    t.send("/fork first" + enter);
    ASSERT_TRUE(t.expect("Now in copy 'first'"));
    ASSERT_TRUE(t.expect(prompt));
    t.send("/forks" + enter);
    ASSERT_TRUE(t.expect(prompt));
    t.send(ctrl_d);
    EXPECT_EQ(t.wait(), 0);
  }
  EXPECT_EQ(Folder::read(folder.path("frwkv/history")), "/fork first\n/forks\n");
  Terminal t({}, home);
  ASSERT_TRUE(t.expect(prompt));
  t.send(up + up + enter);
  ASSERT_TRUE(t.expect("Now in copy 'first'")) << t.rest();
  Terminal without({"--no-history"}, home);
  ASSERT_TRUE(without.expect(prompt));
  without.send("/help" + enter);
  ASSERT_TRUE(without.expect(prompt));
  EXPECT_EQ(Folder::read(folder.path("frwkv/history")), "/fork first\n/forks\n/fork first\n");
}

TEST(TerminalChat, MultiLineInput) {
  Terminal t({"--max-tokens", "4"});
  ASSERT_TRUE(t.expect(prompt));
  t.send("/system one\\" + enter);
  ASSERT_TRUE(t.expect("... "));
  t.send("two" + enter);
  ASSERT_TRUE(t.expect("new conversation"));
  ASSERT_TRUE(t.expect(prompt));
  t.send("/show" + enter);
  ASSERT_TRUE(t.expect("system: one\r\ntwo")) << t.rest();
  ASSERT_TRUE(t.expect(prompt));
  t.send("\"\"\"Hello" + enter);
  ASSERT_TRUE(t.expect("... "));
  t.send("you\"\"\"" + enter);
  ASSERT_TRUE(t.expect("(4 tokens")) << t.rest();
  ASSERT_TRUE(t.expect(prompt));
  // Pasted newlines do not send; Alt-Enter makes one.
  t.send("\033[200~/system three\rfour\033[201~");
  t.send("\033\rfive" + enter);
  ASSERT_TRUE(t.expect("new conversation")) << t.rest();
  ASSERT_TRUE(t.expect(prompt));
  t.send("/show" + enter);
  ASSERT_TRUE(t.expect("system: three\r\nfour\r\nfive")) << t.rest();
  ASSERT_TRUE(t.expect(prompt));
  t.send("\"\"\"unfinished" + enter);
  ASSERT_TRUE(t.expect("... "));
  t.send(ctrl_c);
  ASSERT_TRUE(t.expect(prompt));
  t.send("/forks" + enter);
  ASSERT_TRUE(t.expect("main: 0 turns")) << t.rest();
}

TEST(TerminalChat, BigPastesAndStrangeKeysDoNoHarm) {
  Terminal t({"--max-tokens", "4"});
  ASSERT_TRUE(t.expect(prompt));
  std::string text;
  for (int i = 0; i < 300; ++i) text += "line " + std::to_string(i) + " of a long text\r";
  t.send("\033[200~" + text + "\033[201~" + enter);
  ASSERT_TRUE(t.expect("(4 tokens")) << t.rest();
  ASSERT_TRUE(t.expect(prompt));
  std::string keys;
  for (int i = 1; i < 256; ++i) {
    // Not those that end the line, leave, or stop the output (Ctrl-C D J M O Q S Z \).
    if (std::string("\x03\x04\x0a\x0d\x0f\x11\x13\x1a\x1c").find(static_cast<char>(i)) == std::string::npos)
      keys += static_cast<char>(i);
  }
  t.send(keys + keys + "end");
  ASSERT_TRUE(t.expect("end"));
  t.send(ctrl_c);  // drops the line and what is not read yet
  ASSERT_TRUE(t.expect("\033[?2004l")) << t.rest();
  ASSERT_TRUE(t.expect(prompt));
  t.send("/forks" + enter);
  ASSERT_TRUE(t.expect("main: 1 turn")) << t.rest();
}

TEST(TerminalChat, ReasoningIsDimUnlessColoursAreRefused) {
  const Arguments thinking{"--template", "g1-zh", "--think", "on", "--max-tokens", "6"};
  Terminal styled(thinking);
  ASSERT_TRUE(styled.expect(prompt));
  styled.send("Hello" + enter);
  ASSERT_TRUE(styled.expect("\033[2m")) << styled.rest();
  ASSERT_TRUE(styled.expect(prompt));
  EXPECT_EQ(styled.output().find("<think>"), std::string::npos);
  Terminal bare(thinking, {{"NO_COLOR", "1"}});
  ASSERT_TRUE(bare.expect(prompt));
  bare.send("Hello" + enter);
  ASSERT_TRUE(bare.expect("<think>")) << bare.rest();
  ASSERT_TRUE(bare.expect(prompt));
  EXPECT_EQ(bare.output().find("\033[2m"), std::string::npos);
}

}  // namespace
}  // namespace fr::test
