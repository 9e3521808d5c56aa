#include "text/tokenizer_json.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>

#include "text/bpe_tokenizer.h"
#include "text/byte_level.h"
#include "text/unicode.h"
#include "text/utf8_stream.h"
#include "text/vocabulary.h"
#include "text/word_tokenizer.h"

namespace fr {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kMaxDepth = 64;

// What must be known before the parser may see a text: it builds whatever the text holds.
const char* refusal(std::string_view text) {
  if (text.size() > kMaxJsonFile) return "JSON of more than 64 MB";
  bool in_string = false;
  std::size_t depth = 0, values = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      in_string = c != '"';
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kMaxDepth) return "JSON that is nested more than 64 levels deep";
      ++values;
    } else if (c == ']' || c == '}') {
      if (depth > 0) --depth;
    } else if (c == ',' || c == ':') {
      ++values;
    }
    if (values > kMaxJsonValues) return "JSON of more than 4194304 values";
  }
  return nullptr;
}

// A member, or null when there is none (or `object` is none itself).
const Json& member(const Json& object, const char* name) {
  static const Json null;
  if (!object.is_object()) return null;
  const auto found = object.find(name);
  return found == object.end() ? null : *found;
}

// The text of a member, "" when it is absent or null.
std::string text_of(const Json& object, const char* name) {
  const Json& value = member(object, name);
  return value.is_string() ? value.get<std::string>() : std::string();
}
bool is_true(const Json& object, const char* name) {
  const Json& value = member(object, name);
  return value.is_boolean() && value.get<bool>();
}

std::string in_quotes(std::string_view text) {
  std::string shown;
  for (const char c : text.substr(0, 40)) shown += static_cast<unsigned char>(c) < 0x20 ? '?' : c;
  return '"' + (is_valid_utf8(shown) ? shown : std::string("?")) + '"';
}

std::optional<std::int32_t> token_id(const Json& value) {
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > kMaxTokenId) return std::nullopt;
  return value.get<std::int32_t>();
}

class Reader {
 public:
  Reader(const Json& root, std::string source)
      : root_(root), model_(member(root, "model")), source_(std::move(source)) {}

  Result<std::shared_ptr<const Tokenizer>> read() {
    if (!model_.is_object()) return fault("JSON without the \"model\" of a tokenizer");
    const std::string type = text_of(model_, "type");
    if (type == "BPE") return read_bpe();
    if (type == "WordLevel") return read_words();
    return fault("a tokenizer of the kind " + in_quotes(type));
  }

 private:
  Error fault(const std::string& what) const {
    return file_error(what + " (" + source_ +
                      "): give a World vocabulary, or a tokenizer.json of the kind of 20B_tokenizer.json or "
                      "tokenizer-midi.json");
  }

  // The kind of a part like "normalizer", which may be absent: "" then.
  Status check_part(const char* part, const std::set<std::string>& supported) const {
    const std::string type = text_of(member(root_, part), "type");
    if (type.empty() ? member(root_, part).is_null() && supported.contains("") : supported.contains(type))
      return {};
    return fault("a tokenizer with the " + std::string(part) + " " + in_quotes(type));
  }
  Status refuse_options(const Json& object, std::initializer_list<const char*> names) const {
    for (const char* name : names) {
      const Json& value = member(object, name);
      const bool is_off = value.is_null() || value == Json(false) || value == Json("");
      if (!is_off) return fault("a tokenizer with the option " + in_quotes(name));
    }
    return {};
  }

  // model.vocab, an object text -> id, into tokens_ (by id) and ids_ (by text as in the file).
  Status read_vocabulary(bool byte_level) {
    const Json& vocabulary = member(model_, "vocab");
    if (!vocabulary.is_object() || vocabulary.empty()) return fault("a tokenizer without tokens");
    FR_OK(read_added_texts());
    for (const auto& [text, value] : vocabulary.items()) {
      const auto id = token_id(value);
      if (!id) return fault("the token " + in_quotes(text) + " with an id that is not in 0..1048576");
      std::optional<std::string> bytes = text;
      if (byte_level && !added_texts_.contains(text)) bytes = from_byte_level(text);
      if (!bytes)
        return fault("the token " + in_quotes(text) + ", which is not written in byte-level characters");
      if (bytes->empty()) return fault("an empty token");
      FR_OK(add_token(*id, *bytes));
      ids_.emplace(text, *id);
    }
    return {};
  }
  Status add_token(std::int32_t id, const std::string& bytes) {
    const auto index = static_cast<std::size_t>(id);
    if (bytes.size() > kMaxTokenBytes) return fault("a token of more than 65536 bytes");
    if (index >= tokens_.size()) tokens_.resize(index + 1);
    if (!tokens_[index].empty() && tokens_[index] != bytes)
      return fault("token id " + std::to_string(id) + " for the second time");
    tokens_[index] = bytes;
    return {};
  }

