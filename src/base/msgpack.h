// MessagePack (github.com/msgpack/msgpack, spec.md): a cursor over bytes of unknown origin, and the encodings
// that Python's msgpack chooses.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace fr {

// Reads value by value, never past the end. After nothing was returned the position is of no use.
class MsgpackCursor {
 public:
  enum class Kind { none, map, array, text, bytes, integer, other };  // none: the end, or no msgpack

  explicit MsgpackCursor(std::string_view file) : file_(file) {}

  std::size_t offset() const { return at_; }
  std::size_t remaining() const { return file_.size() - at_; }
  Kind next() const;

  // Number of pairs or of values that follow; each takes a byte at least, so it is at most remaining().
  std::optional<std::uint64_t> map();
  std::optional<std::uint64_t> array();
  // Integers beyond int64 are clamped to its ends.
  std::optional<std::int64_t> integer();
  // Text or bytes (old writers had one type for both), as a view into the file.
  std::optional<std::string_view> text();
  // One value with all that is inside it, in time proportional to its length.
  bool skip();

 private:
  unsigned take() { return static_cast<unsigned char>(file_[at_++]); }
  std::optional<std::uint64_t> big_endian(std::size_t bytes);
  std::optional<std::uint64_t> count(unsigned fixed, unsigned wide, std::uint64_t values);
  std::optional<std::uint64_t> skip_head();

  std::string_view file_;
  std::size_t at_ = 0;
};

// Append the shortest form. Sizes are below 2^32 (FR_CHECK).
void pack_map(std::string& out, std::uint64_t pairs);
void pack_array(std::string& out, std::uint64_t values);
void pack_integer(std::string& out, std::uint64_t value);
void pack_text(std::string& out, std::string_view text);
void pack_bytes_head(std::string& out, std::uint64_t size);  // the bytes themselves follow

}  // namespace fr
