// Errors as values. Result<T> for whatever the outside can cause (files, memory, arguments);
// FR_CHECK for our own bugs. The library never prints, exits or aborts on input.
#pragma once
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <variant>

namespace fr {

// The numbers are the exit codes of the programs.
enum class ErrorCode { runtime = 1, usage = 2, invalid_file = 3, network = 4, interrupted = 130 };

// message reads "<what> (<where>): <what to do>", one line, no prefix.
struct Error {
  ErrorCode code = ErrorCode::runtime;
  std::string message;
};

inline Error runtime_error(std::string message) { return {ErrorCode::runtime, std::move(message)}; }
inline Error usage_error(std::string message) { return {ErrorCode::usage, std::move(message)}; }
inline Error file_error(std::string message) { return {ErrorCode::invalid_file, std::move(message)}; }

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : v_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : v_(std::in_place_index<1>, std::move(error)) {}
  bool ok() const { return v_.index() == 0; }
  explicit operator bool() const { return ok(); }
  T& value() & { return *std::get_if<0>(&v_); }
  const T& value() const& { return *std::get_if<0>(&v_); }
  T&& value() && { return std::move(*std::get_if<0>(&v_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return std::get_if<0>(&v_); }
  const T* operator->() const { return std::get_if<0>(&v_); }
  const Error& error() const& { return *std::get_if<1>(&v_); }
  Error&& error() && { return std::move(*std::get_if<1>(&v_)); }

 private:
  std::variant<T, Error> v_;
};

// Success or an error: `return {};` is success.
template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)), ok_(false) {}
  bool ok() const { return ok_; }
  explicit operator bool() const { return ok_; }
  const Error& error() const& { return error_; }
  Error&& error() && { return std::move(error_); }

 private:
  Error error_;
  bool ok_ = true;
};
using Status = Result<void>;

}  // namespace fr

#define FR_CAT_(a, b) a##b
#define FR_CAT(a, b) FR_CAT_(a, b)
// FR_TRY(auto x, call()): x is the value of a Result, or the enclosing function returns its error.
#define FR_TRY(decl, ...)                                                                    \
  auto FR_CAT(fr_result_, __LINE__) = (__VA_ARGS__);                                         \
  if (!FR_CAT(fr_result_, __LINE__)) return std::move(FR_CAT(fr_result_, __LINE__)).error(); \
  decl = std::move(FR_CAT(fr_result_, __LINE__)).value()
// FR_OK(call()): return the error of a Status, if it has one.
#define FR_OK(...)                                         \
  do {                                                     \
    auto fr_status_ = (__VA_ARGS__);                       \
    if (!fr_status_) return std::move(fr_status_).error(); \
  } while (0)
#define FR_CHECK(condition)                                                                              \
  do {                                                                                                   \
    if (!(condition)) {                                                                                  \
      std::fprintf(stderr, "faster-rwkv: internal error: %s (%s:%d)\n", #condition, __FILE__, __LINE__); \
      std::abort();                                                                                      \
    }                                                                                                    \
  } while (0)
