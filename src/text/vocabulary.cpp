#include "text/vocabulary.h"

#include <optional>
#include <utility>

#include "base/msgpack.h"
#include "text/utf8_stream.h"

namespace fr {
namespace {

constexpr std::string_view kDownloadAgain = "the vocabulary is damaged, download it again";

// A decimal number of up to nine digits.
std::optional<std::int64_t> parse_decimal(std::string_view digits) {
  if (digits.empty() || digits.size() > 9) return std::nullopt;
  std::int64_t value = 0;
  for (const char c : digits) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + (c - '0');
  }
  return value;
}

std::optional<std::uint32_t> digit_value(char c, std::uint32_t base) {
  std::uint32_t value = base;
  if (c >= '0' && c <= '9') value = static_cast<std::uint32_t>(c - '0');
  if (c >= 'a' && c <= 'f') value = static_cast<std::uint32_t>(c - 'a' + 10);
  if (c >= 'A' && c <= 'F') value = static_cast<std::uint32_t>(c - 'A' + 10);
  if (value >= base) return std::nullopt;
  return value;
}

// Reads the body of a Python literal (what stands between the quotes) into bytes.
class LiteralBody {
 public:
  LiteralBody(std::string_view body, bool is_bytes, char quote, std::string& out)
      : body_(body), is_bytes_(is_bytes), quote_(quote), out_(out) {}

  // Null, or what is wrong.
  const char* read() {
    while (at_ < body_.size()) {
      const char c = body_[at_++];
      if (c == quote_) return "a quote inside the token";
      if (is_bytes_ && static_cast<unsigned char>(c) >= 0x80) return "a byte above 127 in a b'' token";
      if (c != '\\') {
        out_ += c;
      } else if (const char* problem = escape()) {
        return problem;
      }
    }
    return nullptr;
  }

 private:
  const char* escape() {
    if (at_ == body_.size()) return "an unfinished escape";
    const char c = body_[at_++];
    constexpr std::string_view names = "\\'\"abfnrtv", values = "\\'\"\a\b\f\n\r\t\v";
    if (const std::size_t i = names.find(c); i != std::string_view::npos) {
      out_ += values[i];
      return nullptr;
    }
    if (c >= '0' && c <= '7') {
      --at_;
      return number(8, 1, 3);
    }
    if (c == 'x') return number(16, 2, 2);
    if (c == 'u' && !is_bytes_) return number(16, 4, 4);
    if (c == 'U' && !is_bytes_) return number(16, 8, 8);
    return "an unknown escape";
  }

  const char* number(std::uint32_t base, int min_digits, int max_digits) {
    std::uint32_t value = 0;
    int digits = 0;
    for (; digits < max_digits && at_ < body_.size(); ++digits, ++at_) {
      const auto digit = digit_value(body_[at_], base);
      if (!digit) break;
      value = value * base + *digit;
    }
    if (digits < min_digits) return "an unfinished escape";
    if (is_bytes_) {
      if (value > 0xff) return "an escape above 255 in a b'' token";
      out_ += static_cast<char>(value);
    } else {
      if (value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff)) return "an escape that is no character";
      append_utf8(out_, static_cast<char32_t>(value));
    }
    return nullptr;
  }

  std::string_view body_;
  bool is_bytes_;
  char quote_;
  std::string& out_;
  std::size_t at_ = 0;
};

// Adds the token of one line (without its line end). Null, or what is wrong.
const char* parse_line(std::string_view line, std::int64_t& id, std::string& token, std::int64_t& length) {
  if (line.starts_with('-')) return "a negative token id";
  const std::size_t first = line.find(' '), last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) return "not of the form <id> <token> <length>";
  const auto id_field = parse_decimal(line.substr(0, first)),
             length_field = parse_decimal(line.substr(last + 1));
  if (!id_field) return "no token id at the start";
  if (!length_field) return "no length at the end";
  id = *id_field;
  length = *length_field;

  std::string_view literal = line.substr(first + 1, last - first - 1);
  const bool is_bytes = literal.starts_with('b');
  if (is_bytes) literal.remove_prefix(1);
  if (literal.size() < 2 || (literal[0] != '\'' && literal[0] != '"') || literal.back() != literal[0]) {
    return "a token that is not in quotes";
  }
  const std::string_view body = literal.substr(1, literal.size() - 2);
  if (!is_valid_utf8(body)) return "a token that is not valid UTF-8";
  token.clear();
  return LiteralBody(body, is_bytes, literal[0], token).read();
}

}  // namespace

