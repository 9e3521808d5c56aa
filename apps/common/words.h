// Small text helpers of the programs.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace fr::app {

std::string_view trim(std::string_view text);  // spaces, tabs, newlines at both ends
std::string lower(std::string_view text);      // ASCII letters
std::string unescape(std::string_view text);   // \n, \t, \\ become what they mean; others stay

// The candidate that a misspelled word probably means; empty when none is close (Levenshtein distance, at
// most a third of the word, but 2 are always close and in short words 1). A candidate that begins with the
// word counts as close.
std::string_view closest(std::string_view word, std::span<const std::string_view> candidates);

std::string count(double n);         // 9123456 -> "9.1M"
std::string bytes(std::uint64_t n);  // 1503238553 -> "1.4 GiB"

}  // namespace fr::app
