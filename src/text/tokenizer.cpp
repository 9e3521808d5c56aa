#include "text/tokenizer.h"

#include <array>
#include <filesystem>
#include <unordered_map>
#include <utility>

#include "base/mmap.h"
#include "text/abc_tokenizer.h"
#include "text/bpe_tokenizer.h"
#include "text/builtin_vocabulary.h"
#include "text/byte_level.h"
#include "text/tokenizer_json.h"
#include "text/unicode.h"
#include "text/utf8_stream.h"
#include "text/vocabulary.h"
#include "text/world_tokenizer.h"

namespace fr {
namespace {

enum class Form { msgpack, text, json, unknown };

Form form_of(std::string_view file) {
  const auto first = static_cast<unsigned char>(file.empty() ? 0 : file.front());
  if ((first & 0xf0) == 0x80 || first == 0xde || first == 0xdf) return Form::msgpack;
  if ((first >= '0' && first <= '9') || first == '-') return Form::text;
  const std::size_t at = file.find_first_not_of(" \t\r\n");
  return at != std::string_view::npos && file[at] == '{' ? Form::json : Form::unknown;
}

Result<std::shared_ptr<const Tokenizer>> make_world_tokenizer(Vocabulary vocabulary) {
  FR_TRY(std::shared_ptr<const Tokenizer> tokenizer, WorldTokenizer::create(std::move(vocabulary)));
  return tokenizer;
}

// The parts of the 20B vocabulary that follow from its merges: tools/make_20b_merges.py says how.
BpeVocabulary vocabulary_of_20b() {
  BpeVocabulary made;
  made.source = "20B (built in)";
  made.nfc = true;
  std::unordered_map<std::string_view, std::int32_t> ids;  // in byte-level characters
  const auto add = [&made](std::string bytes) {
    made.tokens.push_back(std::move(bytes));
    return static_cast<std::int32_t>(made.tokens.size()) - 1;
  };
  const auto add_special = [&](const std::string& text, bool normalized) {
    made.added.push_back({add(text), text, normalized});
  };
  add_special("<|endoftext|>", false);
  add_special("<|padding|>", false);
  std::array<std::string, 0x144> byte_level;
  for (char32_t c = 0; c < byte_level.size(); ++c) {
    append_utf8(byte_level[c], c);
    const auto bytes = from_byte_level(byte_level[c]);
    const auto byte = static_cast<unsigned char>(bytes ? (*bytes)[0] : '\xff');
    if (byte != 0xc0 && byte != 0xc1 && byte < 0xf5)
      ids[byte_level[c]] = add(*bytes);  // those that UTF-8 has
  }
  std::string_view file = builtin_20b_merges();
  std::vector<std::string> keys;  // keeps what `ids` points to: reserved, so that nothing moves
  keys.reserve(file.size() / 4);
  file.remove_prefix(file.find('\n') + 1);
  while (!file.empty()) {
    const std::size_t space = file.find(' '), end = file.find('\n');
    const std::string_view left = file.substr(0, space), right = file.substr(space + 1, end - space - 1);
    const std::string& key = keys.emplace_back(std::string(left).append(right));
    const std::int32_t id = add(*from_byte_level(key));
    made.merges.push_back({ids.at(left), ids.at(right), id});
    ids[key] = id;
    file.remove_prefix(end + 1);
  }
  for (std::size_t n = 24; n >= 2; --n) add_special(std::string(n, ' '), true);
  return made;
}

// Null for what is no name.
std::shared_ptr<const Tokenizer> builtin_tokenizer(std::string_view name) {
  if (name == "world") return builtin_world_tokenizer();
  if (name == "20b") return builtin_20b_tokenizer();
  return name == "abc" ? builtin_abc_tokenizer() : nullptr;
}

}  // namespace

std::string Tokenizer::decode(std::span<const std::int32_t> ids) const {
  std::string text;
  for (const std::int32_t id : ids) text += token_bytes(id);
  return text;
}

Result<std::shared_ptr<const Tokenizer>> read_tokenizer(std::string_view file, std::string source) {
  if (file.size() > kMaxVocabularyFile) {
    return file_error("too large for a vocabulary (" + source + "): give the vocabulary, not the model");
  }
  switch (form_of(file)) {
    case Form::msgpack: {
      FR_TRY(Vocabulary vocabulary, parse_vocabulary_msgpack(file, std::move(source)));
      return make_world_tokenizer(std::move(vocabulary));
    }
    case Form::text: {
      FR_TRY(Vocabulary vocabulary, parse_vocabulary_text(file, std::move(source)));
      return make_world_tokenizer(std::move(vocabulary));
    }
    case Form::json:
      if (!have_unicode_tables()) {
        return file_error("a tokenizer.json needs Unicode tables, which this build does not have (" + source +
                          "): use a World vocabulary, or build with FR_ENABLE_UNICODE=ON");
      }
      return read_tokenizer_json(file, std::move(source));
    case Form::unknown:
      break;
  }
  return file_error("not a vocabulary (" + source +
                    "): give a tokenizer_model, a World vocabulary .txt or a tokenizer.json");
}

Result<std::shared_ptr<const Tokenizer>> load_tokenizer(const std::string& path) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    if (auto named = builtin_tokenizer(path)) return named;
  }
  if (!std::filesystem::exists(path, ignored) && path.find_first_of("./") == path.npos) {
    return file_error("no vocabulary has this name (" + path + "): give a file, or world, 20b or abc");
  }
  FR_TRY(const auto file, MappedFile::open(path));
  const auto bytes = file->bytes();
  return read_tokenizer({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path);
}

std::shared_ptr<const Tokenizer> builtin_world_tokenizer() {
  static const std::shared_ptr<const Tokenizer> tokenizer = [] {
    auto world = read_tokenizer(builtin_vocabulary(), "World (built in)");
    FR_CHECK(world.ok());
    return *world;
  }();
  return tokenizer;
}

std::shared_ptr<const Tokenizer> builtin_20b_tokenizer() {
  if (!have_unicode_tables()) return nullptr;
  static const std::shared_ptr<const Tokenizer> tokenizer = [] {
    auto made = BpeTokenizer::create(vocabulary_of_20b());
    FR_CHECK(made.ok());
    return *made;
  }();
  return tokenizer;
}

std::shared_ptr<const Tokenizer> builtin_abc_tokenizer(std::size_t n_vocab) {
  return std::make_shared<AbcTokenizer>(n_vocab);
}

}  // namespace fr
