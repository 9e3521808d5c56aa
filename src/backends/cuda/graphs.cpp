#include "backends/cuda/graphs.h"

#include <algorithm>
#include <array>

namespace fr::cuda {
namespace {

void destroy(Graphs::Entry& e) {
  if (e.exec != nullptr) cudaGraphExecDestroy(e.exec);
}

}  // namespace

Graphs::Entry& Graphs::find(const GraphKey& key) {
  const auto found =
      std::find_if(entries_.begin(), entries_.end(), [&](const Entry& e) { return e.key == key; });
  if (found != entries_.end()) {
    entries_.splice(entries_.begin(), entries_, found);
    found->again = true;
    return *found;
  }
  if (entries_.size() >= most) {
    destroy(entries_.back());
    entries_.pop_back();
  }
  return entries_.emplace_front(Entry{key, nullptr, false});
}

cudaError_t Graphs::begin(Stream stream) {
  return cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
}

cudaGraphExec_t Graphs::end(Stream stream, cudaError_t& error) {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  error = cudaStreamEndCapture(stream, &graph);
  if (error == cudaSuccess) error = cudaGraphInstantiate(&exec, graph, 0);
  if (graph != nullptr) cudaGraphDestroy(graph);
  return error == cudaSuccess ? exec : nullptr;
}

void Graphs::drop(int program) {
  std::erase_if(entries_, [&](Entry& e) {
    if (e.key.program != program) return false;
    destroy(e);
    return true;
  });
}

void Graphs::clear() {
  for (Entry& e : entries_) destroy(e);
  entries_.clear();
}

int bucket_of(int rows) {
  static constexpr std::array buckets{1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256};
  return *std::lower_bound(buckets.begin(), buckets.end() - 1, rows);
}

}  // namespace fr::cuda
