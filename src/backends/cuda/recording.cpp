#include "backends/cuda/recording.h"

#include <algorithm>
#include <map>

namespace fr::cuda {
namespace {

std::size_t index(int i) { return static_cast<std::size_t>(i); }

}  // namespace

void Recording::finish() {
  for (std::size_t i = 0; i < commands.size(); ++i) {
    const int at = static_cast<int>(i);
    for (const int v : commands[i].writes) values[index(v)].first = values[index(v)].last = at;
    for (const int v : commands[i].reads) values[index(v)].last = at;
  }
  for (const Output& o : outputs)  // fetched after the last command
    values[index(values[index(o.from.value)].owner)].last = static_cast<int>(commands.size());
  for (const Place place : {Place::rows, Place::wanted, Place::fixed}) plan(place);
}

// Offsets for the values of one place: memory is taken over from a value of exactly the same size that nobody
// reads any more, else it is new. Models repeat the same few sizes in every layer, so this stays close to the
// optimum.
void Recording::plan(Place place) {
  std::vector<Value*> made;
  for (Value& v : values) {
    if (v.place == place && v.owner == &v - values.data() && v.first >= 0) made.push_back(&v);
  }
  std::stable_sort(made.begin(), made.end(),
                   [](const Value* a, const Value* b) { return a->first < b->first; });
  std::multimap<std::int64_t, const Value*> used;  // by size: the latest value at each offset
  std::int64_t& total = sizes_[static_cast<std::size_t>(place)];
  for (Value* v : made) {
    const auto [begin, end] = used.equal_range(v->size);
    const auto free = std::find_if(begin, end, [&](const auto& e) { return e.second->last < v->first; });
    if (free != end) {
      v->offset = free->second->offset;
      free->second = v;
    } else {
      v->offset = total;
      total += v->size;
      used.emplace(v->size, v);
    }
  }
}

std::size_t Recording::scratch_bytes(int rows, int wanted) const {
  std::size_t most = 0;
  for (const Scratch& p : products) {
    const int n = p.extent == Extent::batch ? rows : p.extent == Extent::wanted ? wanted : 1;
    if (n > 0) most = std::max(most, product_scratch(*p.w, n));
  }
  return (most + 255) / 256 * 256;
}

std::int64_t Recording::floats(int rows, int wanted) const {
  return (sizes_[0] * rows + sizes_[1] * wanted + sizes_[2] + 63) / 64 * 64;
}

std::size_t Recording::memory(int rows, int wanted) const {
  return scratch_bytes(rows, wanted) + static_cast<std::size_t>(floats(rows, wanted) + local) * sizeof(float);
}

void Recording::place(Frame& frame, std::byte* memory) const {
  const int rows = frame.step.rows, wanted = frame.step.wanted;
  frame.scratch = memory;
  float* const begin = reinterpret_cast<float*>(memory + scratch_bytes(rows, wanted));
  const std::array<std::int64_t, 3> counts{rows, wanted, 1};
  float* const of_wanted = begin + sizes_[0] * rows;
  const std::array<float*, 3> base{begin, of_wanted, of_wanted + sizes_[1] * wanted};
  frame.local = begin + floats(rows, wanted);
  frame.address.resize(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const Value& v = values[i];
    const auto p = static_cast<std::size_t>(v.place);
    frame.address[i] = v.place == Place::bound
                           ? const_cast<float*>(v.bound)  // commands write only what they make
                           : base[p] + v.offset * counts[p];
  }
  place_views(frame);
}

void Recording::place_views(Frame& frame) const {
  for (std::size_t i = 0; i < values.size(); ++i) {
    const Value& v = values[i];
    if (index(v.owner) != i) frame.address[i] = frame.address[index(v.owner)] + v.offset;
  }
}

}  // namespace fr::cuda
