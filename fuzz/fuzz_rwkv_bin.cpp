// Any bytes as an rwkv.cpp file: an error, or views inside the bytes.
#include "check_checkpoint.h"
#include "formats/rwkv_bin.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span bytes(reinterpret_cast<const std::byte*>(data), size);
  fr::fuzz::check_checkpoint(fr::parse_rwkv_bin(bytes, "fuzz"), bytes);
  return 0;
}
