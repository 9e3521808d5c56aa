// Any bytes as a .pth file: an error, or views inside the bytes.
#include "check_checkpoint.h"
#include "formats/pth.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span bytes(reinterpret_cast<const std::byte*>(data), size);
  fr::fuzz::check_checkpoint(fr::parse_pth(bytes, "fuzz"), bytes);
  (void)fr::verify_pth(bytes, "fuzz").ok();
  return 0;
}
