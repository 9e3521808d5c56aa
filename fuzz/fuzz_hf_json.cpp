// Any bytes as the index of shards and as the config.json of a Hugging Face directory: an error, or plain
// file names.
#include <cstdint>

#include "formats/hf_directory.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view json(reinterpret_cast<const char*>(data), size);
  const auto files = fr::read_shard_index(json, "fuzz");
  if (files) {
    for (const auto& [tensor, file] : *files) {
      FR_CHECK(!file.empty() && file != ".." && file.find_first_of("/\\") == file.npos);
    }
  } else {
    FR_CHECK(files.error().message.find("(fuzz): ") != std::string::npos);
  }
  const auto config = fr::read_model_config(json, "fuzz");
  FR_CHECK(config || config.error().message.find("(fuzz): ") != std::string::npos);
  return 0;
}
