// The memory of a sequence: named blocks of float32, the same for every backend when exported ("canonical
// form").
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "core/ops.h"

namespace fr {

// Names and layouts are those of the official implementations: `blocks.N.att.x_prev` [D] (input of the block
// after ln1), `att.kv` v5/v6 [H][N key][N value], v7 [H][N value][N key], `ffn.x_prev` [D]; v4 `att.aa`,
// `att.bb`, `att.pp` [D] (pp starts at -1e30).
struct StateBlock {
  std::string name;
  std::vector<int> shape;
  float initial = 0;
  int layer = 0;
  std::int64_t offset = 0;  // floats from the start of the canonical form
  std::int64_t size = 0;    // floats
};

struct StateSpec {
  std::vector<StateBlock> blocks;  // layer by layer
  std::int64_t size = 0;           // floats

  // Appends a block and returns the handle by which a model names it.
  StateRef add(std::string name, int layer, std::vector<int> shape, float initial = 0);
};

}  // namespace fr
