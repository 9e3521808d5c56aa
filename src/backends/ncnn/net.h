// One graph run by ncnn: rows of the embedding and a state go in, hidden rows or logits and the new state
// come out. All weights of products are in the mapped file; everything is float32.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "backends/ncnn/graph.h"
#include "base/thread_pool.h"

namespace fr::ncnn_backend {

class Net {
 public:
  // `pool`, and the bytes that the graph's matrices point to, must outlive the net. Errors: ncnn does not
  // take the graph.
  static Result<std::unique_ptr<Net>> create(Graph graph, ThreadPool& pool, const std::string& path);
  ~Net();

  const Graph& graph() const;
  // Runs as many tokens as the graph takes. `state`: all blocks one after the other, replaced by the new
  // ones. `out`: [tokens][width] hidden rows if the graph has them, else [tokens][vocabulary] logits. One
  // call at a time. Errors: no memory.
  Status run(std::span<const std::int32_t> tokens, std::span<float> state, std::span<float> out);

 private:
  struct Parts;
  explicit Net(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace fr::ncnn_backend
