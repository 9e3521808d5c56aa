// For tests: tokenizer.json files made by rule.
#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "text/byte_level.h"
#include "text/utf8_stream.h"

namespace fr {

using MergeList = std::vector<std::pair<std::string, std::string>>;  // in byte-level characters

inline std::string byte_level(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) append_utf8(text, byte_level_char(static_cast<unsigned char>(c)));
  return text;
}

// Like 20B_tokenizer.json: ids 0..255 are the bytes, then come the results of the merges, then "<|end|>"
// (found in the text as given) and two spaces (found in the normalized text).
inline nlohmann::json bpe_json(const MergeList& merges) {
  nlohmann::json vocabulary, list = nlohmann::json::array(), added = nlohmann::json::array();
  std::int32_t next = 0;
  for (; next < 256; ++next) vocabulary[byte_level(std::string(1, static_cast<char>(next)))] = next;
  for (const auto& [left, right] : merges) {
    list.push_back(left + " " + right);
    if (!vocabulary.contains(left + right)) vocabulary[left + right] = next++;
  }
  for (const auto& [text, normalized] : {std::pair{"<|end|>", false}, std::pair{"  ", true}})
    added.push_back({{"id", next++}, {"content", text}, {"normalized", normalized}, {"lstrip", false}});
  return {{"version", "1.0"},
          {"added_tokens", added},
          {"normalizer", {{"type", "NFC"}}},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
          {"model", {{"type", "BPE"}, {"dropout", nullptr}, {"vocab", vocabulary}, {"merges", list}}}};
}

// `count` different merges of ASCII letters, spaces and two bytes that are no ASCII.
inline MergeList random_merges(std::size_t count, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::string> tokens;
  for (const char c : std::string("abcde \xc3\xa9")) tokens.push_back(byte_level(std::string(1, c)));
  MergeList merges;
  std::set<std::pair<std::string, std::string>> seen;
  while (merges.size() < count) {
    const std::pair pair{tokens[random() % tokens.size()], tokens[random() % tokens.size()]};
    if (pair.first.size() + pair.second.size() > 12 || !seen.insert(pair).second) continue;
    merges.push_back(pair);
    tokens.push_back(pair.first + pair.second);
  }
  return merges;
}

// Like tokenizer-midi.json.
inline nlohmann::json words_json() {
  return {{"added_tokens",
           {{{"id", 0}, {"content", "<pad>"}, {"normalized", false}, {"special", true}},
            {{"id", 1}, {"content", "<start>"}, {"normalized", false}, {"special", true}}}},
          {"normalizer", {{"type", "Lowercase"}}},
          {"pre_tokenizer", {{"type", "WhitespaceSplit"}}},
          {"post_processor", nullptr},
          {"model",
           {{"type", "WordLevel"},
            {"vocab", {{"<pad>", 0}, {"<start>", 1}, {"t1", 2}, {"pi:3f:a", 3}, {"\xc3\xa9t\xc3\xa9", 5}}},
            {"unk_token", "<pad>"}}}};
}

}  // namespace fr
