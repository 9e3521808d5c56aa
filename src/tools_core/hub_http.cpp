#include "tools_core/hub_http.h"

#include <curl/curl.h>

#include <algorithm>
#include <mutex>
#include <optional>
#include <thread>

#include "tools_core/hub_names.h"

namespace fr {
namespace {

using Clock = std::chrono::steady_clock;

template <auto release>
struct Release {
  void operator()(auto* p) const { release(p); }
};
using Easy = std::unique_ptr<CURL, Release<::curl_easy_cleanup>>;
using Multi = std::unique_ptr<CURLM, Release<::curl_multi_cleanup>>;
using Url = std::unique_ptr<CURLU, Release<::curl_url_cleanup>>;
using HeaderList = std::unique_ptr<curl_slist, Release<::curl_slist_free_all>>;
using Text = std::unique_ptr<char, Release<::curl_free>>;

Url parsed(const std::string& url) {
  Url out(::curl_url());
  if (out && ::curl_url_set(out.get(), CURLUPART_URL, url.c_str(), 0) != CURLUE_OK) out.reset();
  return out;
}

std::string part_of(const CURLU* url, CURLUPart part) {
  char* text = nullptr;
  if (::curl_url_get(const_cast<CURLU*>(url), part, &text, CURLU_DEFAULT_PORT) != CURLUE_OK) return "";
  return Text(text).get();
}

// "https://host:443", lower case; empty: this is no http address.
std::string origin_of(const std::string& url) {
  const Url u = parsed(url);
  if (!u) return "";
  std::string out = part_of(u.get(), CURLUPART_SCHEME) + "://" + part_of(u.get(), CURLUPART_HOST) + ":" +
                    part_of(u.get(), CURLUPART_PORT);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return out.starts_with("http://") || out.starts_with("https://") ? out : "";
}

std::string redirected(const std::string& url, const std::string& location) {
  const Url u = parsed(url);
  if (!u || ::curl_url_set(u.get(), CURLUPART_URL, location.c_str(), 0) != CURLUE_OK) return "";
  return part_of(u.get(), CURLUPART_URL);
}

bool is_redirect(const HttpResponse& r) {
  return r.status >= 300 && r.status < 400 && !r.header("location").empty();
}

Error network_error(const std::string& what, const std::string& url, const std::string& advice) {
  return {ErrorCode::network, what + " (" + origin_of(url) + "): " + advice};
}
const Error interruption{ErrorCode::interrupted, "interrupted"};

// Whether a fault of the transport may pass by itself.
bool is_passing(CURLcode code) {
  return code != CURLE_PEER_FAILED_VERIFICATION && code != CURLE_SSL_CACERT_BADFILE &&
         code != CURLE_URL_MALFORMAT && code != CURLE_UNSUPPORTED_PROTOCOL &&
         code != CURLE_COULDNT_RESOLVE_PROXY;
}

}  // namespace

std::string HttpResponse::header(const std::string& name) const {
  const auto found = headers.find(name);
  return found == headers.end() ? "" : found->second;
}

struct HttpClient::Impl {
  std::string origin, token;
  HubLimits limits;
  std::function<bool()> go_on;
  Easy easy;
  Multi multi;

  // Of the request in progress.
  HttpResponse response;
  HttpBody* body = nullptr;
  bool begun = false;
  std::size_t header_bytes = 0;
  std::uint64_t received = 0;
  std::optional<Error> fault;  // ours, which made libcurl stop

