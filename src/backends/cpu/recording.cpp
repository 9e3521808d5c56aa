#include "backends/cpu/recording.h"

#include <algorithm>
#include <map>
#include <numeric>

namespace fr::cpu {
namespace {

std::size_t index(int i) { return static_cast<std::size_t>(i); }

}  // namespace

void Recording::finish(bool in_order) {
  order(in_order);
  for (const Place place : {Place::rows, Place::wanted, Place::fixed}) plan(place);
}

// Puts every command into the first stage in which all that it needs is there; commands of a stage need no
// barrier between them. Uses of a state block keep their order.
void Recording::order(bool in_order) {
  std::vector<int> made(values.size(), -1), stage_of(commands.size());
  std::map<int, int> block_used;
  for (std::size_t i = 0; i < commands.size(); ++i) {
    const Command& c = commands[i];
    int stage = in_order ? static_cast<int>(i) : 0;
    for (const int v : c.reads) stage = std::max(stage, made[index(v)] + 1);
    for (const int b : c.blocks) {
      if (const auto used = block_used.find(b); used != block_used.end())
        stage = std::max(stage, used->second + 1);
    }
    for (const int b : c.blocks) block_used[b] = stage;
    for (const int v : c.writes) {
      made[index(v)] = stage;
      values[index(v)].first = values[index(v)].last = stage;
    }
    for (const int v : c.reads) values[index(v)].last = std::max(values[index(v)].last, stage);
    stage_of[i] = stage;
  }
  std::vector<std::size_t> sorted(commands.size());
  std::iota(sorted.begin(), sorted.end(), 0u);
  std::stable_sort(sorted.begin(), sorted.end(),
                   [&](std::size_t a, std::size_t b) { return stage_of[a] < stage_of[b]; });
  std::vector<Command> ordered;
  for (const std::size_t i : sorted) {
    if (ordered.empty() || stage_of[i] != stage_of[sorted[ordered.size() - 1]])
      stages_.push_back(ordered.size());
    ordered.push_back(std::move(commands[i]));
  }
  stages_.push_back(ordered.size());
  commands = std::move(ordered);
}

// Offsets for the values of one place: memory is taken over from a value of exactly the same size whose last
// reader's stage is past, else it is new. Models repeat the same few sizes in every layer, so this stays
// close to the optimum.
void Recording::plan(Place place) {
  std::vector<Value*> live;
  for (Value& v : values) {
    if (v.place == place && v.owner == &v - values.data() && v.first >= 0) live.push_back(&v);
  }
  std::stable_sort(live.begin(), live.end(),
                   [](const Value* a, const Value* b) { return a->first < b->first; });
  std::multimap<std::int64_t, const Value*> used;  // by size: the latest value at each offset
  std::int64_t& total = sizes_[static_cast<std::size_t>(place)];
  for (Value* v : live) {
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

void Recording::place(Frame& frame, float* memory) const {
  const std::array<std::int64_t, 3> counts{frame.rows(), frame.wanted(), 1};
  float* const wanted = memory + sizes_[0] * counts[0];
  const std::array<float*, 3> base{memory, wanted, wanted + sizes_[1] * counts[1]};
  frame.address.resize(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const Value& v = values[i];
    if (v.place == Place::bound) {
      frame.address[i] = const_cast<float*>(v.bound);  // commands write only what they make
    } else {
      const auto p = static_cast<std::size_t>(v.place);
      frame.address[i] = base[p] + v.offset * counts[p];
    }
  }
  place_views(frame);
}

void Recording::place_views(Frame& frame) const {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (index(values[i].owner) != i)
      frame.address[i] = frame.address[index(values[i].owner)] + values[i].offset;
  }
}

int Recording::items(int stage, const Frame& frame) const {
  int all = 0;
  for (const Command& c : stage_commands(stage)) all += c.items(frame);
  return all;
}

// Items of all commands of a stage are numbered through.
void Recording::run(int stage, const Frame& frame, const Worker& worker, int begin, int end) const {
  int first = 0;  // of the command at hand
  for (const Command& c : stage_commands(stage)) {
    const int items = c.items(frame), from = std::max(begin - first, 0), to = std::min(end - first, items);
    if (from < to) c.run(frame, worker, from, to);
    first += items;
  }
}

void Recording::run_alone(const Frame& frame, const Worker& worker) const {
  for (const Command& c : commands) {
    if (const int items = c.items(frame); items > 0) c.run(frame, worker, 0, items);
  }
}

}  // namespace fr::cpu
