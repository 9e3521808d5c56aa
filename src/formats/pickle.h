// A reader of pickles (protocols 2 to 5) that builds plain values and executes nothing. Calls of allowed
// globals become `call` values, which the caller interprets; any other global is an error. Format: Python's
// pickletools.py.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace fr {

struct PickleValue {
  enum class Kind : std::uint8_t {
    unset,  // only inside the reader
    none,
    boolean,      // integer = 0 or 1
    integer,      // fits int64
    big_integer,  // text(): little-endian two's complement, more than 8 bytes
    real,
    text,        // text(): normally UTF-8, not checked
    bytes,       // text()
    global,      // integer = index into the list of allowed globals
    tuple,       // items()
    list,        // items()
    dict,        // items(): key, value, key, value, ... in order of insertion; keys may repeat
    call,        // items(): the global and the tuple of arguments
    persistent,  // items(): one value, the persistent id
  };
  Kind kind = Kind::unset;
  std::uint32_t length = 0;
  union {
    std::int64_t integer = 0;
    double real;
    const char* begin;
  };

  bool is(Kind k) const { return kind == k; }
  std::string_view text() const { return {begin, length}; }  // text, bytes and big_integer only
};

class Pickle {
 public:
  // Names of globals that may occur, "module name". The first must be "collections OrderedDict": calling it
  // without arguments gives a dict.
  using Globals = std::span<const std::string_view>;

  // Reads the pickle that begins at bytes[begin] and ends before bytes[limit]. `bytes` is the whole file, so
  // that errors can name positions in it; texts of the result point into it. `path` is for error messages.
  // Bounded whatever the pickle does: no recursion, linear time, at most `max_values` values and marks, each
  // of which can cost up to 80 bytes while reading.
  static Result<Pickle> read(std::span<const std::byte> bytes, std::size_t begin, std::size_t limit,
                             Globals globals, std::size_t max_values, std::string_view path);

  const PickleValue& root() const { return root_; }
  std::size_t end() const { return end_; }  // position after the STOP opcode
  std::span<const PickleValue> items(const PickleValue& container) const;
  // Every persistent value in order of appearance.
  std::span<const PickleValue> persistent() const { return persistent_; }

 private:
  friend class PickleReader;
  PickleValue root_;
  std::size_t end_ = 0;
  std::vector<PickleValue> fixed_;  // items of tuples, calls, persistents: integer = first, length
  std::vector<std::vector<PickleValue>> growing_;  // items of lists and dicts: integer = index
  std::vector<PickleValue> persistent_;
};

}  // namespace fr
