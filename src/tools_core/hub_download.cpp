#include "tools_core/hub_download.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <optional>

#include "tools_core/hub_names.h"
#include "tools_core/sha256.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

std::optional<std::uint64_t> number(std::string_view text) {
  std::uint64_t n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error != std::errc() || end != text.data() + text.size()) return {};
  return n;
}

std::string megabytes(std::uint64_t n) {
  return std::to_string(n / 1000000 + (n % 1000000 > 0 ? 1 : 0)) + " MB";
}

// W/"abc" -> abc
std::string plain_etag(std::string text) {
  if (text.starts_with("W/")) text.erase(0, 2);
  if (text.size() >= 2 && text.front() == '"' && text.back() == '"') text = text.substr(1, text.size() - 2);
  return text;
}

// The part of a blob that has arrived, blobs/ETAG.incomplete, and its hash.
class Partial final : public HttpBody {
 public:
  // go_on(done): told how many bytes there are; false stops.
  Partial(std::string path, const RemoteFile& file, std::function<bool(std::uint64_t)> go_on)
      : path_(std::move(path)), file_(file), go_on_(std::move(go_on)) {}
  Partial(const Partial&) = delete;
  ~Partial() override {
    if (fd_ >= 0) ::close(fd_);
  }

  std::uint64_t size() const { return size_; }
  std::uint64_t received() const { return received_; }

  // Takes over what an earlier download left; its bytes are read for the hash.
  Status open() {
    fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd_ < 0) return disk_error("cannot write", path_);
    std::array<std::byte, 1 << 16> buffer;
    for (;;) {
      const ssize_t n = ::pread(fd_, buffer.data(), buffer.size(), static_cast<off_t>(size_));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return disk_error("cannot read", path_);
      if (n == 0) break;
      hash_.add(std::span(buffer).first(static_cast<std::size_t>(n)));
      size_ += static_cast<std::uint64_t>(n);
      if (size_ > file_.size) return restart();
      if (!go_on_(size_)) return Error{ErrorCode::interrupted, "interrupted"};
    }
    return {};
  }

  Status begin(const HttpResponse& r) override {
    std::optional<std::uint64_t> total;
    if (r.status == 206) {
      FR_TRY(total, range_of(r.header("content-range")));
    } else {
      if (size_ > 0) FR_OK(restart());  // the server gives everything again
      total = number(r.header("content-length"));
    }
    if (total && *total != file_.size)
      return refuse("has " + std::to_string(*total) + " bytes instead of " + std::to_string(file_.size));
    return {};
  }

  Status data(std::span<const std::byte> bytes) override {
    if (bytes.size() > file_.size - size_)
      return refuse("is longer than the " + std::to_string(file_.size) + " bytes that were promised");
    hash_.add(bytes);
    received_ += bytes.size();
    while (!bytes.empty()) {
      const ssize_t n = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(size_));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return disk_error("cannot write", path_);
      size_ += static_cast<std::uint64_t>(n);
      bytes = bytes.subspan(static_cast<std::size_t>(n));
    }
    if (!go_on_(size_)) return Error{ErrorCode::interrupted, "interrupted"};
    return {};
  }

  Status restart() {
    size_ = 0;
    hash_.restart();
    if (::ftruncate(fd_, 0) != 0) return disk_error("cannot write", path_);
    return {};
  }

  // Checks the content and gives it its name.
  Status finish(const std::string& blob) {
    if (file_.etag.size() == 64 && hash_.hex() != file_.etag)
      return refuse("does not have the checksum that the hub states");
    if (::fsync(fd_) != 0) return disk_error("cannot write", path_);
    if (::rename(path_.c_str(), blob.c_str()) != 0) return disk_error("cannot rename to", blob);
    const int folder = ::open(fs::path(blob).parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder >= 0) {
      ::fsync(folder);
      ::close(folder);
    }
    return {};
  }

 private:
  // The size of the whole file that "bytes FROM-TO/SIZE" states; none for "*".
  Result<std::optional<std::uint64_t>> range_of(const std::string& text) const {
    const std::size_t dash = text.find('-'), slash = text.find('/');
    constexpr std::string_view unit = "bytes ";
    if (text.starts_with(unit) && dash < slash && slash != std::string::npos) {
      const std::string total = text.substr(slash + 1);
      if (number(std::string_view(text).substr(unit.size(), dash - unit.size())) == size_) {
        if (total == "*") return std::optional<std::uint64_t>{};
        if (const auto n = number(total)) return n;
      }
    }
    return Error{ErrorCode::network, "the server sends another part than the one from byte " +
                                         std::to_string(size_) + ", '" + shown(text) + "' (" + file_.url +
                                         "): try another HF_ENDPOINT"};
  }

  Error refuse(const std::string& what) const {
    ::unlink(path_.c_str());
    return file_error(
        "the download " + what + " (" + file_.url +
        "): it was deleted; run the same command again, and if that does not help use another HF_ENDPOINT");
  }

  std::string path_;
  const RemoteFile& file_;
  std::function<bool(std::uint64_t)> go_on_;
  int fd_ = -1;
  std::uint64_t size_ = 0, received_ = 0;
  Sha256 hash_;
};

