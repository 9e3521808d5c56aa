// Any bytes as a GGUF file: an error, or views inside the bytes, before and after the names are made
// official.
#include "check_checkpoint.h"
#include "formats/gguf.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span bytes(reinterpret_cast<const std::byte*>(data), size);
  fr::fuzz::check_checkpoint(fr::parse_gguf(bytes, "fuzz"), bytes);
  return 0;
}
