// Any bytes as the .param of an ncnn export over some weights: an error of one line, or a graph whose
// matrices lie inside the weights.
#include <cstdlib>

#include "backends/ncnn/graph.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace fr::ncnn_backend;
  // What is behind the first zero byte is the .bin.
  const std::string_view all(reinterpret_cast<const char*>(data), size);
  const std::string_view text = all.substr(0, all.find('\0'));
  const std::string_view weights = all.substr(text.size());  // numbers begin with a zero byte
  const auto layers = parse_param(text, "fuzz");
  if (!layers) return layers.error().message.find('\n') == std::string::npos ? 0 : (std::abort(), 0);
  for (const ParamLayer& l : *layers) (void)param_line(l);
  const auto graph = make_graph(*layers, std::as_bytes(std::span(weights)), "fuzz");
  if (!graph) return graph.error().message.find('\n') == std::string::npos ? 0 : (std::abort(), 0);
  // Every row of every matrix can be read.
  std::vector<float> row;
  for (const Linear& l : graph->linears) {
    if (l.matrix.transposed) continue;
    row.resize(static_cast<std::size_t>(l.matrix.in));
    for (int i = 0; i < l.matrix.out; ++i) read_row(l.matrix, i, row);
  }
  row.resize(static_cast<std::size_t>(graph->width()));
  for (int i = 0; i < graph->table.matrix.out; ++i) graph->table.read(i, row);
  return 0;
}
