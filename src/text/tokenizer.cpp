#include "text/tokenizer.h"

#include <utility>

#include "base/mmap.h"
#include "text/builtin_vocabulary.h"
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
      return file_error("tokenizers in JSON form are not supported yet (" + source +
                        "): give a World vocabulary");
    case Form::unknown:
      break;
  }
  return file_error("not a vocabulary (" + source + "): give a tokenizer_model or a World vocabulary .txt");
}

Result<std::shared_ptr<const Tokenizer>> load_tokenizer(const std::string& path) {
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

}  // namespace fr
