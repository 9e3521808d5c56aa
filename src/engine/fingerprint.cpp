#include "engine/fingerprint.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <span>
#include <vector>

namespace fr {
namespace {

// The stored numbers at most 64 positions apart evenly; the first and the last are always among them.
std::vector<float> sample_values(const TensorView& t) {
  constexpr std::int64_t most = 64;
  const std::int64_t n = t.size(), count = std::min(n, most);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t at = count == 1 ? 0 : i * (n - 1) / (count - 1);
    t.read(at, std::span(values).subspan(static_cast<std::size_t>(i), 1));
  }
  return values;
}

}  // namespace

std::string model_fingerprint(const Checkpoint& file) {
  std::vector<const TensorView*> tensors;
  for (const TensorView& t : file.tensors) {
    if (t.readable()) tensors.push_back(&t);
  }
  std::sort(tensors.begin(), tensors.end(), [](const auto* a, const auto* b) { return a->name < b->name; });
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> hash(XXH3_createState(), &XXH3_freeState);
  FR_CHECK(hash != nullptr);
  XXH3_128bits_reset(hash.get());
  const auto add = [&](const void* data, std::size_t size) { XXH3_128bits_update(hash.get(), data, size); };
  for (const TensorView* t : tensors) {
    add(t->name.c_str(), t->name.size() + 1);
    for (const std::int64_t d : t->shape) {
      if (d != 1) add(&d, sizeof d);
    }
    const std::vector<float> values = sample_values(*t);
    add(values.data(), values.size() * sizeof(float));
  }
  const XXH128_hash_t h = XXH3_128bits_digest(hash.get());
  char text[33];
  std::snprintf(text, sizeof text, "%016llx%016llx", static_cast<unsigned long long>(h.high64),
                static_cast<unsigned long long>(h.low64));
  return text;
}

}  // namespace fr
