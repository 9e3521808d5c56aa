#include "core/weights.h"

#include <algorithm>
#include <cmath>
#include <iterator>

namespace fr {
namespace {

constexpr const char* not_this_model =
    "the file is damaged or a variant that this program does not run, get the original";

float transformed(float x, Transform transform) {
  switch (transform) {
    case Transform::none:
      return x;
    case Transform::one_minus:
      return 1.0f - x;
    case Transform::exp:
      return std::exp(x);
    case Transform::neg_exp:
      return -std::exp(x);
    case Transform::exp_neg_exp:
      return std::exp(-std::exp(x));
  }
  return x;
}

using Dims = std::vector<std::int64_t>;

Dims without_ones(const Dims& shape) {
  Dims d;
  std::copy_if(shape.begin(), shape.end(), std::back_inserter(d), [](std::int64_t n) { return n != 1; });
  return d;
}

std::string shape_string(const Dims& shape) {
  std::string s;
  for (const std::int64_t n : shape) s += (s.empty() ? "[" : ", ") + (n > 0 ? std::to_string(n) : "rank");
  return s + "]";
}

bool is_tuned_state(const std::string& name) { return name.ends_with(".att.time_state"); }

}  // namespace

std::string name_list(std::span<const std::string> names, std::size_t most) {
  constexpr std::size_t longest = 100;
  std::string list;
  for (std::size_t i = 0; i < std::min(names.size(), most); ++i) {
    std::string name = names[i].substr(0, longest);
    std::replace_if(
        name.begin(), name.end(), [](char c) { return c < 0x20 || c > 0x7e; }, '?');
    list += (i > 0 ? ", " : "") + name + (names[i].size() > longest ? "..." : "");
  }
  return names.size() > most ? list + " and " + std::to_string(names.size() - most) + " more" : list;
}

Binder::Binder(const Checkpoint& file, std::function<WeightStore&(int layer)> store, Progress progress)
    : file_(file), store_(std::move(store)), progress_(std::move(progress)) {
  for (const TensorView& t : file.tensors) bytes_total_ += t.bytes().size();
}

void Binder::at_layer(int layer, int n_layer) {
  layer_ = layer;
  prefix_ = layer >= 0 && layer < n_layer ? "blocks." + std::to_string(layer) + "." : "";
}

bool Binder::has(const std::string& name) const { return file_.find(prefix_ + name) != nullptr; }

int Binder::dim(const std::string& name, std::size_t axis) const {
  const TensorView* t = file_.find(prefix_ + name);
  if (t == nullptr || axis >= t->shape.size() || t->shape[axis] > (1 << 28)) return 0;
  return static_cast<int>(t->shape[axis]);
}

void Binder::ignore(const std::string& name) { used_.insert(prefix_ + name); }

void Binder::fail(const std::string& name, const std::string& what, const std::string& what_to_do) {
  if (ok())
    status_ = file_error("tensor " + prefix_ + name + ": " + what + " (" + file_.path + "): " + what_to_do);
}

const TensorView* Binder::find(const std::string& name) {
  if (!ok()) return nullptr;
  const TensorView* t = file_.find(prefix_ + name);
  if (t == nullptr) {
    fail(name, "missing", "the file is incomplete, get it again");
    return nullptr;
  }
  used_.insert(t->name);
  if (!t->readable()) {
    fail(name, "expected weights, found numbers of type " + std::string(dtype_name(t->dtype)),
         not_this_model);
    return nullptr;
  }
  if (t->shares_elements()) {
    fail(name, "its " + t->shape_string() + " elements share memory", not_this_model);
    return nullptr;
  }
  return t;
}

void Binder::advance(const TensorView& t) {
  bytes_done_ = std::min(bytes_done_ + t.bytes().size(), bytes_total_);
  if (progress_ && !progress_("loading", bytes_done_, bytes_total_)) {
    status_ = Error{ErrorCode::interrupted, "loading was stopped (" + file_.path + "): start it again"};
  }
}

void Binder::add_vec(const std::string& name, Vec& v, int heads, int cols, Transform transform,
                     bool per_head) {
  const TensorView* t = find(name);
  if (t == nullptr) return;
  const Dims found = without_ones(t->shape), flat{std::int64_t{heads} * cols}, full{heads, cols};
  const bool repeated = per_head && found == without_ones({heads});
  if (!repeated && found != without_ones(flat) && found != without_ones(full)) {
    const std::string expected =
        shape_string(heads == 1 ? flat : full) + (per_head ? " or " + shape_string({heads}) : "");
    return fail(name, "expected shape " + expected + ", found " + t->shape_string(), not_this_model);
  }
  std::vector<float> stored(static_cast<std::size_t>(t->size())), values(static_cast<std::size_t>(flat[0]));
  t->read(0, stored);
  if (t->processed) transform = Transform::none;
  const std::size_t repeat = values.size() / stored.size();
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = transformed(stored[i / repeat], transform);
  Result<Tensor> added = store_(layer_).add_vector(values, {{1, heads, cols}});
  if (!added) {
    status_ = std::move(added).error();
    return;
  }
  v.t = *added;
  advance(*t);
}

void Binder::vec(const std::string& name, Vec& v, int heads, int cols, Transform transform) {
  add_vec(name, v, heads, cols, transform, false);
}

void Binder::head_vec(const std::string& name, Vec& v, int heads, int cols, Transform transform) {
  add_vec(name, v, heads, cols, transform, true);
}

void Binder::norm(const std::string& name, Norm& n, int cols) {
  vec(name + ".weight", n.weight, 1, cols);
  vec(name + ".bias", n.bias, 1, cols);
}

void Binder::add_mat(const TensorView& view, Mat& m, MatRole role) {
  Result<Mat> added = store_(layer_).add_matrix(view, role, file_);
  if (!added) {
    status_ = std::move(added).error();
    return;
  }
  m = *added;
  advance(view);
}

void Binder::mat(const std::string& name, Mat& m, int out, int in, MatRole role) {
  const TensorView* t = find(name + ".weight");
  if (t == nullptr) return;
  const Dims expected{out, in};
  if (t->shape != expected) {
    return fail(name + ".weight", "expected shape " + shape_string(expected) + ", found " + t->shape_string(),
                not_this_model);
  }
  add_mat(*t, m, role);
  if (role != MatRole::embedding && has(name + ".bias")) vec(name + ".bias", m.bias, 1, out);
}

void Binder::factor(const std::string& name, Mat& m, int in, int out, int i) {
  const TensorView* t = find(name);
  if (t == nullptr) return;
  const bool sliced = i >= 0;
  const std::size_t rank = t->shape.size();
  const bool fits = in > 0 && out > 0 && rank == (sliced ? 3u : 2u) && t->shape[rank - 2] == in &&
                    t->shape[rank - 1] == out && (!sliced || i < t->shape[0]);
  if (!fits) {
    Dims expected{in, out};
    if (sliced) expected.insert(expected.begin(), i + 1);
    return fail(name, "expected shape " + shape_string(expected) + ", found " + t->shape_string(),
                not_this_model);
  }
  TensorView view = *t;
  if (sliced) {
    view = t->rows(i, i + 1);
    view.shape.erase(view.shape.begin());
    view.stride.erase(view.stride.begin());
  }
  add_mat(view.transposed(), m, MatRole::low_rank);
}

Status Binder::finish() const {
  if (!ok()) return status_;
  std::vector<std::string> unknown;
  for (const TensorView& t : file_.tensors) {
    if (!used_.contains(t.name) && !is_tuned_state(t.name)) unknown.push_back(t.name);
  }
  if (unknown.empty()) return {};
  return file_error("tensors that this RWKV version does not have: " + name_list(unknown, 8) + " (" +
                    file_.path + "): the file is a variant that this program does not run, get the original");
}

}  // namespace fr
