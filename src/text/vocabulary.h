// A World-style vocabulary as read from a file: the tokens and their ids, checked one by one.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace fr {

inline constexpr std::size_t kMaxTokenId = std::size_t{1} << 20;
inline constexpr std::size_t kMaxTokenBytes = std::size_t{1} << 16;
inline constexpr std::size_t kMaxVocabularyFile = std::size_t{1} << 28;

struct Vocabulary {
  struct Entry {
    std::int32_t id;
    std::uint32_t length;  // in bytes
  };
  std::string source;          // path, for messages
  std::string_view unit;       // what entries[i] is called in messages: "line" or "entry", counted from 1
  std::string bytes;           // all tokens one after the other, in file order
  std::vector<Entry> entries;  // in file order; lengths sum to bytes.size()

  // Appends the next entry. Error: id out of 1..kMaxTokenId, empty or too long token, too many entries.
  Status add(std::int64_t id, std::string_view token);
  // The file error "<what> (<source>, line <index + 1>): <advice>".
  Error error(std::string_view what, std::size_t index, std::string_view advice) const;
};

// The official text form, one token a line: `<id> <Python repr of a str or bytes> <length in bytes>`.
// Lines may end in \n or \r\n. Str literals stand for their UTF-8 bytes.
Result<Vocabulary> parse_vocabulary_text(std::string_view file, std::string source);

// msgpack of the first faster-rwkv: one map id -> bin (str is read too).
Result<Vocabulary> parse_vocabulary_msgpack(std::string_view file, std::string source);

}  // namespace fr
