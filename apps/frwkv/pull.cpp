// frwkv pull: downloads a model into the cache that other programs share; prints its path.
#include <algorithm>

#include "commands.h"
#include "common/words.h"
#include "hub_model.h"
#include "options.h"

namespace fr::app {
namespace {

// What to type to get one of the files, on standard output.
void print_choices(const HubName& name, const std::vector<HubFile>& choices) {
  const std::string prefix = name.repo + (name.revision == "main" ? "" : "@" + name.revision) + ":";
  std::size_t width = 0;
  for (const HubFile& f : choices) width = std::max(width, prefix.size() + f.name.size());
  for (const HubFile& f : choices)
    std::printf("%-*s  %s\n", static_cast<int>(width), printable(prefix + f.name).c_str(),
                f.size == 0 ? "" : bytes(f.size).c_str());
}

}  // namespace

int run_pull(int argc, char** argv) {
  CLI::App app(
      "Download a model from Hugging Face into the cache that other programs share, or bring it up to date. "
      "Goes on "
      "where an earlier download stopped. Prints the path.",
      "pull");
  std::string text, revision;
  bool offline = false;
  app.add_option("REPO", text, "ORG/NAME, ORG/NAME:FILE or ORG/NAME@REVISION:FILE")->type_name("NAME");
  app.add_option("--revision", revision, "branch, tag or commit (main)")->type_name("NAME");
  app.add_flag("--offline,!--no-offline", offline, "look into the cache alone");
  if (!parse(app, argc, argv)) return FR_OK;
  if (text.empty()) usage("no model given (frwkv pull): write ORG/NAME or ORG/NAME:FILE");
  if (text.starts_with("hf:")) text.erase(0, 3);
  if (!revision.empty()) text.insert(std::min(text.find(':'), text.size()), "@" + revision);
  const HubName name = checked(parse_hub_name(text));
  const HubModel model = download(name, hub_settings(offline));
  if (model.path.empty()) {
    print_choices(name, model.choices);
    usage(name.repo + " holds " + std::to_string(model.choices.size()) +
          " model files (frwkv pull): name one of them");
  }
  std::puts(model.path.c_str());
  return FR_OK;
}

}  // namespace fr::app
