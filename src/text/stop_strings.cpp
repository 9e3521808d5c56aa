#include "text/stop_strings.h"

#include <algorithm>
#include <utility>

namespace fr {

Result<StopStrings> StopStrings::create(std::vector<std::string> stops) {
  if (std::any_of(stops.begin(), stops.end(), [](const std::string& s) { return s.empty(); })) {
    return usage_error("a stop string is empty (it would stop before the first token): leave it out");
  }
  return StopStrings(std::move(stops));
}

StopStrings::Piece StopStrings::push(std::string_view text) {
  std::string all = std::exchange(held_, {});
  all += text;

  Piece piece;
  std::size_t begin = 0, end = std::string::npos;
  for (std::size_t i = 0; i < stops_.size(); ++i) {
    const std::size_t at = all.find(stops_[i]);
    if (at == std::string::npos) continue;
    const std::size_t stop_end = at + stops_[i].size();
    if (stop_end < end || (stop_end == end && at < begin)) {
      begin = at;
      end = stop_end;
      piece.match = i;
    }
  }
  if (piece.match) {
    piece.after = all.substr(end);
    all.resize(begin);
    piece.text = std::move(all);
    return piece;
  }

  std::size_t hold = 0;
  for (const std::string& stop : stops_) {
    for (std::size_t n = std::min(stop.size() - 1, all.size()); n > hold; --n) {
      if (std::string_view(all).ends_with(std::string_view(stop).substr(0, n))) hold = n;
    }
  }
  held_ = all.substr(all.size() - hold);
  all.resize(all.size() - hold);
  piece.text = std::move(all);
  return piece;
}

std::string StopStrings::finish() { return std::exchange(held_, {}); }

}  // namespace fr
