// frwkv list: the models that are on this machine.
#include <nlohmann/json.hpp>

#include "commands.h"
#include "common/words.h"
#include "hub_model.h"
#include "options.h"

namespace fr::app {
namespace {

using Json = nlohmann::ordered_json;

Json describe(const char* kind, const LocalModel& m) {
  return {{"name", m.name},
          {"kind", kind},
          {"size", m.broken ? Json() : Json(m.size)},
          {"path", m.path},
          {"broken", m.broken}};
}

// The model that ships, if it is there, then those of the cache.
Json all_models(const std::string& cache) {
  Json out = Json::array();
  try {
    const Json shipped = Json::parse(faster_rwkv::file_info_json("", false));
    out.push_back(describe("shipped", {"", shipped["path"], shipped["file_size"], false}));
  } catch (const faster_rwkv::Error&) {  // it is not installed
  }
  for (const LocalModel& m : local_models(cache)) out.push_back(describe("cached", m));
  return out;
}

}  // namespace

int run_list(int argc, char** argv) {
  CLI::App app(
      "The models on this machine: the one that ships, and those in the cache of Hugging Face downloads.",
      "list");
  bool json = false;
  app.add_flag("--json", json, "one JSON array");
  if (!parse(app, argc, argv)) return FR_OK;
  const Json models = all_models(hub_settings(true).cache);
  if (json) {
    std::puts(models.dump(2, ' ', false, Json::error_handler_t::replace).c_str());
    return FR_OK;
  }
  std::size_t width = 0;
  for (const Json& m : models) width = std::max(width, m["name"].get_ref<const std::string&>().size());
  for (const Json& m : models) {
    const bool shipped = m["kind"] == "shipped";
    const std::string name = shipped ? "(default)" : m["name"].get<std::string>();
    const std::string size = m["broken"].get<bool>() ? "broken" : bytes(m["size"].get<std::uint64_t>());
    std::printf("%-*s  %9s  %s\n", static_cast<int>(std::max<std::size_t>(width, 10)),
                printable(name).c_str(), size.c_str(), printable(m["path"].get<std::string>()).c_str());
  }
  return FR_OK;
}

}  // namespace fr::app
