#include "core/batch.h"

#include <algorithm>
#include <string>

namespace fr {
namespace {

Error bad_batch(const std::string& what, const std::string& where, const std::string& what_to_do) {
  return usage_error(what + " (" + where + "): " + what_to_do);
}

Status validate_sequences(const Batch& batch, int n_slots) {
  int next = 0;
  std::vector<int> slots;
  for (std::size_t i = 0; i < batch.sequences.size(); ++i) {
    const Sequence& s = batch.sequences[i];
    const std::string where = "sequence " + std::to_string(i) + " of the batch";
    if (s.begin != next || s.count < 1 || s.count > batch.rows() - next) {
      return bad_batch(
          "rows [" + std::to_string(s.begin) + ", +" + std::to_string(s.count) + ") out of place", where,
          "sequences cover the " + std::to_string(batch.rows()) + " rows in order, without gaps");
    }
    if (s.slot < 0 || s.slot >= n_slots) {
      return bad_batch("state slot " + std::to_string(s.slot) + " does not exist", where,
                       "use a slot below " + std::to_string(n_slots));
    }
    next += s.count;
    slots.push_back(s.slot);
  }
  if (next != batch.rows()) {
    return bad_batch("row " + std::to_string(next) + " belongs to no sequence", "batch",
                     "sequences cover the " + std::to_string(batch.rows()) + " rows in order, without gaps");
  }
  std::sort(slots.begin(), slots.end());
  if (const auto twice = std::adjacent_find(slots.begin(), slots.end()); twice != slots.end()) {
    return bad_batch("state slot " + std::to_string(*twice) + " is used by two sequences", "batch",
                     "give every sequence a slot of its own");
  }
  return {};
}

}  // namespace

Status validate(const Batch& batch, int n_vocab, int n_slots) {
  if (batch.tokens.empty()) return bad_batch("no tokens", "batch", "give at least one");
  for (std::size_t i = 0; i < batch.tokens.size(); ++i) {
    if (batch.tokens[i] >= 0 && batch.tokens[i] < n_vocab) continue;
    return bad_batch("token id " + std::to_string(batch.tokens[i]) + " is not in the vocabulary",
                     "row " + std::to_string(i), "ids are 0 to " + std::to_string(n_vocab - 1));
  }
  FR_OK(validate_sequences(batch, n_slots));
  int previous = -1;
  for (const int row : batch.wanted) {
    if (row <= previous || row >= batch.rows()) {
      return bad_batch("wanted row " + std::to_string(row), "batch",
                       "wanted rows are ascending and below " + std::to_string(batch.rows()));
    }
    previous = row;
  }
  return {};
}

Batch part_of(const Batch& all, int begin, int end) {
  Batch part;
  part.tokens.assign(all.tokens.begin() + begin, all.tokens.begin() + end);
  for (const Sequence& s : all.sequences) {
    const int from = std::max(s.begin, begin), to = std::min(s.begin + s.count, end);
    if (from < to) part.sequences.push_back({s.slot, from - begin, to - from});
  }
  for (const int row : all.wanted) {
    if (row >= begin && row < end) part.wanted.push_back(row - begin);
  }
  return part;
}

}  // namespace fr
