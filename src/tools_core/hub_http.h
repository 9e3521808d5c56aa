// HTTP through libcurl: one request at a time, redirects under our own rules, drops and stalls noticed.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "base/result.h"
#include "tools_core/hub.h"

namespace fr {

struct HttpResponse {
  std::string url;  // the last one, after redirects
  int status = 0;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string header(const std::string& name) const;
};

// How a request ended. retry: it may work a moment later (drop, stall, no connection, status 5xx).
struct HttpOutcome {
  HttpResponse response;
  Status status;
  bool retry = false;
};

// Receives the body of a 2xx response; an error ends the request and becomes its status.
class HttpBody {
 public:
  virtual ~HttpBody() = default;
  virtual Status begin(const HttpResponse& response) = 0;  // once, before the data
  virtual Status data(std::span<const std::byte> bytes) = 0;
};

// Not thread safe. Proxies and certificates as libcurl finds them.
class HttpClient {
 public:
  // token: sent only where scheme, host and port are those of the endpoint. go_on: asked at least ten times a
  // second; false ends with ErrorCode::interrupted.
  HttpClient(const std::string& endpoint, const std::string& token, const HubLimits& limits,
             std::function<bool()> go_on);
  ~HttpClient();

  // A redirect is followed within the endpoint only, and not when the response has the header `enough`.
  // Outcomes are ok with any status below 500.
  HttpOutcome head(const std::string& url, const std::string& enough);
  // Follows redirects, to other hosts too, never from https to http. from: bytes to leave out (Range).
  HttpOutcome get(const std::string& url, std::uint64_t from, HttpBody& body);

  // Repeats `attempt` while it asks for that, pausing in between, until limits.tries attempts in a row have
  // not raised `progress`.
  HttpOutcome with_retries(const std::function<HttpOutcome()>& attempt,
                           const std::function<std::uint64_t()>& progress) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace fr
