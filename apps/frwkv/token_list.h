// Token ids as people give them: "1,2,3" or a JSON array.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fr::app {

// Throws faster_rwkv::Error (usage), which names what is wrong and its position.
std::vector<std::int32_t> parse_token_list(std::string_view text);
// A JSON array of whole numbers; name: the file, for messages. Throws faster_rwkv::Error (file).
std::vector<std::int32_t> parse_token_json(std::string_view text, const std::string& name);

}  // namespace fr::app