  Status read_added_texts() {
    const Json& list = member(root_, "added_tokens");
    if (!list.is_array() && !list.is_null()) return fault("\"added_tokens\" that are no array");
    for (const Json& entry : list) {
      if (!member(entry, "content").is_string()) return fault("an added token without its content");
      added_texts_.insert(text_of(entry, "content"));
    }
    return {};
  }
  Result<std::vector<AddedToken>> read_added(std::string (*normalize)(std::string_view)) {
    std::vector<AddedToken> added;
    for (const Json& entry : member(root_, "added_tokens")) {
      const auto id = token_id(member(entry, "id"));
      AddedToken token{0, text_of(entry, "content"), is_true(entry, "normalized")};
      if (!id)
        return fault("the added token " + in_quotes(token.text) + " with an id that is not in 0..1048576");
      FR_OK(refuse_options(entry, {"single_word", "lstrip", "rstrip"}));
      token.id = *id;
      FR_OK(add_token(*id, token.text));
      if (token.normalized && normalize != nullptr) token.text = normalize(token.text);
      added.push_back(std::move(token));
    }
    return added;
  }

  // "left right", or ["left", "right"] in newer files.
  Result<BpeVocabulary::Merge> read_merge(const Json& entry, std::size_t index) const {
    std::string left, right;
    if (entry.is_string()) {
      const std::string text = entry.get<std::string>();
      const std::size_t space = text.find(' ');
      if (space != std::string::npos) {
        left = text.substr(0, space);
        right = text.substr(space + 1);
      }
    } else if (entry.is_array() && entry.size() == 2 && entry[0].is_string() && entry[1].is_string()) {
      left = entry[0].get<std::string>();
      right = entry[1].get<std::string>();
    }
    const auto a = ids_.find(left), b = ids_.find(right), both = ids_.find(left + right);
    if (a == ids_.end() || b == ids_.end() || both == ids_.end())
      return fault("merge " + std::to_string(index + 1) + ", whose parts or result are no tokens");
    return BpeVocabulary::Merge{a->second, b->second, both->second};
  }

  Result<std::shared_ptr<const Tokenizer>> read_bpe() {
    FR_OK(check_part("normalizer", {"", "NFC"}));
    FR_OK(check_part("pre_tokenizer", {"ByteLevel"}));
    const Json& pre_tokenizer = member(root_, "pre_tokenizer");
    FR_OK(refuse_options(pre_tokenizer, {"add_prefix_space"}));
    if (member(pre_tokenizer, "use_regex") == Json(false)) return fault("a tokenizer that cuts no words");
    FR_OK(refuse_options(model_, {"dropout", "continuing_subword_prefix", "end_of_word_suffix",
                                  "byte_fallback", "ignore_merges"}));
    FR_OK(read_vocabulary(true));
    BpeVocabulary vocabulary;
    vocabulary.nfc = !member(root_, "normalizer").is_null();
    FR_TRY(vocabulary.added, read_added(vocabulary.nfc ? nfc : nullptr));
    const Json& merges = member(model_, "merges");
    if (!merges.is_array()) return fault("a BPE tokenizer without merges");
    vocabulary.merges.reserve(merges.size());
    for (std::size_t i = 0; i < merges.size(); ++i) {
      FR_TRY(const BpeVocabulary::Merge merge, read_merge(merges[i], i));
      vocabulary.merges.push_back(merge);
    }
    vocabulary.source = std::move(source_);
    vocabulary.tokens = std::move(tokens_);
    FR_TRY(std::shared_ptr<const Tokenizer> tokenizer, BpeTokenizer::create(std::move(vocabulary)));
    return tokenizer;
  }

  Result<std::shared_ptr<const Tokenizer>> read_words() {
    FR_OK(check_part("normalizer", {"", "Lowercase"}));
    FR_OK(check_part("pre_tokenizer", {"WhitespaceSplit"}));
    FR_OK(read_vocabulary(false));
    WordVocabulary vocabulary;
    vocabulary.lower_case = !member(root_, "normalizer").is_null();
    FR_TRY(vocabulary.added, read_added(vocabulary.lower_case ? to_lower : nullptr));
    const std::string unknown = text_of(model_, "unk_token");
    const auto found = ids_.find(unknown);
    if (found == ids_.end()) return fault("a tokenizer without a token for unknown words");
    vocabulary.unknown = found->second;
    vocabulary.source = std::move(source_);
    vocabulary.words = std::move(tokens_);
    FR_TRY(std::shared_ptr<const Tokenizer> tokenizer, WordTokenizer::create(std::move(vocabulary)));
    return tokenizer;
  }

  const Json& root_;
  const Json& model_;
  std::string source_;
  std::vector<std::string> tokens_;  // by id
  std::unordered_map<std::string, std::int32_t> ids_;
  std::set<std::string> added_texts_;
};

}  // namespace

Result<std::shared_ptr<const Tokenizer>> read_tokenizer_json(std::string_view file, std::string source) {
  if (const char* what = refusal(file))
    return file_error(std::string(what) + " (" + source + "): give a tokenizer.json");
  try {
    const Json root = Json::parse(file.begin(), file.end(), nullptr, /*allow_exceptions=*/false);
    if (root.is_discarded()) return file_error("not valid JSON (" + source + "): download the file again");
    return Reader(root, std::move(source)).read();
  } catch (const nlohmann::json::exception& error) {
    return file_error("JSON that cannot be read (" + source + "): " + error.what());
  }
}

}  // namespace fr
