#include "core/draw.h"

#include <string>

namespace fr {

Error draw_error(const DrawResult& result) {
  FR_CHECK(result.fault != DrawFault::none);
  if (result.fault == DrawFault::all_banned)
    return runtime_error("every token is banned (sampling): remove bans, or make the logits finite");
  return runtime_error(
      "logit of token " + std::to_string(result.token) + " is " +
      (result.fault == DrawFault::infinite ? "infinite" : "not a number") +
      " (sampling): the model's weights or its state are damaged, or their number format is too "
      "narrow; try fp32");
}

}  // namespace fr
