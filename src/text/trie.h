// A trie over bytes in one flat array (a double array), for the longest match of a fixed set of keys.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

namespace fr {

// A node has a slot and a base; its child for byte c, if there is one, has the slot base ^ c. No two nodes
// share a base, so a slot is that child exactly when its label is c: one load a byte and no search. (J. Aoe,
// "An efficient digital search algorithm by using a double-array structure", IEEE TSE 15, 1989; the xor form
// is also that of S. Yata's darts-clone.) 8 bytes a slot; the World vocabulary takes 0.95 MB.
class Trie {
 public:
  static constexpr std::size_t kMaxSlots = std::size_t{3} << 20;

  struct Match {
    std::int32_t value = 0;  // 0: no key matches
    std::size_t length = 0;  // in bytes
  };

  using KeyOf = std::function<std::string_view(std::int32_t value)>;

  // Values > 0 in the order of their keys (as unsigned bytes); keys are unique and not empty.
  // False when the trie would need more than kMaxSlots. Working memory beside the slots: 12 bytes a key.
  bool build(std::span<const std::int32_t> values, const KeyOf& key_of);

  // The longest key that `text` starts with.
  Match longest_match(std::string_view text) const {
    Match match;
    std::uint32_t base = root_base_;
    for (std::size_t i = 0; i < text.size();) {
      const auto label = static_cast<unsigned char>(text[i]);
      const Slot slot = slots_[base ^ label];
      if ((slot.base_and_label & kLabelMask) != label) break;
      ++i;
      base = slot.base_and_label >> kLabelBits;
      const bool is_key = slot.value != 0;  // selects, not a branch: it would be mispredicted
      match.value = is_key ? slot.value : match.value;
      match.length = is_key ? i : match.length;
    }
    return match;
  }

 private:
  static constexpr std::uint32_t kLabelBits = 9, kLabelMask = (1u << kLabelBits) - 1, kFree = 256;
  struct Slot {
    std::uint32_t base_and_label = kFree;  // base << 9 | label. Base 0 (leaves) belongs to no inner node
    std::int32_t value = 0;
  };
  class Builder;

  std::vector<Slot> slots_ = std::vector<Slot>(256);  // a multiple of 256, so base ^ c is always inside
  std::uint32_t root_base_ = 0;
};

}  // namespace fr
