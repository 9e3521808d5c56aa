#include "text/trie.h"

#include <algorithm>
#include <bit>
#include <deque>

#include "base/result.h"

namespace fr {
namespace {

std::size_t common_prefix(std::string_view a, std::string_view b) {
  const std::size_t n = std::min(a.size(), b.size());
  std::size_t i = 0;
  while (i < n && a[i] == b[i]) ++i;
  return i;
}

}  // namespace

// Places nodes level by level: the upper levels, which every match walks through, lie close together.
class Trie::Builder {
 public:
  Builder(Trie& trie, std::span<const std::int32_t> values, const KeyOf& key_of)
      : trie_(trie), values_(values), key_of_(key_of), base_used_(256), free_(4, ~std::uint64_t{0}) {
    base_used_[0] = true;
  }

  bool run() {
    if (!values_.empty()) queue_.push_back({kRoot, 0, static_cast<std::uint32_t>(values_.size())});
    for (std::size_t depth = 0; !queue_.empty(); ++depth) {
      for (std::size_t level = queue_.size(); level > 0; --level) {
        const Node node = queue_.front();
        queue_.pop_front();
        if (!place(node, depth)) return false;
      }
    }
    return true;
  }

 private:
  static_assert(kMaxSlots <= std::size_t{1} << (32 - kLabelBits));
  static constexpr std::uint32_t kRoot = UINT32_MAX;
  static constexpr std::uint32_t kOpenBlocks = 8;  // only the last blocks are searched for room: linear time

  // An inner node: the keys of values [begin, end) share its prefix and are longer than it.
  struct Node {
    std::uint32_t slot, begin, end;
  };
  struct Child {
    std::int32_t value;        // 0: only a prefix of keys
    std::uint32_t begin, end;  // the longer keys below it
  };

  bool place(const Node& node, std::size_t depth) {
    children_.clear();
    labels_.clear();
    for (std::uint32_t i = node.begin; i < node.end; ++i) {
      const std::string_view key = key_of_(values_[i]);
      const auto label = static_cast<unsigned char>(key[depth]);
      if (labels_.empty() || labels_.back() != label) {
        const bool is_key = key.size() == depth + 1;  // the shortest key of a child sorts first
        labels_.push_back(label);
        children_.push_back({is_key ? values_[i] : 0, i + (is_key ? 1 : 0), i});
      }
      children_.back().end = i + 1;
    }
    const std::uint32_t base = find_base();
    if (base == 0) return false;
    base_used_[base] = true;
    if (node.slot == kRoot) {
      trie_.root_base_ = base;
    } else {
      trie_.slots_[node.slot].base_and_label |= base << kLabelBits;
    }
    for (std::size_t i = 0; i < labels_.size(); ++i) {
      const Child& child = children_[i];
      const std::uint32_t slot = base ^ labels_[i];
      trie_.slots_[slot] = {labels_[i], child.value};
      free_[slot / 64] &= ~(std::uint64_t{1} << (slot % 64));
      if (child.begin < child.end) queue_.push_back({slot, child.begin, child.end});
    }
    return true;
  }

  // A base that no node has and whose slots for labels_ are free; 0 when the trie is full.
  std::uint32_t find_base() {
    const auto size = static_cast<std::uint32_t>(trie_.slots_.size());
    for (std::size_t word = (size - std::min(size, 256 * kOpenBlocks)) / 64; word < free_.size(); ++word) {
      for (std::uint64_t bits = free_[word]; bits != 0; bits &= bits - 1) {
        const auto slot =
            static_cast<std::uint32_t>(64 * word) + static_cast<std::uint32_t>(std::countr_zero(bits));
        const std::uint32_t base = slot ^ labels_[0];
        if (!base_used_[base] && fits(base)) return base;
      }
    }
    if (size + 256 > kMaxSlots) return 0;
    trie_.slots_.resize(size + 256);
    base_used_.resize(size + 256);
    free_.resize(free_.size() + 4, ~std::uint64_t{0});
    return size ^ labels_[0];
  }

  bool fits(std::uint32_t base) const {
    return std::all_of(labels_.begin(), labels_.end(), [&](unsigned char c) { return is_free(base ^ c); });
  }
  bool is_free(std::uint32_t slot) const { return (free_[slot / 64] >> (slot % 64) & 1) != 0; }

  Trie& trie_;
  std::span<const std::int32_t> values_;
  const KeyOf& key_of_;
  std::deque<Node> queue_;
  std::vector<bool> base_used_;
  std::vector<std::uint64_t> free_;    // one bit a slot
  std::vector<unsigned char> labels_;  // of the node being placed
  std::vector<Child> children_;        // one for each label
};

bool Trie::build(std::span<const std::int32_t> values, const KeyOf& key_of) {
  std::size_t nodes = 0;
  std::string_view previous;
  for (const std::int32_t value : values) {
    const std::string_view key = key_of(value);
    const std::size_t shared = common_prefix(previous, key);
    FR_CHECK(value > 0 && shared < key.size());  // not empty, sorted, unique
    nodes += key.size() - shared;
    previous = key;
  }
  if (nodes > kMaxSlots) return false;
  // Once, so that a large trie is never copied: growing would take its size again.
  slots_.reserve(nodes < kMaxSlots / 4 ? nodes + nodes / 4 + 512 : kMaxSlots);
  return Builder(*this, values, key_of).run();
}

}  // namespace fr
