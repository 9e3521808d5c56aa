// pull in a build without libcurl (FR_ENABLE_PULL=OFF): the cache is read, nothing is downloaded.
#include "tools_core/hub.h"

namespace fr {

Result<HubModel> pull(const HubName& name, const HubSettings& settings) {
  if (settings.offline) return find_in_cache(name, settings);
  return usage_error(
      "this build cannot download (" + name.repo +
      "): build with -DFR_ENABLE_PULL=ON and libcurl4-openssl-dev, or fetch the file with another program");
}

}  // namespace fr
