#include "backends/ncnn/net.h"

#include <allocator.h>
#include <datareader.h>
#include <net.h>

#include <cmath>
#include <cstring>
#include <map>
#include <utility>
#include <vector>

namespace fr::ncnn_backend {
namespace {

// A matrix of ncnn's own memory: layers that work in place count its references.
ncnn::Mat make_mat(const Dims& d, ncnn::Allocator* allocator = nullptr) {
  if (d.size() == 1) return ncnn::Mat(d[0], 4u, allocator);
  if (d.size() == 2) return ncnn::Mat(d[1], d[0], 4u, allocator);
  return ncnn::Mat(d[2], d[1], d[0], 4u, allocator);
}

// Channels of a 3-D Mat may have gaps between them.
void fill(ncnn::Mat& m, const float* values) {
  const std::size_t n = static_cast<std::size_t>(m.w) * static_cast<std::size_t>(m.h);
  for (int c = 0; c < m.c; ++c)
    std::memcpy(static_cast<float*>(m.channel(c)), values + static_cast<std::size_t>(c) * n,
                n * sizeof(float));
}
void copy_out(const ncnn::Mat& m, float* values) {
  const std::size_t n = static_cast<std::size_t>(m.w) * static_cast<std::size_t>(m.h);
  for (int c = 0; c < m.c; ++c)
    std::memcpy(values + static_cast<std::size_t>(c) * n, static_cast<const float*>(m.channel(c)),
                n * sizeof(float));
}
bool has_dims(const ncnn::Mat& m, const Dims& d) {
  if (m.empty() || m.dims != static_cast<int>(d.size()) || m.elempack != 1 || m.elemsize != 4u) return false;
  const int sizes[] = {m.w, m.h, m.c};
  for (std::size_t i = 0; i < d.size(); ++i) {
    if (sizes[i] != d[d.size() - 1 - i]) return false;
  }
  return true;
}

struct Shared {
  const Graph* graph = nullptr;
  ThreadPool* pool = nullptr;
  std::vector<ncnn::Mat> constants;
};

void activate(Activation activation, float* y, std::size_t n) {
  if (activation == Activation::relu) {
    for (std::size_t i = 0; i < n; ++i) y[i] = y[i] > 0 ? y[i] : 0.0f;
  } else if (activation == Activation::sigmoid) {
    for (std::size_t i = 0; i < n; ++i) y[i] = 1.0f / (1.0f + std::exp(-y[i]));
  }
}

class LinearLayer final : public ncnn::Layer {
 public:
  explicit LinearLayer(const Shared& shared) : shared_(shared) { one_blob_only = true; }
  int load_param(const ncnn::ParamDict& pd) override {
    index_ = static_cast<std::size_t>(pd.get(0, 0));
    return index_ < shared_.graph->linears.size() ? 0 : -1;
  }
  int forward(const ncnn::Mat& x, ncnn::Mat& y, const ncnn::Option& opt) const override {
    const Linear& l = shared_.graph->linears[index_];
    const int rows = x.dims == 1 ? 1 : x.h;
    if (x.dims == 1) {
      y.create(l.matrix.out, 4u, opt.blob_allocator);
    } else {
      y.create(l.matrix.out, rows, 4u, opt.blob_allocator);
    }
    if (y.empty()) return -100;
    multiply(l.matrix, x, rows, y, *shared_.pool);
    activate(l.activation, y, static_cast<std::size_t>(rows) * static_cast<std::size_t>(l.matrix.out));
    return 0;
  }

 private:
  const Shared& shared_;
  std::size_t index_ = 0;
};

class ConstantLayer final : public ncnn::Layer {
 public:
  explicit ConstantLayer(const Shared& shared) : shared_(shared) {}
  int load_param(const ncnn::ParamDict& pd) override {
    index_ = static_cast<std::size_t>(pd.get(0, 0));
    return index_ < shared_.constants.size() ? 0 : -1;
  }
  int forward(const std::vector<ncnn::Mat>&, std::vector<ncnn::Mat>& tops,
              const ncnn::Option&) const override {
    tops[0] = shared_.constants[index_];
    return 0;
  }

 private:
  const Shared& shared_;
  std::size_t index_ = 0;
};

template <class T>
ncnn::Layer* create_layer(void* shared) {
  return new T(*static_cast<const Shared*>(shared));
}

// The numbers that ncnn's own layers load.
class FloatReader final : public ncnn::DataReader {
 public:
  explicit FloatReader(std::span<const float> values) : rest_(std::as_bytes(values)) {}
  std::size_t read(void* to, std::size_t size) const override {
    if (size > rest_.size()) return 0;
    std::memcpy(to, rest_.data(), size);
    rest_ = rest_.subspan(size);
    return size;
  }

