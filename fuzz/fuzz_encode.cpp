// Any bytes as text: the built-in tokenizers give it back, 20B in NFC.
#include <string_view>

#include "text/tokenizer.h"
#include "text/unicode.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto world = fr::builtin_world_tokenizer();
  FR_CHECK(world->decode(*world->encode(text)) == text);

  const std::string normal = fr::nfc(text);
  FR_CHECK(fr::nfc(normal) == normal);
  static const auto bpe = fr::builtin_20b_tokenizer();
  const auto ids = bpe->encode(text);
  const bool has_token_without_nfc = text.find("<|") != std::string_view::npos;  // nothing composes across it
  if (ids && !has_token_without_nfc) FR_CHECK(bpe->decode(*ids) == normal);
  const bool has_lost_byte =
      text.find_first_of("\xc0\xc1\xf5\xf6\xf7\xf8\xf9\xfa\xfb\xfc\xfd\xfe\xff") < size;
  FR_CHECK(ids.ok() != has_lost_byte);
  return 0;
}
