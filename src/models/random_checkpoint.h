// Random weights under the official names: for benchmarks that need no file, and for tests. The same seed
// gives the same bits on every machine (with `zeros`, up to the rounding of the C library's functions).
#pragma once
#include <cstdint>
#include <string>

#include "base/checkpoint.h"
#include "base/result.h"

namespace fr {

struct RandomShape {
  std::string version = "7";  // "4", "5.0", "5.1", "5.2", "6", "7"
  int n_layer = 2;
  int n_embd = 128;  // a multiple of head_size
  int n_ffn = 512;
  int n_vocab = 256;
  int head_size = 64;                                       // not v4
  int rank_mix = 32;                                        // v6
  int rank_w = 64, rank_a = 64, rank_v = 32, rank_g = 128;  // v6: w only, its decay; v7: all
  // What some files lack or add: the norm of the embedding, and biases of att.output and head.
  bool ln0 = true;
  bool biases = false;
};

// The released sizes "0.1b", "0.4b", "1.5b", "2.9b", "7.2b", "13.3b" of a version. Error: no such size or
// version.
Result<RandomShape> released_shape(const std::string& size, const std::string& version);

struct RandomOptions {
  DType dtype = DType::bf16;  // fp32, fp16 or bf16
  std::uint64_t seed = 1;
  // Share of zeros in the squared ReLU of the channel mix, 0 < zeros < 1; otherwise left as it falls, about
  // half. Each ffn.key is shifted along ln2's bias, a part of its input that is the same for every token.
  double zeros = 0;
};

// Error: not enough memory.
Result<Checkpoint> random_checkpoint(const RandomShape& shape, const RandomOptions& options = {});

}  // namespace fr
