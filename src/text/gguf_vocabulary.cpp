#include "text/gguf_vocabulary.h"

#include <optional>
#include <utility>

#include "text/vocabulary.h"
#include "text/world_tokenizer.h"

namespace fr {
namespace {

constexpr std::int32_t kNormal = 1, kControl = 3, kUnused = 5;

std::string padding(std::size_t id) { return "[PAD" + std::to_string(id) + "]"; }

std::optional<unsigned> hex_digit(char c) {
  if (c >= '0' && c <= '9') return static_cast<unsigned>(c - '0');
  if (c >= 'a' && c <= 'f') return static_cast<unsigned>(c - 'a' + 10);
  if (c >= 'A' && c <= 'F') return static_cast<unsigned>(c - 'A' + 10);
  return std::nullopt;
}

// Undoes python_bytes. Other characters after a backslash stand for themselves, as in llama.cpp. Nothing: an
// unfinished escape.
std::optional<std::string> unescape(std::string_view text) {
  std::string bytes;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      bytes += text[i];
      continue;
    }
    if (++i == text.size()) return std::nullopt;
    switch (text[i]) {
      case 't':
        bytes += '\t';
        break;
      case 'n':
        bytes += '\n';
        break;
      case 'r':
        bytes += '\r';
        break;
      case 'x': {
        if (i + 2 >= text.size()) return std::nullopt;
        const auto high = hex_digit(text[i + 1]), low = hex_digit(text[i + 2]);
        if (!high || !low) return std::nullopt;
        bytes += static_cast<char>(*high << 4 | *low);
        i += 2;
        break;
      }
      default:
        bytes += text[i];
    }
  }
  return bytes;
}

// What Python's repr() writes between the quotes of a bytes object: double quotes only where they save
// escapes.
std::string python_bytes(std::string_view bytes) {
  constexpr char hex[] = "0123456789abcdef";
  const bool double_quotes =
      bytes.find('\'') != std::string_view::npos && bytes.find('"') == std::string_view::npos;
  std::string text;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\t') {
      text += "\\t";
    } else if (c == '\n') {
      text += "\\n";
    } else if (c == '\r') {
      text += "\\r";
    } else if (c == '\\' || (c == '\'' && !double_quotes)) {
      text += {'\\', c};
    } else if (byte < 0x20 || byte >= 0x7f) {
      text += {'\\', 'x', hex[byte >> 4], hex[byte & 15]};
    } else {
      text += c;
    }
  }
  return text;
}

}  // namespace

Result<std::shared_ptr<const Tokenizer>> tokenizer_from_gguf(std::string_view model,
                                                             std::span<const std::string_view> tokens,
                                                             std::string source) {
  if (model != "rwkv") {
    return file_error("a vocabulary of the kind \"" + std::string(model.substr(0, 40)) + "\" (" + source +
                      "): give the model's own with --vocab");
  }
  Vocabulary vocabulary{std::move(source), "token", {}, {}};
  for (std::size_t id = 1; id < tokens.size(); ++id) {
    if (tokens[id] == padding(id)) continue;
    const auto bytes = unescape(tokens[id]);
    if (!bytes)
      return vocabulary.error("an unfinished escape", id - 1, "the file is damaged, download it again");
    FR_OK(vocabulary.add(static_cast<std::int64_t>(id), *bytes));
  }
  FR_TRY(std::shared_ptr<const Tokenizer> tokenizer, WorldTokenizer::create(std::move(vocabulary)));
  return tokenizer;
}

GgufTokens gguf_tokens(const Tokenizer& world, std::size_t n_vocab) {
  GgufTokens made{{"<s>"}, {kControl}};
  for (std::size_t i = 1; i < n_vocab; ++i) {
    const std::string_view bytes = world.token_bytes(static_cast<std::int32_t>(i));
    made.tokens.push_back(bytes.empty() ? padding(i) : python_bytes(bytes));
    made.types.push_back(bytes.empty() ? kUnused : kNormal);
  }
  return made;
}

}  // namespace fr
