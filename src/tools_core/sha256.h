// SHA-256 of data that comes in pieces (OpenSSL's libcrypto).
#pragma once
#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace fr {

class Sha256 {
 public:
  Sha256();
  void restart();
  void add(std::span<const std::byte> bytes);
  std::string hex();  // 64 digits, lower case; restart() before the next use

 private:
  struct Context;
  struct Release {
    void operator()(Context* p) const;
  };
  std::unique_ptr<Context, Release> context_;
};

}  // namespace fr
