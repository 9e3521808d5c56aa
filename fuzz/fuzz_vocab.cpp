// Any bytes as a vocabulary, text or msgpack: an error, or a tokenizer whose tokens come back. (JSON has a
// fuzzer of its own: its tokenizers need not give every token back.)
#include <string_view>

#include "text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view file(reinterpret_cast<const char*>(data), size);
  const std::size_t begin = file.find_first_not_of(" \t\r\n");
  if (begin != std::string_view::npos && file[begin] == '{') return 0;
  const auto made = fr::read_tokenizer(file, "fuzz");
  if (!made) {
    const fr::Error& error = made.error();
    FR_CHECK(error.code == fr::ErrorCode::invalid_file && error.message.find("(fuzz") != std::string::npos);
    return 0;
  }
  const fr::Tokenizer& tokenizer = **made;
  for (std::size_t i = 0; i < tokenizer.vocab_size(); ++i) {
    const auto id = static_cast<std::int32_t>(i);
    const std::string_view token = tokenizer.token_bytes(id);
    if (!token.empty()) FR_CHECK(*tokenizer.encode(token) == std::vector<std::int32_t>{id});
  }
  if (const auto ids = tokenizer.encode(file)) FR_CHECK(tokenizer.decode(*ids) == file);
  return 0;
}