 private:
  mutable std::span<const std::byte> rest_;
};

ncnn::Option options(ncnn::Allocator* blobs, ncnn::Allocator* workspace) {
  ncnn::Option o;
  o.lightmode = true;
  o.num_threads = 1;  // products have threads of their own; the rest is small
  o.blob_allocator = blobs;
  o.workspace_allocator = workspace;
  o.use_packing_layout = false;
  o.use_vulkan_compute = false;
  o.use_bf16_storage = false;
  o.use_fp16_packed = o.use_fp16_storage = o.use_fp16_arithmetic = false;
  o.use_int8_inference = o.use_int8_packed = o.use_int8_storage = o.use_int8_arithmetic = false;
  o.flush_denormals = 0;  // small halves are denormal floats for a moment
  return o;
}

}  // namespace

struct Net::Parts {
  Graph graph;
  Shared shared;
  ncnn::UnlockedPoolAllocator blobs, workspace;
  ncnn::Net net;  // after what its layers refer to
  struct State {
    int in = 0, out = 0;  // blob indices
    std::size_t size = 0;
  };
  std::vector<State> states;
  int rows = 0, out = 0;
};

Net::Net(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Net::~Net() = default;
const Graph& Net::graph() const { return parts_->graph; }

Result<std::unique_ptr<Net>> Net::create(Graph graph, ThreadPool& pool, const std::string& path) {
  auto p = std::make_unique<Parts>();
  p->graph = std::move(graph);
  p->shared.graph = &p->graph;
  p->shared.pool = &pool;
  for (Constant& c : p->graph.constants) {
    ncnn::Mat m = make_mat(c.dims);
    if (m.empty()) return runtime_error("not enough memory (" + path + "): use a smaller model");
    fill(m, c.values.data());
    p->shared.constants.push_back(m);
    c.values = {};
  }
  p->net.opt = options(&p->blobs, &p->workspace);
  p->net.register_custom_layer("fr_linear", create_layer<LinearLayer>, nullptr, &p->shared);
  p->net.register_custom_layer("fr_constant", create_layer<ConstantLayer>, nullptr, &p->shared);
  if (p->net.load_param_mem(p->graph.text.c_str()) != 0 ||
      p->net.load_model(FloatReader(p->graph.norms)) != 0) {
    return runtime_error("ncnn does not take the graph (" + path +
                         "): build with a newer ncnn, or export the model again");
  }
  p->graph.text.clear();
  std::map<std::string, int> blobs;
  for (std::size_t i = 0; i < p->net.blobs().size(); ++i) blobs[p->net.blobs()[i].name] = static_cast<int>(i);
  const auto index = [&](const std::string& name) { return blobs.at(name); };
  p->rows = index(p->graph.row_blob);
  p->out = index(p->graph.hidden_blob.empty() ? p->graph.output_blob : p->graph.hidden_blob);
  for (const StateBlob& s : p->graph.states) {
    std::size_t size = 1;
    for (const int n : s.dims) size *= static_cast<std::size_t>(n);
    p->states.push_back({index(s.in), index(s.out), size});
  }
  return std::unique_ptr<Net>(new Net(std::move(p)));
}

Status Net::run(std::span<const std::int32_t> tokens, std::span<float> state, std::span<float> out) {
  Parts& p = *parts_;
  const Graph& g = p.graph;
  FR_CHECK(tokens.size() == static_cast<std::size_t>(g.tokens()));
  const auto failed = [] {
    return runtime_error(
        "ncnn stopped in the middle of a step (ncnn): not enough memory, use a smaller model");
  };
  ncnn::Extractor ex = p.net.create_extractor();
  ncnn::Mat rows = make_mat(g.row_dims, &p.blobs);
  if (rows.empty()) return failed();
  const auto width = static_cast<std::size_t>(g.width());
  for (std::size_t t = 0; t < tokens.size(); ++t)
    g.table.read(tokens[t], {static_cast<float*>(rows) + t * width, width});
  ex.input(p.rows, rows);
  std::size_t offset = 0;
  for (std::size_t i = 0; i < p.states.size(); ++i) {
    ncnn::Mat m = make_mat(g.states[i].dims, &p.blobs);
    if (m.empty()) return failed();
    fill(m, state.data() + offset);
    ex.input(p.states[i].in, m);
    offset += p.states[i].size;
  }
  FR_CHECK(offset == state.size());
  ncnn::Mat result;
  if (ex.extract(p.out, result) != 0 ||
      !has_dims(result, g.hidden_blob.empty() ? g.output_dims : g.hidden_dims))
    return failed();
  copy_out(result, out.data());
  offset = 0;
  for (std::size_t i = 0; i < p.states.size(); ++i) {
    ncnn::Mat m;
    if (ex.extract(p.states[i].out, m) != 0 || !has_dims(m, g.states[i].dims)) return failed();
    copy_out(m, state.data() + offset);
    offset += p.states[i].size;
  }
  return {};
}

}  // namespace fr::ncnn_backend
