// Any bytes as a .fr file or a state of faster-rwkv: an error, or views inside the bytes.
#include "check_checkpoint.h"
#include "formats/fr_msgpack.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span bytes(reinterpret_cast<const std::byte*>(data), size);
  (void)fr::looks_like_fr(bytes);
  fr::fuzz::check_checkpoint(fr::parse_fr(bytes, "fuzz"), bytes);
  return 0;
}
