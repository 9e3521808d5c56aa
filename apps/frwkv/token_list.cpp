#include "token_list.h"

#include <charconv>
#include <nlohmann/json.hpp>

#include "common/words.h"
#include "faster_rwkv/fr.hpp"

namespace fr::app {

using faster_rwkv::Error;

std::vector<std::int32_t> parse_token_list(std::string_view text) {
  std::vector<std::int32_t> ids;
  if (trim(text).empty()) return ids;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find(',', at), text.size());
    const std::string_view word = trim(text.substr(at, end - at));
    std::int32_t id = 0;
    const auto [stop, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    if (error != std::errc{} || stop != word.data() + word.size()) {
      throw Error(FR_ERROR_USAGE,
                  "'" + std::string(word) + "' at position " + std::to_string(ids.size()) +
                      " is not a token id (--tokens): give whole numbers with commas between them");
    }
    ids.push_back(id);
    at = end + 1;
  }
  return ids;
}

std::vector<std::int32_t> parse_token_json(std::string_view text, const std::string& name) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  const std::string wanted = " (" + name + "): give an array of token ids like [1, 2, 3]";
  if (json.is_discarded()) throw Error(FR_ERROR_FILE, "the tokens are not JSON" + wanted);
  if (!json.is_array()) throw Error(FR_ERROR_FILE, "the tokens are JSON, but not an array" + wanted);
  std::vector<std::int32_t> ids;
  ids.reserve(json.size());
  for (const auto& item : json) {
    const bool fits =
        item.is_number_integer() && (item.is_number_unsigned() ? item.get<std::uint64_t>() <= INT32_MAX
                                                               : item.get<std::int64_t>() >= INT32_MIN);
    if (!fits) {
      throw Error(FR_ERROR_USAGE,
                  "the item at position " + std::to_string(ids.size()) + " is not a token id" + wanted);
    }
    ids.push_back(item.get<std::int32_t>());
  }
  return ids;
}

}  // namespace fr::app
