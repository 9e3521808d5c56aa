#include "common/input.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "common/files.h"
#include "common/history_file.h"
#include "faster_rwkv/fr.hpp"

namespace fr::app {
namespace {

TEST(Input, MessagesAndCommands) {
  EXPECT_EQ(parse_input("hello /help").verb, Verb::say);
  EXPECT_EQ(parse_input("hello /help").argument, "hello /help");
  EXPECT_EQ(parse_input(" /help").verb, Verb::say);
  EXPECT_EQ(parse_input("/help").verb, Verb::help);
  EXPECT_EQ(parse_input("/BYE").verb, Verb::quit);
  const Input set = parse_input("/set  temperature 0.8 ");
  EXPECT_EQ(set.verb, Verb::set);
  EXPECT_EQ(set.argument, "temperature 0.8");
  const Input unknown = parse_input("/rset now");
  EXPECT_EQ(unknown.verb, Verb::unknown);
  EXPECT_EQ(unknown.name, "/rset");
  EXPECT_EQ(unknown.argument, "/rset now");
}

TEST(Input, PlusCommandsOfChatRwkv) {
  EXPECT_EQ(parse_input("+").verb, Verb::retry);
  EXPECT_EQ(parse_input("++").verb, Verb::retry_free);
  EXPECT_EQ(parse_input("+++").verb, Verb::carry_on);
  EXPECT_EQ(parse_input("+reset").verb, Verb::reset);
  const Input gen = parse_input(R"(+gen Once\nupon)");
  EXPECT_EQ(gen.verb, Verb::generate);
  EXPECT_EQ(gen.argument, R"(Once\nupon)");
  EXPECT_EQ(parse_input("+i Write.").verb, Verb::instruct);
  EXPECT_EQ(parse_input("+qa Why?").verb, Verb::answer);
  EXPECT_EQ(parse_input("+QQ Why?").verb, Verb::question);
  EXPECT_EQ(parse_input("+prompt a.txt").verb, Verb::prompt);
  // These are things that people say.
  EXPECT_EQ(parse_input("+5 degrees").verb, Verb::say);
  EXPECT_EQ(parse_input("+ 5 is what?").verb, Verb::say);
}

TEST(Input, ArgumentsAreChecked) {
  EXPECT_EQ(argument_error(parse_input("/save")), "/save needs an argument: /save FILE");
  EXPECT_EQ(argument_error(parse_input("/save a b.st")), "");
  EXPECT_EQ(argument_error(parse_input("/reset all")), "/reset takes no argument ('all')");
  EXPECT_EQ(argument_error(parse_input("/fork")), "");
  EXPECT_EQ(argument_error(parse_input("/fork b")), "");
  EXPECT_EQ(argument_error(parse_input("hello")), "");
}

TEST(Input, UnknownCommandsGetASuggestion) {
  EXPECT_NE(unknown_command("/sav").find("did you mean /save?"), std::string::npos);
  EXPECT_NE(unknown_command("/regenerate").find("/help"), std::string::npos);
}

TEST(Input, HelpNamesEveryCommandOnce) {
  const std::string help = help_text();
  for (const Command& c : commands()) {
    if (c.help.empty()) continue;
    const std::string mark = std::string("\n  ").append(c.name).append(" ");
    const std::size_t at = ("\n" + help).find(mark);
    EXPECT_NE(at, std::string::npos) << c.name;
    EXPECT_EQ(("\n" + help).find(mark, at + 1), std::string::npos) << c.name;
  }
}

TEST(Joiner, BackslashAndBlocks) {
  Joiner j;
  EXPECT_TRUE(j.add("one"));
  EXPECT_EQ(j.text(), "one");
  EXPECT_FALSE(j.add("two\\"));
  EXPECT_TRUE(j.waiting());
  EXPECT_TRUE(j.add("three"));
  EXPECT_EQ(j.text(), "two\nthree");
  EXPECT_FALSE(j.add("\"\"\""));
  EXPECT_FALSE(j.add("four\\"));
  EXPECT_FALSE(j.add(""));
  EXPECT_TRUE(j.add("\"\"\""));
  EXPECT_EQ(j.text(), "four\\\n");
  EXPECT_TRUE(j.add("\"\"\"five\"\"\""));
  EXPECT_EQ(j.text(), "five");
  EXPECT_FALSE(j.add("\"\"\"six"));
  EXPECT_TRUE(j.add("seven\"\"\""));
  EXPECT_EQ(j.text(), "six\nseven");
  EXPECT_FALSE(j.add("eight\\"));
  j.clear();
  EXPECT_FALSE(j.waiting());
  EXPECT_TRUE(j.add("nine"));
  EXPECT_EQ(j.text(), "nine");
}

class Folder : public testing::Test {
 protected:
  Folder() : path_(std::filesystem::temp_directory_path() / ("frwkv_input_" + std::to_string(::getpid()))) {
    std::filesystem::remove_all(path_);
  }
  ~Folder() override { std::filesystem::remove_all(path_); }
  std::string file(const char* name) const { return (path_ / name).string(); }
  std::filesystem::path path_;
};

TEST_F(Folder, HistoryComesBack) {
  const std::string path = file("deep/history");
  EXPECT_TRUE(load_history(path).empty());
  const std::vector<std::string> entries{"one", "two\nlines", R"(C:\new)", "  spaces "};
  for (const std::string& e : entries) append_history(path, e);
  EXPECT_EQ(load_history(path), entries);
  const auto mode = std::filesystem::status(path).permissions();
  EXPECT_EQ(mode & std::filesystem::perms::others_all, std::filesystem::perms::none);
  EXPECT_EQ(mode & std::filesystem::perms::group_all, std::filesystem::perms::none);
}

TEST_F(Folder, HistoryIsShortened) {
  const std::string path = file("history");
  for (int i = 0; i < 2500; ++i) append_history(path, std::to_string(i));
  const std::vector<std::string> kept = load_history(path);
  ASSERT_EQ(kept.size(), 1000u);
  EXPECT_EQ(kept.front(), "1500");
  EXPECT_EQ(kept.back(), "2499");
  EXPECT_EQ(std::filesystem::file_size(path), 5000u);  // four digits and a newline each
}

TEST_F(Folder, HistoryPlace) {
  ::setenv("HOME", "/home/someone", 1);
  ::unsetenv("XDG_STATE_HOME");
  ::unsetenv("FRWKV_HISTORY");
  EXPECT_EQ(default_history_file(), "/home/someone/.local/state/frwkv/history");
  ::setenv("XDG_STATE_HOME", "/state", 1);
  EXPECT_EQ(default_history_file(), "/state/frwkv/history");
  ::setenv("FRWKV_HISTORY", "off", 1);
  EXPECT_EQ(default_history_file(), "");
  ::unsetenv("FRWKV_HISTORY");
  ::unsetenv("XDG_STATE_HOME");
  EXPECT_EQ(expand_home("~/a"), "/home/someone/a");
  EXPECT_EQ(expand_home("~b/a"), "~b/a");
}

TEST_F(Folder, ReadFileNamesWhatIsWrong) {
  try {
    read_file(file("none"), "the prompt");
    FAIL();
  } catch (const faster_rwkv::Error& e) {
    EXPECT_EQ(e.code(), FR_ERROR_FILE);
    EXPECT_EQ(e.what(),
              "cannot open the prompt (" + file("none") + "): No such file or directory, check the path");
  }
  EXPECT_THROW(read_file("/", "the prompt"), faster_rwkv::Error);
}

}  // namespace
}  // namespace fr::app