// Success: everything is there, or a status that is an answer.
HttpOutcome fetch_rest(HttpClient& http, const RemoteFile& file, Partial& partial) {
  HttpOutcome out = http.get(file.url, partial.size(), partial);
  const bool unknown_part = out.response.status == 416;
  if (!out.status.ok() || (out.response.status / 100 != 2 && !unknown_part)) return out;
  if (unknown_part) out.status = partial.restart();
  if (out.status.ok() && partial.size() < file.size) {
    out.status = Error{ErrorCode::network, "the download ended early (" + file.url +
                                               "): run the same command again, it goes on where it stopped"};
    out.retry = true;
  }
  return out;
}

Status check_space(const std::string& folder, std::uint64_t needed) {
  struct statvfs disk {};
  if (::statvfs(folder.c_str(), &disk) != 0) return {};  // then writing will tell
  const std::uint64_t unused = std::uint64_t{disk.f_bavail} * disk.f_frsize;
  if (needed <= unused) return {};
  return runtime_error("not enough space, " + megabytes(needed) + " needed and " + megabytes(unused) +
                       " free (" + folder + "): free some, or name another folder in HF_HUB_CACHE");
}

std::uint64_t size_of(const std::string& path) {
  std::error_code error;
  const std::uintmax_t size = fs::file_size(path, error);
  return error ? 0 : size;
}

bool exists(const std::string& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

}  // namespace

RemoteRepo::RemoteRepo(const HubName& name, const HubSettings& settings)
    : name_(name),
      settings_(settings),
      http_(settings.endpoint, settings.token, settings.limits, [this] { return go_on(); }) {}

bool RemoteRepo::go_on() const { return !settings_.progress || settings_.progress(step_, done_, total_); }

std::string RemoteRepo::address(const std::string& file, const std::string& revision) const {
  return settings_.endpoint + "/" + name_.repo + "/resolve/" + percent_encoded(revision, false) + "/" +
         percent_encoded(file, true);
}

Result<RemoteFile> RemoteRepo::describe(const std::string& file, const std::string& revision, bool optional) {
  step_ = file;
  done_ = total_ = 0;
  const HttpOutcome out = http_.with_retries(
      [&] { return http_.head(address(file, revision), "x-linked-etag"); }, [] { return std::uint64_t{0}; });
  if (!out.status.ok()) return out.status.error();
  const HttpResponse& r = out.response;
  if (optional && r.status == 404) return RemoteFile{};
  if (r.status >= 400) return status_error(r, file);
  RemoteFile remote;
  remote.commit = r.header("x-repo-commit");
  const std::string linked = r.header("x-linked-etag");
  remote.etag = plain_etag(linked.empty() ? r.header("etag") : linked);
  const std::string linked_size = r.header("x-linked-size");
  const auto size = number(linked_size.empty() ? r.header("content-length") : linked_size);
  if (!is_plain_name(remote.commit) || !is_plain_name(remote.etag) || !size)
    return Error{ErrorCode::network, "the server does not answer as a Hugging Face hub (" +
                                         settings_.endpoint + "): check HF_ENDPOINT"};
  remote.size = *size;
  remote.url = address(file, remote.commit);
  return remote;
}

Status RemoteRepo::fetch(const RemoteFile& file, const RepoFolder& folder, const std::string& step,
                         std::uint64_t& received) {
  step_ = step;
  done_ = 0;
  total_ = file.size;
  const std::string blob = folder.blob(file.etag);
  FR_OK(make_folders(folder.root + "/blobs"));
  FR_OK(make_folders(folder.locks));
  FR_TRY(const FileLock lock, FileLock::take(folder.lock(file.etag), [this] { return go_on(); }));
  if (exists(blob) && size_of(blob) == file.size) return {};

  Partial partial(blob + ".incomplete", file, [this](std::uint64_t done) {
    done_ = done;
    return go_on();
  });
  FR_OK(partial.open());
  FR_OK(check_space(folder.root, file.size - partial.size()));
  if (partial.size() < file.size) {
    const HttpOutcome out =
        http_.with_retries([&] { return fetch_rest(http_, file, partial); }, [&] { return partial.size(); });
    received += partial.received();
    if (!out.status.ok()) return out.status.error();
    const int code = out.response.status;
    if (code == 429) return status_error(out.response, step);
    if (code >= 300) {  // of a storage server: the hub itself has just said that the file is there
      return Error{ErrorCode::network, "the download is refused with status " + std::to_string(code) + " (" +
                                           file.url + "): run the same command again"};
    }
  }
  return partial.finish(blob);
}

}  // namespace fr