Status Vocabulary::add(std::int64_t id, std::string_view token) {
  const std::size_t index = entries.size();
  if (index == kMaxTokenId) return error("too many tokens", index, "at most 1048576 are supported");
  if (id < 0) return error("a negative token id", index, kDownloadAgain);
  if (id == 0) return error("token id 0", index, "0 is the end of text and has no bytes, ids start at 1");
  if (id > static_cast<std::int64_t>(kMaxTokenId)) {
    return error("token id " + std::to_string(id) + " is too large", index, "ids end at 1048576");
  }
  if (token.empty()) return error("an empty token", index, kDownloadAgain);
  if (token.size() > kMaxTokenBytes) {
    return error("a token of " + std::to_string(token.size()) + " bytes", index,
                 "at most 65536 are supported");
  }
  bytes += token;
  entries.push_back({static_cast<std::int32_t>(id), static_cast<std::uint32_t>(token.size())});
  return {};
}

Error Vocabulary::error(std::string_view what, std::size_t index, std::string_view advice) const {
  return file_error(std::string(what) + " (" + source + ", " + std::string(unit) + " " +
                    std::to_string(index + 1) + "): " + std::string(advice));
}

Result<Vocabulary> parse_vocabulary_text(std::string_view file, std::string source) {
  Vocabulary vocabulary{std::move(source), "line", {}, {}};
  vocabulary.bytes.reserve(file.size());  // once: growing would take more than the size of the file
  std::string token;
  for (std::size_t at = 0; at < file.size();) {
    std::size_t end = file.find('\n', at);
    if (end == std::string_view::npos) end = file.size();
    std::string_view line = file.substr(at, end - at);
    if (line.ends_with('\r')) line.remove_suffix(1);
    at = end + 1;

    std::int64_t id = 0, length = 0;
    const std::size_t index = vocabulary.entries.size();
    if (const char* problem = parse_line(line, id, token, length)) {
      return vocabulary.error(problem, index, kDownloadAgain);
    }
    if (static_cast<std::size_t>(length) != token.size()) {
      return vocabulary.error(
          "a token of " + std::to_string(token.size()) + " bytes with the length " + std::to_string(length),
          index, kDownloadAgain);
    }
    FR_OK(vocabulary.add(id, token));
  }
  return vocabulary;
}

Result<Vocabulary> parse_vocabulary_msgpack(std::string_view file, std::string source) {
  Vocabulary vocabulary{std::move(source), "entry", {}, {}};
  vocabulary.bytes.reserve(file.size());
  MsgpackCursor reader(file);
  const auto count = reader.map();
  if (!count) return vocabulary.error("no complete msgpack map", 0, kDownloadAgain);
  for (std::uint64_t i = 0; i < *count; ++i) {
    if (reader.next() == MsgpackCursor::Kind::text) {
      return vocabulary.error("a map with text keys, not token ids", i,
                              "tokenizers of other types (ABC, MIDI) are not supported in this form");
    }
    const std::size_t begin = reader.offset();
    const auto id = reader.integer();
    const auto token = id ? reader.text() : std::nullopt;
    if (!token) {
      return vocabulary.error("no complete pair of token id and bytes at byte " + std::to_string(begin) +
                                  " of " + std::to_string(file.size()),
                              i, kDownloadAgain);
    }
    FR_OK(vocabulary.add(*id, *token));
  }
  if (reader.remaining() > 0) {
    return vocabulary.error(std::to_string(reader.remaining()) + " bytes after the last token",
                            vocabulary.entries.size(), kDownloadAgain);
  }
  return vocabulary;
}

}  // namespace fr
