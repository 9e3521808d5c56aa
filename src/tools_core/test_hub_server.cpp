#include "tools_core/test_hub_server.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <random>

#include "tools_core/sha256.h"

namespace fr::test {
namespace {

bool send_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
    if (n <= 0) return false;
    text.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

std::string lower(std::string text) {
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return text;
}

// One request; false at the end of the connection.
bool read_request(int fd, std::string& buffer, Request& out) {
  std::size_t end = 0;
  while ((end = buffer.find("\r\n\r\n")) == std::string::npos) {
    char piece[4096];
    const ssize_t n = ::recv(fd, piece, sizeof piece, 0);
    if (n <= 0) return false;
    buffer.append(piece, static_cast<std::size_t>(n));
  }
  const std::string head = buffer.substr(0, end + 2);
  buffer.erase(0, end + 4);
  const std::size_t first = head.find(' '), second = head.find(' ', first + 1);
  out.method = head.substr(0, first);
  out.target = head.substr(first + 1, second - first - 1);
  for (std::size_t line = head.find("\r\n") + 2; line < head.size();) {
    const std::size_t stop = head.find("\r\n", line), colon = head.find(": ", line);
    out.headers[lower(head.substr(line, colon - line))] = head.substr(colon + 2, stop - colon - 2);
    line = stop + 2;
  }
  return true;
}

std::string response(int status, const std::string& headers, const std::string& body) {
  return "HTTP/1.1 " + std::to_string(status) + " X\r\n" + headers +
         "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

bool is_small(const std::string& name) { return name.ends_with(".json") || name.ends_with(".txt"); }

}  // namespace

std::string sha256_of(const std::string& content) {
  Sha256 hash;
  hash.add(std::as_bytes(std::span(content)));
  return hash.hex();
}

std::string random_bytes(std::uint64_t seed, std::size_t length) {
  std::mt19937_64 random(seed);
  std::string out(length, '\0');
  for (char& c : out) c = static_cast<char>(random() & 0xff);
  return out;
}

HubServer::HubServer() {
  listen_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ::bind(listen_, reinterpret_cast<sockaddr*>(&address), size);
  ::listen(listen_, 64);
  ::getsockname(listen_, reinterpret_cast<sockaddr*>(&address), &size);
  port_ = ntohs(address.sin_port);
  acceptor_ = std::thread([this] { accept_loop(); });
}

HubServer::~HubServer() {
  stop_ = true;
  ::shutdown(listen_, SHUT_RDWR);
  acceptor_.join();
  {
    const std::lock_guard lock(mutex_);
    for (const int fd : connections_) ::shutdown(fd, SHUT_RDWR);
  }
  for (std::thread& t : threads_) t.join();
  for (const int fd : connections_) ::close(fd);
  ::close(listen_);
}

void HubServer::add(const std::string& name, std::string content) {
  const std::lock_guard lock(mutex_);
  files_[name] = std::move(content);
}

void HubServer::set(const Mischief& mischief) {
  const std::lock_guard lock(mutex_);
  mischief_ = mischief;
}

std::vector<Request> HubServer::requests() const {
  const std::lock_guard lock(mutex_);
  return requests_;
}

std::uint64_t HubServer::bytes_sent(const std::string& name) const {
  std::unique_lock lock(mutex_);
  answered_.wait_for(lock, std::chrono::seconds(10), [this] { return answering_ == 0; });
  std::uint64_t sum = 0;
  for (const Request& r : requests_) {
    if (r.target == "/cdn/" + name) sum += r.sent;
  }
  return sum;
}

void HubServer::accept_loop() {
  while (!stop_) {
    const int fd = ::accept4(listen_, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) continue;
    const int yes = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    const std::lock_guard lock(mutex_);
    connections_.push_back(fd);
    threads_.emplace_back([this, fd] { serve(fd); });
  }
}

// The descriptor stays open until the server ends, so that its number is not used again.
void HubServer::serve(int fd) {
  std::string buffer;
  for (Request request; !stop_ && read_request(fd, buffer, request); request = {}) {
    std::size_t number;
    {
      const std::lock_guard lock(mutex_);
      ++answering_;
      number = requests_.size();
      requests_.push_back(request);
    }
    const bool keep = answer(fd, request);
    const std::lock_guard lock(mutex_);
    requests_[number] = request;
    --answering_;
    answered_.notify_all();
    if (!keep) break;
  }
  ::shutdown(fd, SHUT_RDWR);
}

bool HubServer::answer(int fd, Request& request) {
  std::unique_lock lock(mutex_);
  if (mischief_.status_500 > 0) {
    --mischief_.status_500;
    return send_all(fd, response(503, "", "busy"));
  }
  if (mischief_.status != 0) {
    const std::string code =
        mischief_.error_code.empty() ? "" : "X-Error-Code: " + mischief_.error_code + "\r\n";
    return send_all(fd, response(mischief_.status, code + "Retry-After: 7\r\n", ""));
  }
  const std::string& t = request.target;
  if (t.starts_with("/api/models/org/model/revision/")) {
    std::string list = R"({"id":"org/model","sha":")" + std::string(commit_id) + R"(","siblings":[)";
    for (const auto& [name, content] : files_)
      list += R"({"rfilename":")" + name + R"(","size":)" + std::to_string(content.size()) + "},";
    list.back() = ']';
    return send_all(fd, response(200, "", mischief_.listing.empty() ? list + "}" : mischief_.listing));
  }
  const bool moved = t.starts_with("/api/resolve-cache/");
  std::string name;
  if (t.starts_with("/cdn/")) name = t.substr(5);
  if (t.starts_with("/org/model/resolve/")) name = t.substr(t.find('/', 19) + 1);
  if (moved) name = t.substr(t.find(commit_id) + 41);
  name = name.substr(0, name.find('?'));
  const auto found = files_.find(name);
  if (found == files_.end()) return send_all(fd, response(404, "X-Error-Code: EntryNotFound\r\n", ""));
  const std::string content = found->second;
  if (t.starts_with("/cdn/") || moved || name.ends_with(".txt")) {
    lock.unlock();
    return send_content(fd, request, content);
  }
  if (is_small(name))  // as the hub does for small files: a relative redirect that says nothing
    return send_all(fd, response(307,
                                 "Location: /api/resolve-cache/models/org/model/" + std::string(commit_id) +
                                     "/" + name + "\r\n",
                                 ""));
  const std::size_t size = mischief_.linked_size == 0 ? content.size() : mischief_.linked_size;
  const std::string base = mischief_.redirect_base.empty() ? endpoint() : mischief_.redirect_base;
  return send_all(fd, response(302,
                               "X-Repo-Commit: " + std::string(commit_id) + "\r\nX-Linked-Etag: \"" +
                                   sha256_of(content) + "\"\r\nX-Linked-Size: " + std::to_string(size) +
                                   "\r\nLocation: " + base + "/cdn/" + name + "\r\n",
                               ""));
}

bool HubServer::send_content(int fd, Request& request, const std::string& content) {
  Mischief m;
  {
    const std::lock_guard lock(mutex_);
    m = mischief_;
    if (request.method == "GET" && mischief_.drops > 0) --mischief_.drops;
    if (request.method == "GET" && mischief_.stalls > 0) --mischief_.stalls;
  }
  std::string headers = "X-Repo-Commit: " + std::string(commit_id) + "\r\nETag: W/\"" +
                        sha256_of(content).substr(0, 40) + "\"\r\n";
  std::size_t from = 0;
  const auto range = request.headers.find("range");
  if (range != request.headers.end() && !m.ignore_range) from = std::stoul(range->second.substr(6));
  if (from > content.size()) return send_all(fd, response(416, "", ""));
  std::string body = content;
  if (m.flip_byte) body.back() ^= 1;
  if (m.length_error < 0) body.resize(body.size() - static_cast<std::size_t>(-m.length_error));
  if (m.length_error > 0) body.append(static_cast<std::size_t>(m.length_error), 'x');
  const std::size_t total = body.size();
  if (from > 0 || (range != request.headers.end() && !m.ignore_range)) {
    from = static_cast<std::size_t>(static_cast<std::int64_t>(from) + m.range_shift);
    headers += "Content-Range: bytes " + std::to_string(from) + "-" + std::to_string(total - 1) + "/" +
               std::to_string(total) + "\r\n";
    body.erase(0, from);
    headers.insert(0, "HTTP/1.1 206 X\r\n");
  } else {
    headers.insert(0, "HTTP/1.1 200 X\r\n");
  }
  headers +=
      m.chunked ? "Connection: close\r\n\r\n" : "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n";
  if (!send_all(fd, headers)) return false;
  if (request.method == "HEAD") return true;
  for (std::size_t at = 0; at < body.size();) {
    const std::size_t n = std::min<std::size_t>(4096, body.size() - at);
    if (m.drops > 0 && at >= m.drop_after) return false;
    if (m.stalls > 0 && at + n > body.size() / 2) {
      for (int waited = 0; waited < m.stall_ms && !stop_; waited += 5)
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
      m.stalls = 0;
    }
    if (!send_all(fd, std::string_view(body).substr(at, n))) return false;
    at += n;
    request.sent += n;
  }
  return !m.chunked;
}

}  // namespace fr::test
