// Any bytes as a tokenizer.json: an error, or a tokenizer that encodes the file itself and gives valid ids.
#include <string_view>

#include "text/tokenizer.h"
#include "text/tokenizer_json.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view file(reinterpret_cast<const char*>(data), size);
  const auto made = fr::read_tokenizer_json(file, "fuzz");
  if (!made) {
    const fr::Error& error = made.error();
    FR_CHECK(error.code == fr::ErrorCode::invalid_file && error.message.find("(fuzz)") != std::string::npos);
    return 0;
  }
  const fr::Tokenizer& tokenizer = **made;
  const auto ids = tokenizer.encode(file);
  if (!ids) return 0;
  for (const std::int32_t id : *ids) FR_CHECK(!tokenizer.token_bytes(id).empty());
  tokenizer.decode(*ids);
  return 0;
}
