#include "tools_core/sha256.h"

#include <openssl/evp.h>

#include <array>

#include "base/result.h"

namespace fr {
namespace {

template <class T>
EVP_MD_CTX* evp(T* p) {
  return reinterpret_cast<EVP_MD_CTX*>(p);
}

}  // namespace

void Sha256::Release::operator()(Context* p) const { ::EVP_MD_CTX_free(evp(p)); }

Sha256::Sha256() : context_(reinterpret_cast<Context*>(::EVP_MD_CTX_new())) { restart(); }

void Sha256::restart() { FR_CHECK(::EVP_DigestInit_ex(evp(context_.get()), ::EVP_sha256(), nullptr) == 1); }

void Sha256::add(std::span<const std::byte> bytes) {
  FR_CHECK(::EVP_DigestUpdate(evp(context_.get()), bytes.data(), bytes.size()) == 1);
}

std::string Sha256::hex() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  FR_CHECK(::EVP_DigestFinal_ex(evp(context_.get()), digest.data(), &size) == 1);
  std::string out;
  for (unsigned i = 0; i < size; ++i) {
    out += "0123456789abcdef"[digest[i] >> 4];
    out += "0123456789abcdef"[digest[i] & 15];
  }
  return out;
}

}  // namespace fr
