// Weights by the role they play, and the Binder that finds them in a checkpoint: names and shapes are said
// once, in the model; layout and number format are the backend's business.
#pragma once
#include <array>
#include <cstddef>
#include <functional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/checkpoint.h"
#include "base/log.h"
#include "base/result.h"
#include "core/ops.h"

namespace fr {

enum class MatRole : std::uint8_t {
  plain,
  head,
  embedding,     // rows are looked up, never multiplied: stays in the file's mapping
  sparse_input,  // its input is a squared ReLU (ffn.value): rows of zero inputs may be skipped
  low_rank,      // a factor of a low-rank pair: small, and not worth fewer than 16 bits
};

struct Vec {
  Tensor t;  // {1, 1, D} or {1, H, N}, extent one
  explicit operator bool() const { return static_cast<bool>(t); }
};
// y = x W^T + bias; W is [out][in]. id names the packed matrix inside its WeightStore.
struct Mat {
  int id = -1;
  int out = 0;
  int in = 0;
  MatRole role = MatRole::plain;
  Vec bias;  // optional
  explicit operator bool() const { return id >= 0; }
};
struct Norm {
  Vec weight, bias;
};
// outer(up(inner(down(x))) + bias)
struct LowRank {
  Mat down, up;
  Vec bias;  // optional
  Act inner = Act::none, outer = Act::none;
};
template <std::size_t N>
using Mixes = std::array<Vec, N>;

// Where a backend keeps weights. Called while loading, by one thread.
class WeightStore {
 public:
  virtual ~WeightStore() = default;
  // A vector in float32, shape {1, heads, cols}.
  virtual Result<Tensor> add_vector(std::span<const float> values, Shape shape) = 0;
  // `w` is a 2-D view [out][in] with any strides into `file`'s mapping; a matrix that is kept in place keeps
  // `file` alive, a packed one lets go of its pages.
  virtual Result<Mat> add_matrix(const TensorView& w, MatRole role, const Checkpoint& file) = 0;
};

// How the stored number becomes the one the model uses.
enum class Transform : std::uint8_t { none, one_minus, exp, neg_exp, exp_neg_exp };

// Tensor names for a message, "a, b and 3 more": unprintable bytes become '?', long names are cut.
std::string name_list(std::span<const std::string> names, std::size_t most);

// Finds the tensors of one model in a checkpoint. Every call names the tensor and its expected shape; the
// first problem (missing, wrong shape, wrong type) is kept and later calls do nothing, so models need no
// error handling.
class Binder {
 public:
  // store(layer) is where the weights of a layer live; layer -1 is the embedding, n_layer the head.
  Binder(const Checkpoint& file, std::function<WeightStore&(int layer)> store, Progress progress = {});

  // Following names are relative to "blocks.<layer>." (0 <= layer < n_layer) or to the file's root (-1,
  // n_layer).
  void at_layer(int layer, int n_layer);
  bool has(const std::string& name) const;
  // Size of one axis of a tensor; 0 when there is no such tensor or axis or it is above 2^28.
  int dim(const std::string& name, std::size_t axis) const;

  // Reads heads * cols numbers, stored as [heads, cols] or flat, whatever dimensions of size 1 the file adds
  // ([1, 1, D] = [D]).
  void vec(const std::string& name, Vec& v, int heads, int cols, Transform transform = Transform::none);
  // As vec, but the file may also hold one number per head, [heads]: it is repeated over the head's columns.
  void head_vec(const std::string& name, Vec& v, int heads, int cols, Transform transform = Transform::none);
  // "<name>.weight" [out, in] and, if present, "<name>.bias" [out] (an embedding has none).
  void mat(const std::string& name, Mat& m, int out, int in, MatRole role = MatRole::plain);
  // "<name>.weight", "<name>.bias".
  void norm(const std::string& name, Norm& n, int cols);
  // A low-rank matrix as the official files store it, [in, out] (x @ w); slice i of [n, in, out] when i >= 0.
  // The rank, one of in and out, comes from dim(); if that was 0 the problem is reported here.
  void factor(const std::string& name, Mat& m, int in, int out, int i = -1);
  // Tensors that a file may carry and that the model does not use (v0..v2 of v7's layer 0).
  void ignore(const std::string& name);

  // The first problem, or an error naming the tensors that nobody asked for, or success. Tuned initial states
  // ("att.time_state") are no weights: whether anybody reads them is not checked here.
  Status finish() const;
  bool ok() const { return status_.ok(); }

 private:
  const TensorView* find(const std::string& name);
  void fail(const std::string& name, const std::string& what, const std::string& what_to_do);
  void add_vec(const std::string& name, Vec& v, int heads, int cols, Transform transform, bool per_head);
  void add_mat(const TensorView& view, Mat& m, MatRole role);
  void advance(const TensorView& t);

  const Checkpoint& file_;
  std::function<WeightStore&(int)> store_;
  Progress progress_;
  std::string prefix_;
  int layer_ = -1;
  std::set<std::string> used_;
  std::uint64_t bytes_done_ = 0, bytes_total_ = 0;
  Status status_;
};

}  // namespace fr
