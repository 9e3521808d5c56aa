#include "hub_model.h"

#include "common/interrupt.h"
#include "common/terminal.h"

namespace fr::app {
namespace {

[[noreturn]] void several(const HubName& name, const std::vector<HubFile>& choices) {
  std::string names;
  for (std::size_t i = 0; i < choices.size() && i < 3; ++i)
    names += (i == 0 ? "" : ", ") + printable(choices[i].name);
  if (choices.size() > 3) names += ", ...";
  throw faster_rwkv::Error(FR_ERROR_USAGE, name.repo + " holds " + std::to_string(choices.size()) +
                                               " model files (" + names + "): name one, hf:" + name.repo +
                                               ":FILE");
}

}  // namespace

HubSettings hub_settings(bool offline) {
  HubSettings settings = checked(hub_settings_from_environment());
  settings.offline |= offline;
  return settings;
}

HubModel download(const HubName& name, HubSettings settings) {
  ProgressBar bar;
  settings.progress = [&bar](std::string_view step, std::uint64_t done, std::uint64_t total) {
    if (total > 0) bar.show(printable(step), done, total, true);
    return !interrupted();
  };
  Result<HubModel> model = pull(name, settings);
  bar.clear();
  if (!model.ok() && model.error().code == ErrorCode::interrupted)
    std::fputs("frwkv: interrupted; the same command goes on where it stopped\n", stderr);
  return checked(std::move(model));
}

std::string model_path(const std::string& model, bool offline) {
  constexpr std::string_view prefix = "hf:";
  if (!model.starts_with(prefix)) return model;
  const HubName name = checked(parse_hub_name(std::string_view(model).substr(prefix.size())));
  const HubSettings settings = hub_settings(offline);
  const Result<HubModel> cached = find_in_cache(name, settings);
  const HubModel found = cached.ok() || settings.offline ? checked(cached) : download(name, settings);
  if (found.path.empty()) several(name, found.choices);
  return found.path;
}

}  // namespace fr::app
