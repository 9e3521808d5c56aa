#include <gtest/gtest.h>

#include <cstdio>

#include "common/reply_printer.h"
#include "common/terminal.h"

namespace fr::app {
namespace {

// What the printer writes for a reply that arrives in pieces of n bytes.
std::string printed(std::string_view reply, std::size_t n, bool terminal, bool styled) {
  std::FILE* file = std::tmpfile();
  {
    ReplyPrinter printer(file, terminal, styled);
    for (std::size_t at = 0; at < reply.size(); at += n) printer.add(reply.substr(at, n));
    printer.finish();
  }
  std::rewind(file);
  std::string out(1000, '\0');
  out.resize(std::fread(out.data(), 1, out.size(), file));
  std::fclose(file);
  return out;
}

TEST(ReplyPrinter, EndsWithABlankLine) {
  for (std::size_t n = 1; n < 12; ++n) {
    EXPECT_EQ(printed("Hi.\n\nYou? \n\n", n, false, false), "Hi.\n\nYou?\n\n");
    EXPECT_EQ(printed("  two", n, false, false), "  two\n\n");
    EXPECT_EQ(printed("", n, true, true), "\n\n");
  }
}

TEST(ReplyPrinter, ReasoningIsDimOnATerminal) {
  for (std::size_t n = 1; n < 30; ++n) {
    EXPECT_EQ(printed("<think>a < b</think>\nSo 1 < 2.", n, true, true), "\033[2ma < b\033[0m\nSo 1 < 2.\n\n")
        << n;
    EXPECT_EQ(printed("<think>cut", n, true, true), "\033[2mcut\033[0m\n\n") << n;
    EXPECT_EQ(printed("<think>cut</thi", n, true, true), "\033[2mcut</thi\033[0m\n\n") << n;
    EXPECT_EQ(printed("<thin ice", n, true, true), "<thin ice\n\n") << n;
    EXPECT_EQ(printed("<thi", n, true, true), "<thi\n\n") << n;
    EXPECT_EQ(printed("<think>a</think>b", n, true, false), "<think>a</think>b\n\n") << n;
  }
}

TEST(ReplyPrinter, ModelsCannotSendEscapeSequences) {
  EXPECT_EQ(printed("a\033[31mb\007\r\xc2\x9b"
                    "c\td\n\xc3\xa9",
                    100, true, true),
            "a[31mbc\td\n\xc3\xa9\n\n");
  EXPECT_EQ(printed("a\033b", 100, false, false), "a\033b\n\n");  // a pipe gets the text as it is
}

TEST(Terminal, FilesAreNone) {
  std::FILE* file = std::tmpfile();
  EXPECT_FALSE(is_terminal(file));
  EXPECT_FALSE(may_style(file));
  std::fclose(file);
}

}  // namespace
}  // namespace fr::app
