// A hub for tests: a small HTTP server in threads of its own, which misbehaves when asked to.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace fr::test {

// What goes wrong with the answers to GET of a file's content.
struct Mischief {
  std::uint64_t drop_after = UINT64_MAX;  // bytes of body, then the connection closes
  int drops = 0;                          // how many answers do that
  bool ignore_range = false;              // 200 with everything
  std::int64_t range_shift = 0;           // the Content-Range (and the data) begin elsewhere
  std::int64_t length_error = 0;          // Content-Length and body are longer or shorter by this
  bool chunked = false;                   // no Content-Length
  bool flip_byte = false;                 // other content than the checksum says
  int stall_ms = 0;                       // pause in the middle of each body, `stalls` times
  int stalls = 0;
  int status_500 = 0;              // this many requests of any kind get 500
  int status = 0;                  // every request gets this status
  std::string error_code = {};     // with X-Error-Code
  std::string redirect_base = {};  // content is at another place: "http://127.0.0.1:PORT"
  std::uint64_t linked_size = 0;   // what HEAD says; 0: the truth
  std::string listing = {};        // the whole answer of the API; empty: the files
};

struct Request {
  std::string method, target;
  std::map<std::string, std::string> headers;  // names in lower case
  std::uint64_t sent = 0;                      // bytes of body that left
};

// Repository "org/model": files are served under any revision as commit_id.
class HubServer {
 public:
  static constexpr const char* commit_id = "0123456789abcdef0123456789abcdef01234567";
  HubServer();
  HubServer(const HubServer&) = delete;
  HubServer& operator=(const HubServer&) = delete;
  ~HubServer();

  std::string endpoint() const { return "http://127.0.0.1:" + std::to_string(port_); }
  void add(const std::string& name, std::string content);
  void set(const Mischief& mischief);
  std::vector<Request> requests() const;  // those that are being answered included
  // Of the content of a file, over all requests, once all are answered.
  std::uint64_t bytes_sent(const std::string& name) const;

 private:
  void accept_loop();
  void serve(int fd);
  bool answer(int fd, Request& request);  // false: the connection closes
  bool send_content(int fd, Request& request, const std::string& content);

  int listen_ = -1;
  int port_ = 0;
  std::atomic<bool> stop_{false};
  mutable std::mutex mutex_;
  mutable std::condition_variable answered_;
  int answering_ = 0;  // requests
  std::map<std::string, std::string> files_;
  Mischief mischief_;
  std::vector<Request> requests_;
  std::vector<int> connections_;
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};

std::string sha256_of(const std::string& content);                 // hex
std::string random_bytes(std::uint64_t seed, std::size_t length);  // the same for the same seed

}  // namespace fr::test
