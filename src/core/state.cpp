#include "core/state.h"

#include <utility>

namespace fr {

StateRef StateSpec::add(std::string name, int layer, std::vector<int> shape, float initial) {
  StateBlock block{std::move(name), std::move(shape), initial, layer, size, 1};
  for (const int n : block.shape) block.size *= n;
  size += block.size;
  const std::vector<int>& s = block.shape;
  const Shape ref = s.size() == 3 ? Shape{{s[0], s[1], s[2]}} : Shape{{1, 1, s[0]}};
  blocks.push_back(std::move(block));
  return {static_cast<int>(blocks.size()) - 1, ref};
}

}  // namespace fr
