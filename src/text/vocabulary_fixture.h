// For tests: vocabularies made by rule, written in both file forms.
#pragma once
#include <cstdint>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "text/utf8_stream.h"

namespace fr {

using TokenList = std::vector<std::pair<std::int32_t, std::string>>;  // id, bytes

// `count` different tokens with the ids 1..count: the 256 single bytes, then random ones of 2 to 7 bytes.
inline TokenList make_tokens(std::size_t count, std::uint32_t seed) {
  std::mt19937 random(seed);
  TokenList tokens;
  std::set<std::string> seen;
  while (tokens.size() < count) {
    std::string token;
    if (tokens.size() < 256) {
      token = std::string(1, static_cast<char>(tokens.size()));
    } else {
      for (auto n = 2 + random() % 6; n > 0; --n) {
        token += static_cast<char>(random() % 8 ? "etaoin \n\"'\\"[random() % 11]
                                                : static_cast<char>(random() % 256));
      }
    }
    if (seen.insert(token).second) tokens.emplace_back(static_cast<std::int32_t>(tokens.size()) + 1, token);
  }
  return tokens;
}

// Like Python's repr, of a str where the bytes are UTF-8 and of bytes elsewhere.
inline std::string literal(const std::string& token) {
  const bool is_text = is_valid_utf8(token);
  const char quote =
      token.find('\'') != std::string::npos && token.find('"') == std::string::npos ? '"' : '\'';
  std::string out = is_text ? "" : "b";
  out += quote;
  for (const char c : token) {
    constexpr char hex[] = "0123456789abcdef";
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\n') {
      out += "\\n";
    } else if (c == quote || c == '\\') {
      out += {'\\', c};
    } else if (byte < 0x20 || byte == 0x7f || (!is_text && byte >= 0x80)) {
      out += {'\\', 'x', hex[byte >> 4], hex[byte & 15]};
    } else {
      out += c;
    }
  }
  return out + quote;
}

inline std::string text_form(const TokenList& tokens, std::string_view line_end = "\n") {
  std::string file;
  for (const auto& [id, token] : tokens) {
    file += std::to_string(id) + " " + literal(token) + " " + std::to_string(token.size()) +
            std::string(line_end);
  }
  return file;
}

inline void put_big_endian(std::string& file, std::uint64_t value, int bytes) {
  for (int i = bytes - 1; i >= 0; --i) file += static_cast<char>(value >> (8 * i));
}

inline std::string msgpack_form(const TokenList& tokens) {
  std::string file;
  file += '\xdf';
  put_big_endian(file, tokens.size(), 4);
  for (const auto& [id, token] : tokens) {
    if (id < 0x80) {
      put_big_endian(file, static_cast<std::uint64_t>(id), 1);
    } else {
      file += '\xce';
      put_big_endian(file, static_cast<std::uint64_t>(id), 4);
    }
    const int bytes = token.size() < 0x100 ? 1 : 4;
    file += bytes == 1 ? '\xc4' : '\xc6';
    put_big_endian(file, token.size(), bytes);
    file += token;
  }
  return file;
}

}  // namespace fr
