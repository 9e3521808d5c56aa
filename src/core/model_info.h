// What a model is, whoever runs it.
#pragma once
#include <string>
#include <utility>
#include <vector>

namespace fr {

// Sizes, all read from names and shapes.
struct ModelInfo {
  std::string version;  // "4", "5.0", "5.1", "5.2", "6", "7"
  int n_layer = 0;
  int n_embd = 0;
  int n_vocab = 0;
  int n_ffn = 0;
  int n_head = 0;                                       // 0 for v4
  int head_size = 0;                                    // 0 for v4
  std::vector<std::pair<std::string, int>> lora_ranks;  // v6: mix, decay; v7: w, a, v, g
  std::vector<std::string> notes;                       // what is odd about the file
};

}  // namespace fr
