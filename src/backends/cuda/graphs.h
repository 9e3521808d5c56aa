// Captured steps, kept by what they were captured for.
#pragma once
#include <cuda_runtime.h>

#include <list>

#include "backends/cuda/kernels.h"

namespace fr::cuda {

struct GraphKey {
  int program = 0;
  int rows = 0, wanted = 0;
  bool operator==(const GraphKey&) const = default;
};

class Graphs {
 public:
  static constexpr std::size_t most = 64;

  Graphs() = default;
  Graphs(const Graphs&) = delete;
  Graphs& operator=(const Graphs&) = delete;
  ~Graphs() { clear(); }

  // A step that was asked for before and has no graph yet is worth one: `exec` is null and `again` true.
  struct Entry {
    GraphKey key;
    cudaGraphExec_t exec = nullptr;
    bool again = false;
  };
  // The entry of the key, made if there is none; it is then the one used last. The one unused for longest
  // goes when there are too many.
  Entry& find(const GraphKey& key);
  // What fills the stream between the two calls is captured instead of run. end: null and the error in
  // `error` if it could not be.
  static cudaError_t begin(Stream stream);
  static cudaGraphExec_t end(Stream stream, cudaError_t& error);

  void drop(int program);
  void clear();
  std::size_t size() const { return entries_.size(); }

 private:
  std::list<Entry> entries_;  // the latest used first
};

// The number of rows that a step of `rows` single tokens is padded to, so that few graphs serve all.
int bucket_of(int rows);

}  // namespace fr::cuda
