// What the sampler's tests share: rows of logits from integer hashes, and parameters that filter nothing.
#pragma once
#include <cstdint>
#include <vector>

#include "base/random.h"
#include "sample/sampler.h"

namespace fr {

// Multiples of 1 / granularity in [-spread / 2, spread / 2): a coarse granularity gives many equal logits.
inline std::vector<float> make_logits(std::uint64_t seed, int size, int spread, int granularity) {
  std::vector<float> logits;
  for (int i = 0; i < size; ++i) {
    const auto bits = random_bits(seed, static_cast<std::uint64_t>(i));
    const auto steps = static_cast<std::uint64_t>(spread) * static_cast<std::uint64_t>(granularity);
    logits.push_back(static_cast<float>(bits % steps) / static_cast<float>(granularity) -
                     static_cast<float>(spread) / 2);
  }
  return logits;
}

// No filters, no penalties.
inline SamplerParams plain(SamplerProfile profile) {
  SamplerParams p;
  p.profile = profile;
  p.top_p = 1;
  p.presence_penalty = p.frequency_penalty = 0;
  return p;
}

}  // namespace fr
