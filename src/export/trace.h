// A step as a graph of primitives: TraceOps records what a model enqueues, replay runs the recording on any
// Ops. Exporters read the graph; fused ops appear expanded.
#pragma once
#include <memory>
#include <span>
#include <vector>

#include "base/checkpoint.h"
#include "core/ops.h"
#include "core/weights.h"

namespace fr {

enum class OpKind : std::uint8_t {
  embedding,
  input,
  output,
  linear,
  binary,
  unary,
  affine,
  norm,
  sum,
  reshape,
  slice,
  shift,
  scan,
  matvec,
  outer,
  wanted,
};

struct TracedBody;

// One primitive. inputs and outputs are value ids; of the attributes, those that the primitive takes are set.
struct TracedNode {
  explicit TracedNode(OpKind kind) : op(kind) {}

  OpKind op;
  std::vector<int> inputs;  // linear: x and, if there is one, the bias
  std::vector<int> outputs;
  int matrix = -1;      // embedding, linear: index of TraceWeights::matrices()
  int port = -1;        // input, output
  Act act = Act::none;  // linear (its epilogue), unary
  BinaryOp binary = BinaryOp::add;
  NormKind norm = NormKind::layer;
  float scale = 0, offset = 0;             // affine
  float eps = 0;                           // norm
  Shape shape;                             // reshape; rows count for extent one only
  int begin = 0, cols = 0;                 // slice; cols: input
  bool transposed = false;                 // matvec
  std::vector<StateRef> state;             // shift, scan: the blocks that are read and then written
  std::shared_ptr<const TracedBody> body;  // scan
};

// The body of a scan: one token of one sequence. It uses weights and values of its own only.
struct TracedBody {
  std::vector<int> state, inputs;  // values given
  std::vector<TracedNode> nodes;
  std::vector<int> new_state, outputs;  // values returned
};

struct TracedValue {
  Shape shape;  // as traced; the first dimension is the traced batch's unless extent is one
  Extent extent = Extent::one;
  int uses = 0;   // by nodes, and as results of a body
  int scope = 0;  // 0: the step, and weights; else the body it lives in
};

struct TracedGraph {
  int n_vectors = 0;                // values [0, n_vectors) are the vectors of the TraceWeights
  std::vector<TracedValue> values;  // of the step and of all bodies
  std::vector<TracedNode> nodes;    // in the order of execution
};

// Weights of another store, by the indices of a TraceWeights.
struct WeightMap {
  std::vector<Tensor> vectors;
  std::vector<Mat> matrices;
};

// Keeps the weights that a model binds: vectors as numbers, matrices as views of the checkpoint.
class TraceWeights : public WeightStore {
 public:
  struct Vector {
    Shape shape;
    std::vector<float> values;
  };
  struct Matrix {
    TensorView view;  // [out][in], any strides
    MatRole role = MatRole::plain;
  };
  // `file` must outlive the object.
  explicit TraceWeights(const Checkpoint& file) : file_(file) {}

  Result<Tensor> add_vector(std::span<const float> values, Shape shape) override;
  Result<Mat> add_matrix(const TensorView& w, MatRole role, const Checkpoint& file) override;
  const std::vector<Vector>& vectors() const { return vectors_; }
  const std::vector<Matrix>& matrices() const { return matrices_; }
  // Adds all weights to another store. Errors: those of the store.
  Result<WeightMap> copy_to(WeightStore& store) const;

 private:
  const Checkpoint& file_;
  std::vector<Vector> vectors_;
  std::vector<Matrix> matrices_;
};

// Records the primitives of one step of `rows` rows, `wanted` of them with logits.
class TraceOps final : public Ops {
 public:
  TraceOps(const TraceWeights& weights, int rows, int wanted);
  const TracedGraph& graph() const { return graph_; }

  Tensor embedding(const Mat& table) override;
  Tensor input(int port, int cols) override;
  void output(int port, Tensor x) override;
  Tensor linear(Tensor x, const Mat& w, Act epilogue) override;
  Tensor binary(BinaryOp op, Tensor a, Tensor b) override;
  Tensor unary(Act f, Tensor x) override;
  Tensor affine(Tensor x, float scale, float offset) override;
  Tensor norm(Tensor x, float eps, NormKind kind) override;
  Tensor sum(Tensor x) override;
  Tensor reshape(Tensor x, Shape shape) override;
  Tensor slice(Tensor x, int begin, int cols) override;
  Tensor shift(Tensor x, StateRef previous) override;
  std::vector<Tensor> scan(std::span<const StateRef> state, std::span<const Tensor> inputs,
                           const ScanBody& body) override;
  Tensor matvec(Tensor s, Tensor x, bool transposed) override;
  Tensor outer(Tensor u, Tensor v) override;
  Tensor wanted(Tensor x) override;

 private:
  Tensor make(Shape shape, Extent extent);
  std::vector<int> use(std::span<const Tensor> values);
  // Appends the node with these inputs, and gives it one output.
  Tensor record(TracedNode node, std::initializer_list<Tensor> inputs, Shape shape, Extent extent);

  TracedGraph graph_;
  std::vector<TracedNode>* nodes_;  // where nodes go: the graph's or a body's
  int rows_, wanted_;
  int scope_ = 0, n_scopes_ = 0;
};

// Runs the graph on other Ops, whose batch may have other numbers of rows and wanted rows.
void replay(const TracedGraph& graph, const WeightMap& weights, Ops& op);

}  // namespace fr