  HttpOutcome request(const std::string& url, std::uint64_t from, HttpBody* receiver);
  CURLcode transfer();
  Status begin_body();
  std::size_t on_header(std::string_view line);
  std::size_t on_data(std::span<const std::byte> bytes);
};

Status HttpClient::Impl::begin_body() {
  if (begun || body == nullptr || response.status / 100 != 2) return {};
  begun = true;
  return body->begin(response);
}

std::size_t HttpClient::Impl::on_header(std::string_view line) {
  constexpr std::size_t most = 256 << 10;
  header_bytes += line.size();
  if (header_bytes > most) {
    fault = network_error("the headers have no end", response.url, "this is no hub, or a broken one");
    return 0;
  }
  if (line.starts_with("HTTP/")) response.headers.clear();  // the next of several: proxy, 100 Continue
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos) return line.size();
  std::string name(line.substr(0, colon));
  std::transform(name.begin(), name.end(), name.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  std::string_view value = line.substr(colon + 1);
  while (!value.empty() && (value.front() == ' ' || value.front() == '\t')) value.remove_prefix(1);
  while (!value.empty() && value.back() <= ' ' && value.back() >= 0) value.remove_suffix(1);
  response.headers[name] = value;
  return line.size();
}

std::size_t HttpClient::Impl::on_data(std::span<const std::byte> bytes) {
  received += bytes.size();
  long status = 0;
  ::curl_easy_getinfo(easy.get(), CURLINFO_RESPONSE_CODE, &status);
  response.status = static_cast<int>(status);
  if (body == nullptr || response.status / 100 != 2) {  // what an error page says is not ours to keep
    constexpr std::uint64_t most = 1 << 20;
    return received <= most ? bytes.size() : 0;
  }
  Status done = begin_body();
  if (done.ok()) done = body->data(bytes);
  if (done.ok()) return bytes.size();
  fault = done.error();
  return 0;
}

// Until the end, an interruption or a stall.
CURLcode HttpClient::Impl::transfer() {
  ::curl_multi_add_handle(multi.get(), easy.get());
  CURLcode code = CURLE_OK;
  Clock::time_point window = Clock::now();
  std::uint64_t at_window = 0;
  for (int running = 1; running > 0;) {
    if (::curl_multi_perform(multi.get(), &running) != CURLM_OK) {
      code = CURLE_FAILED_INIT;
      break;
    }
    if (!fault && !go_on()) fault = interruption;
    const auto now = Clock::now();
    if (received - at_window >= limits.stall_bytes) {
      window = now;
      at_window = received;
    } else if (running > 0 && now - window > limits.stall) {
      code = CURLE_OPERATION_TIMEDOUT;
      break;
    }
    if (fault) break;
    const auto wait = std::min<std::chrono::milliseconds>(limits.stall, std::chrono::milliseconds(100));
    if (running > 0) ::curl_multi_poll(multi.get(), nullptr, 0, static_cast<int>(wait.count()), nullptr);
  }
  int left = 0;
  while (const CURLMsg* message = ::curl_multi_info_read(multi.get(), &left)) {
    if (message->msg == CURLMSG_DONE && code == CURLE_OK) code = message->data.result;
  }
  ::curl_multi_remove_handle(multi.get(), easy.get());
  return code;
}

HttpOutcome HttpClient::Impl::request(const std::string& url, std::uint64_t from, HttpBody* receiver) {
  response = {};
  response.url = url;
  body = receiver;
  begun = false;
  header_bytes = 0;
  received = 0;
  fault.reset();
  const std::string to = origin_of(url);
  if (to.empty())
    return {{}, network_error("no http address: " + shown(url), url, "check HF_ENDPOINT"), false};

  CURL* c = easy.get();
  char reason[CURL_ERROR_SIZE] = "";
  ::curl_easy_reset(c);
  ::curl_easy_setopt(c, CURLOPT_URL, url.c_str());
  ::curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
  ::curl_easy_setopt(c, CURLOPT_NOBODY, receiver == nullptr ? 1L : 0L);
  ::curl_easy_setopt(c, CURLOPT_USERAGENT, "frwkv");
  ::curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(limits.connect.count()));
  ::curl_easy_setopt(c, CURLOPT_BUFFERSIZE, 256L << 10);
  ::curl_easy_setopt(c, CURLOPT_ERRORBUFFER, reason);
  if (from > 0) ::curl_easy_setopt(c, CURLOPT_RANGE, (std::to_string(from) + "-").c_str());
  HeaderList headers;
  if (!token.empty() && to == origin) {
    headers.reset(::curl_slist_append(nullptr, ("Authorization: Bearer " + token).c_str()));
    ::curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers.get());
  }
  ::curl_easy_setopt(c, CURLOPT_HEADERDATA, this);
  ::curl_easy_setopt(
      c, CURLOPT_HEADERFUNCTION, +[](char* p, std::size_t, std::size_t n, void* self) {
        return static_cast<Impl*>(self)->on_header({p, n});
      });
  ::curl_easy_setopt(c, CURLOPT_WRITEDATA, this);
  ::curl_easy_setopt(
      c, CURLOPT_WRITEFUNCTION, +[](char* p, std::size_t, std::size_t n, void* self) {
        return static_cast<Impl*>(self)->on_data(std::as_bytes(std::span(p, n)));
      });

  const CURLcode code = transfer();
  long status = 0;
  ::curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
  response.status = static_cast<int>(status);
  if (!fault && code == CURLE_OK) {
    if (const Status begin = begin_body(); !begin.ok()) fault = begin.error();  // an empty body
  }
  ::curl_easy_setopt(c, CURLOPT_ERRORBUFFER, nullptr);
  if (fault) return {response, *fault, false};
  if (response.status >= 500) {
    const std::string what = "the server has a fault, status " + std::to_string(response.status);
    return {response, network_error(what, url, "try again later"), true};
  }
  // A write error without a fault is an error page that was too long to listen to.
  if (code == CURLE_OK || code == CURLE_WRITE_ERROR) return {response, {}, false};
  if (code == CURLE_OPERATION_TIMEDOUT && reason[0] == '\0')
    return {response,
            network_error("the connection stalled", url,
                          "run the same command again, it goes on where it stopped"),
            true};
  const std::string why = reason[0] != '\0' ? reason : ::curl_easy_strerror(code);
  const std::string advice = code == CURLE_PEER_FAILED_VERIFICATION
                                 ? "install ca-certificates, or check the clock and the proxy"
                                 : "check the network, HF_ENDPOINT and the proxy";
  return {response, network_error("no connection, or it broke: " + shown(why), url, advice),
          is_passing(code)};
}

