// Drawing tokens from logits in GPU memory, with the bits of sample/sampler.cpp: the kernel, and the form in
// which it reads its requests. Plain types only, so that both compilers read this header.
#pragma once
#include <cstddef>
#include <cstdint>

#include "backends/cuda/kernels.h"

namespace fr::cuda {

// One row's core/draw.h: DrawRequest. A buffer of requests is PackedDraw [rows], PackedBias [all penalties
// and biases], int32 [all bans]; the offsets are bytes from its beginning.
struct PackedBias {
  std::int32_t id;
  float value;
};
struct PackedDraw {
  double temperature, filter_temperature, top_p, min_p, uniform;
  std::int32_t top_k;
  bool greedy, top_p_of_top_k, top_p_exceeds, equals_stay;
  std::uint32_t n_penalties, n_biases, n_banned;
  std::uint64_t penalties, biases, banned;
};

// core/draw.h: DrawResult.
enum class Fault : std::int32_t { none, not_a_number, infinite, all_banned };
struct Drawn {
  std::int32_t token;
  Fault fault;
};

// logits: row i for request i, vocab > 0 numbers. requests: 16-byte aligned, in GPU memory, as the logits.
// scratch: draw_scratch() bytes. drawn: [rows].
struct Draw {
  const std::byte* requests = nullptr;
  Rows logits;
  int rows = 0, vocab = 0;
  void* scratch = nullptr;
  Drawn* drawn = nullptr;
};
std::size_t draw_scratch(int rows, int vocab);
void draw(Stream stream, const Draw& d);

}  // namespace fr::cuda
