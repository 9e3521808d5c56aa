// What the hub says in words: the list of a repository's files, and why it refuses.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "tools_core/hub_download.h"
#include "tools_core/hub_names.h"

namespace fr {
namespace {

using Json = nlohmann::json;

// Keeps a body of limited size.
class Text final : public HttpBody {
 public:
  explicit Text(std::uint64_t limit) : limit_(limit) {}
  Status begin(const HttpResponse&) override {
    text.clear();
    return {};
  }
  Status data(std::span<const std::byte> bytes) override {
    if (bytes.size() > limit_ - text.size())
      return file_error("the list of the files is longer than " + std::to_string(limit_ >> 20) +
                        " MiB (the hub): name the file, REPO:FILE");
    text.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return {};
  }
  std::string text;

 private:
  std::uint64_t limit_;
};

// Whether objects and arrays are nested at most `limit` deep.
bool is_shallow(std::string_view json, int limit) {
  int depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (in_string && c == '\\') ++i;
    if (c == '"') in_string = !in_string;
    if (in_string) continue;
    if ((c == '{' || c == '[') && ++depth > limit) return false;
    if (c == '}' || c == ']') --depth;
  }
  return true;
}

Result<RemoteRepo::Listing> read_listing(const std::string& text, const std::string& endpoint) {
  const auto wrong = [&](const std::string& what) {
    return file_error(what + " (" + endpoint + "): check HF_ENDPOINT, or name the file, REPO:FILE");
  };
  constexpr int deepest = 32;
  const Json json = is_shallow(text, deepest) ? Json::parse(text, nullptr, false) : Json();
  if (!json.is_object() || !json.contains("siblings") || !json["siblings"].is_array())
    return wrong("the server's list of the files cannot be read");
  RemoteRepo::Listing out;
  if (json.contains("sha") && json["sha"].is_string()) out.commit = json["sha"].get<std::string>();
  if (!is_plain_name(out.commit)) return wrong("the server's list of the files has no commit");
  for (const Json& file : json["siblings"]) {
    if (!file.is_object() || !file.contains("rfilename") || !file["rfilename"].is_string())
      return wrong("the server's list of the files cannot be read");
    HubFile f{file["rfilename"].get<std::string>(), 0};
    if (!is_safe_path(f.name))
      return wrong("the server lists a file name that is not safe, '" + shown(f.name) + "'");
    if (file.contains("size") && file["size"].is_number_unsigned())
      f.size = file["size"].get<std::uint64_t>();
    out.files.push_back(std::move(f));
  }
  return out;
}

}  // namespace

Result<RemoteRepo::Listing> RemoteRepo::list() {
  step_ = name_.repo;
  done_ = total_ = 0;
  const std::string url = settings_.endpoint + "/api/models/" + name_.repo + "/revision/" +
                          percent_encoded(name_.revision, false) + "?blobs=true";
  Text body(settings_.limits.listing_bytes);
  const HttpOutcome out =
      http_.with_retries([&] { return http_.get(url, 0, body); }, [] { return std::uint64_t{0}; });
  if (!out.status.ok()) return out.status.error();
  if (out.response.status >= 300) return status_error(out.response, "");
  return read_listing(body.text, settings_.endpoint);
}

// file: empty for the list of files.
Error RemoteRepo::status_error(const HttpResponse& r, const std::string& file) {
  const std::string reason = r.header("x-error-code");
  const auto error = [&](const std::string& what, const std::string& advice) {
    return Error{ErrorCode::network,
                 what + " (" + settings_.endpoint + ", status " + std::to_string(r.status) + "): " + advice};
  };
  const std::string page = settings_.endpoint + "/" + name_.repo;
  if (r.status == 429) {
    const std::string seconds = shown(r.header("retry-after"));
    return error("too many requests", "wait " + (seconds.empty() ? "some minutes" : seconds + " seconds") +
                                          " and run the same command again" +
                                          (settings_.token.empty() ? ", or set HF_TOKEN" : ""));
  }
  if (reason == "GatedRepo" || r.status == 403)
    return error("access to " + name_.repo + " must be asked for",
                 "accept its conditions on " + page + " and set HF_TOKEN to a token of that account");
  if (r.status == 401)
    return error("no access to " + name_.repo,
                 settings_.token.empty()
                     ? "it does not exist, or is private: check the name, or set HF_TOKEN"
                     : "it does not exist, or the token is not valid for it: check the name and HF_TOKEN");
  if (r.status == 404 && reason == "RevisionNotFound")
    return error(name_.repo + " has no revision " + name_.revision,
                 "see " + page + " for its branches and tags");
  if (r.status == 404 && !file.empty() && reason != "RepoNotFound") return missing_file(file);
  if (r.status == 404) return error("no repository " + name_.repo, "check the name");
  return error("the hub refuses " + (file.empty() ? name_.repo : name_.repo + ":" + file),
               "check the name and HF_ENDPOINT");
}

Error RemoteRepo::missing_file(const std::string& file) {
  const auto listing = list();
  if (!listing.ok()) return listing.error();
  std::string names;
  for (const std::string& name : closest_names(file, listing->files, 3))
    names += (names.empty() ? "" : ", ") + name;
  return {ErrorCode::network,
          "no file " + file + " (" + name_.repo +
              "): " + (names.empty() ? "it has no model files" : "did you mean one of " + names + "?")};
}

}  // namespace fr
