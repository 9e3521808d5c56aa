#include "common/words.h"

#include <gtest/gtest.h>

namespace fr::app {
namespace {

TEST(Words, TrimLowerUnescape) {
  EXPECT_EQ(trim(" \t a b \r\n"), "a b");
  EXPECT_EQ(trim(" \n "), "");
  EXPECT_EQ(lower("Ab-Z9\xc3\x84"), "ab-z9\xc3\x84");
  EXPECT_EQ(unescape(R"(a\nb\tc\\n\q\)"), "a\nb\tc\\n\\q\\");
}

TEST(Words, ClosestFindsTyposAndBeginnings) {
  constexpr std::string_view words[] = {"--temperature", "--top-p", "--top-k", "--threads"};
  EXPECT_EQ(closest("--temprature", words), "--temperature");
  EXPECT_EQ(closest("--temp", words), "--temperature");
  EXPECT_EQ(closest("--top-x", words), "--top-p");
  EXPECT_EQ(closest("--thread", words), "--threads");
  EXPECT_EQ(closest("--verbose", words), "");
  EXPECT_EQ(closest("x", words), "");
}

TEST(Words, NumbersForPeople) {
  EXPECT_EQ(count(999), "999");
  EXPECT_EQ(count(9083904), "9.1M");
  EXPECT_EQ(count(13.24e9), "13.2B");
  EXPECT_EQ(bytes(0), "0 B");
  EXPECT_EQ(bytes(540672), "528 KiB");
  EXPECT_EQ(bytes(1503238553), "1.4 GiB");
}

}  // namespace
}  // namespace fr::app
