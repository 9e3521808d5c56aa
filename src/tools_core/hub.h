// Models of a Hugging Face hub: their names, downloads, and the cache on disk that all programs share.
// The layout is that of huggingface_hub: models--ORG--NAME/{blobs/ETAG, refs/REVISION,
// snapshots/COMMIT/FILE}, where FILE is a symbolic link to the blob. llama.cpp and Python find the same
// files.
#pragma once
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "base/result.h"

namespace fr {

struct HubName {
  std::string repo;               // "ORG/NAME" or "NAME"
  std::string revision = "main";  // branch, tag or commit
  std::string file;               // path in the repository; empty: the model that it holds
};
// "REPO[@REVISION][:FILE]", without "hf:". Error (usage): no such name can exist.
Result<HubName> parse_hub_name(std::string_view text);

struct HubLimits {
  std::chrono::milliseconds connect{15000};
  std::chrono::milliseconds stall{30000};  // a transfer slower than stall_bytes in this time is given up
  std::uint64_t stall_bytes = 30000;
  int tries = 5;  // in a row that bring nothing new; a dropped download goes on where it was
  std::chrono::milliseconds pause{500};  // before the second try; doubled each time, at most 8 s
  std::uint64_t listing_bytes = 32 << 20;
};

struct HubSettings {
  std::string endpoint;  // "https://huggingface.co", without a slash at the end
  std::string cache;     // the folder that holds models--*
  std::string token;     // sent to the endpoint's own host alone; empty: none
  bool offline = false;  // only what is in the cache
  HubLimits limits;
  Progress progress;  // bytes of one file; step names it. False: stop, the part stays for the next time
};
// From HF_ENDPOINT; HF_HUB_CACHE, else HF_HOME/hub, else XDG_CACHE_HOME/huggingface/hub or
// ~/.cache/huggingface/hub; HF_TOKEN, else the file HF_TOKEN_PATH, else HF_HOME/token; HF_HUB_OFFLINE.
// Error (usage): an endpoint that is no http address, a token that is no token, no folder for the cache.
Result<HubSettings> hub_settings_from_environment();

struct HubFile {
  std::string name;        // path in the repository
  std::uint64_t size = 0;  // bytes; 0: not known
};

// A model in the cache.
struct HubModel {
  std::string path;              // the model file, or the folder that holds config.json and the weights
  std::vector<HubFile> choices;  // path is empty then: the repository holds several models, or none
  std::uint64_t received = 0;    // bytes that were downloaded now
};

// The model in the cache, without the network. Errors (invalid_file): it is not there, or not whole.
Result<HubModel> find_in_cache(const HubName& name, const HubSettings& settings);

// Asks the hub for the newest version and downloads what is missing; a model's own vocabulary
// (<model>.vocab.txt) comes with it. Offline: find_in_cache. Several processes may do this at once.
// Errors: network; invalid_file (size or checksum is wrong: that part is deleted); runtime (disk);
// interrupted (the part is kept). Whatever happens, no file with wrong content gets a name.
// In a build without libcurl: usage.
Result<HubModel> pull(const HubName& name, const HubSettings& settings);

// A model in the cache, as the user names it.
struct LocalModel {
  std::string name;  // to be typed as MODEL: "hf:ORG/NAME:FILE"
  std::string path;
  std::uint64_t size = 0;
  bool broken = false;  // a link to nowhere
};
// All of them, sorted by name. A missing cache is empty.
std::vector<LocalModel> local_models(const std::string& cache);

}  // namespace fr