HttpClient::HttpClient(const std::string& endpoint, const std::string& token, const HubLimits& limits,
                       std::function<bool()> go_on)
    : impl_(std::make_unique<Impl>()) {
  static std::once_flag once;
  std::call_once(once, [] { ::curl_global_init(CURL_GLOBAL_DEFAULT); });
  impl_->origin = origin_of(endpoint);
  impl_->token = token;
  impl_->limits = limits;
  impl_->go_on = std::move(go_on);
  impl_->easy.reset(::curl_easy_init());
  impl_->multi.reset(::curl_multi_init());
  FR_CHECK(impl_->easy && impl_->multi);
}

HttpClient::~HttpClient() = default;

constexpr int most_redirects = 10;

HttpOutcome HttpClient::head(const std::string& url, const std::string& enough) {
  std::string at = url;
  for (int hop = 0;; ++hop) {
    HttpOutcome out = impl_->request(at, 0, nullptr);
    if (!out.status.ok() || !is_redirect(out.response) || !out.response.header(enough).empty()) return out;
    const std::string next = redirected(at, out.response.header("location"));
    if (origin_of(next) != impl_->origin || hop == most_redirects) return out;
    at = next;
  }
}

HttpOutcome HttpClient::get(const std::string& url, std::uint64_t from, HttpBody& body) {
  std::string at = url;
  for (int hop = 0;; ++hop) {
    HttpOutcome out = impl_->request(at, from, &body);
    if (!out.status.ok() || !is_redirect(out.response)) return out;
    const std::string next = redirected(at, out.response.header("location"));
    const bool weaker = at.starts_with("https:") && !next.starts_with("https:");
    if (origin_of(next).empty() || weaker || hop == most_redirects)
      return {out.response,
              network_error("a redirect that leads nowhere, to '" + shown(next) + "'", at,
                            "try again later, or another HF_ENDPOINT"),
              false};
    at = next;
  }
}

HttpOutcome HttpClient::with_retries(const std::function<HttpOutcome()>& attempt,
                                     const std::function<std::uint64_t()>& progress) const {
  std::uint64_t best = progress();
  auto pause = impl_->limits.pause;
  for (int failures = 1;; ++failures) {
    HttpOutcome out = attempt();
    if (out.status.ok() || !out.retry) return out;
    if (const std::uint64_t now = progress(); now > best) {
      best = now;
      failures = 1;
      pause = impl_->limits.pause;
    }
    if (failures >= impl_->limits.tries) return out;
    for (const auto end = Clock::now() + pause; Clock::now() < end;) {
      if (!impl_->go_on()) return {out.response, interruption, false};
      std::this_thread::sleep_for(
          std::min<Clock::duration>(end - Clock::now(), std::chrono::milliseconds(100)));
    }
    pause = std::min<std::chrono::milliseconds>(2 * pause, std::chrono::seconds(8));
  }
}

}  // namespace fr
