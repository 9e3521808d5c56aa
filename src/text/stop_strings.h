// Finds stop strings in text that arrives in pieces, holding back what may become one.
#pragma once
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace fr {

// The match is the stop string that is complete first; of those complete at the same byte, the longest. So
// the emitted text holds no stop string and depends on the bytes alone, never on how they are cut into
// pieces. Text and stop strings are plain bytes; where both are UTF-8, emitted pieces end at character
// borders. Not thread-safe. Cost of a push: (length of the piece + longest stop) x number of stops.
class StopStrings {
 public:
  struct Piece {
    std::string text;                  // safe to show
    std::optional<std::size_t> match;  // index of the stop string found: the text ends before it
    std::string after;                 // with a match: the bytes of this push behind the stop string
  };

  // Usage error when a stop string is empty. An empty list never matches and holds nothing back.
  static Result<StopStrings> create(std::vector<std::string> stops);

  // After a match the object is as new.
  Piece push(std::string_view text);
  // No more text will come: gives what was held back. The object is as new.
  std::string finish();

  const std::vector<std::string>& stops() const { return stops_; }

 private:
  explicit StopStrings(std::vector<std::string> stops) : stops_(std::move(stops)) {}

  std::vector<std::string> stops_;
  std::string held_;  // the longest end of the text so far that is a proper beginning of a stop string
};

}  // namespace fr
