#include "text/stop_strings.h"

#include <gtest/gtest.h>

#include <random>

namespace fr {
namespace {

StopStrings make(std::vector<std::string> stops) {
  auto made = StopStrings::create(std::move(stops));
  EXPECT_TRUE(made.ok());
  return *made;
}

struct Outcome {
  std::string text;
  std::optional<std::size_t> match;
  bool operator==(const Outcome&) const = default;
};

// The definition, byte by byte: the first end of a stop string wins, then the longest.
Outcome expected(const std::string& text, const std::vector<std::string>& stops) {
  for (std::size_t end = 1; end <= text.size(); ++end) {
    Outcome best{text, std::nullopt};
    for (std::size_t i = 0; i < stops.size(); ++i) {
      const std::size_t length = stops[i].size();
      if (length > end || text.compare(end - length, length, stops[i]) != 0) continue;
      if (!best.match || length > stops[*best.match].size()) best = {text.substr(0, end - length), i};
    }
    if (best.match) return best;
  }
  return {text, std::nullopt};
}

// What must be held back after all of `text`: its longest end that begins a stop string.
std::string expected_held(const std::string& text, const std::vector<std::string>& stops) {
  for (std::size_t n = text.size(); n > 0; --n) {
    const std::string end = text.substr(text.size() - n);
    for (const std::string& stop : stops) {
      if (stop.size() > n && stop.starts_with(end)) return end;
    }
  }
  return "";
}

TEST(StopStrings, FindsTheFirstStopHoweverTheTextIsCut) {
  const struct {
    std::string text;
    std::vector<std::string> stops;
  } cases[] = {
      {"Hello.\n\nUser: hi", {"\n\n"}},
      {"Hello.\n\nUser: hi", {"\n\nUser:", "\nUser:"}},
      {"a\nb\n\nc", {"\n\n", "\nc"}},
      {"abcabd", {"abd"}},
      {"aaaaab", {"aab", "aaab"}},
      {"xabcx", {"abcd", "b", "bc"}},
      {"xabc", {"c", "bc", "abc"}},
      {"nothing here", {"stop", "<|end|>"}},
      {"stop", {"stop"}},
      {"sto", {"stop", "top"}},
      {"\xe4\xbd\xa0\xe5\xa5\xbd", {"\xe5\xa5\xbd"}},
      {"text", {}},
  };
  for (const auto& c : cases) {
    const Outcome want = expected(c.text, c.stops);
    for (std::size_t i = 0; i <= c.text.size(); ++i) {
      for (std::size_t k = i; k <= c.text.size(); ++k) {
        StopStrings matcher = make(c.stops);
        Outcome got;
        std::string after;
        for (const auto& part : {c.text.substr(0, i), c.text.substr(i, k - i), c.text.substr(k)}) {
          if (got.match) {
            after += part;
            continue;
          }
          const StopStrings::Piece piece = matcher.push(part);
          got.text += piece.text;
          got.match = piece.match;
          after = piece.after;
        }
        if (got.match) {
          ASSERT_EQ(got.text + c.stops[*got.match] + after, c.text);
        }
        got.text += matcher.finish();
        ASSERT_EQ(got, want) << c.text << " at " << i << ", " << k;
      }
    }
  }
}

TEST(StopStrings, HoldsBackExactlyWhatMayBecomeAStop) {
  std::mt19937 random(1);
  const auto word = [&](std::size_t least, std::size_t most) {
    std::string s;
    for (std::size_t n = least + random() % (most - least + 1); n > 0; --n)
      s += static_cast<char>('a' + random() % 2);
    return s;
  };
  int matches = 0;
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::string> stops;
    for (auto n = 1 + random() % 3; n > 0; --n) stops.push_back(word(2, 6));
    StopStrings matcher = make(stops);
    std::string text, shown;
    for (int step = 0; step < 12; ++step) {
      const std::string part = word(0, 3);
      text += part;
      const StopStrings::Piece piece = matcher.push(part);
      shown += piece.text;
      const Outcome want = expected(text, stops);
      ASSERT_EQ(piece.match, want.match) << text;
      if (piece.match) {
        ASSERT_EQ(shown, want.text) << text;
        ++matches;
        break;
      }
      ASSERT_EQ(StopStrings(matcher).finish(), expected_held(text, stops)) << text;
      ASSERT_EQ(shown + StopStrings(matcher).finish(), text);
    }
  }
  EXPECT_GT(matches, 1000);
}

TEST(StopStrings, IsAsNewAfterAMatchOrTheEnd) {
  StopStrings matcher = make({"ab"});
  EXPECT_EQ(matcher.push("xa").text, "x");
  EXPECT_EQ(matcher.finish(), "a");
  EXPECT_EQ(matcher.push("b").text, "b");
  EXPECT_TRUE(matcher.push("ab").match);
  EXPECT_EQ(matcher.push("b").text, "b");
}

TEST(StopStrings, RefusesAnEmptyStop) {
  const auto made = StopStrings::create({"a", ""});
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.error().code, ErrorCode::usage);
}

}  // namespace
}  // namespace fr
