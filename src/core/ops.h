// The op layer: a model version is described once against Ops, a dozen primitives, and Fused ops, each a name
// and an expansion into primitives that a backend may replace by a native kernel of the same signature.
#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace fr {

// What the first dimension of a tensor counts. A recording is replayed for batches of other sizes, so `batch`
// and `wanted` are symbolic; `one` is fixed (weights, and everything inside a scan body).
enum class Extent : std::uint8_t { one, batch, wanted };

// {rows, heads, cols}; plain vectors have heads = 1. Inside a scan body also {heads, n, n} (a recurrent
// state).
struct Shape {
  std::array<int, 3> d{0, 0, 0};
  std::int64_t size() const { return std::int64_t{d[0]} * d[1] * d[2]; }
  bool operator==(const Shape&) const = default;
};

// A handle to a value of the Ops that made it. Float32.
struct Tensor {
  int id = -1;
  Shape shape;
  Extent extent = Extent::one;
  explicit operator bool() const { return id >= 0; }
};

// One block of the state of every sequence (see state.h): {1, 1, D} for a shifted row, {H, N, N} for a
// recurrence.
struct StateRef {
  int block = -1;
  Shape shape;
};

enum class Act : std::uint8_t {
  none,
  tanh,
  sigmoid,
  exp,
  silu,    // x sigmoid(x)
  relu2,   // max(x, 0)^2
  decay6,  // exp(-exp(x)): v6
  decay7,  // exp(-0.606531 sigmoid(x)): v7 (0.606531 = e^-0.5 as the official code rounds it)
};
enum class BinaryOp : std::uint8_t { add, sub, mul, div, max };
enum class NormKind : std::uint8_t {
  layer,  // (x - mean) / sqrt(var + eps), biased variance
  l2,     // x / max(|x|, eps)
};

struct Mat;  // weights.h
class KernelTable;
class Ops;

// What a scan body returns for one token: the new value of every state block, and the token's outputs {1, H,
// N}.
struct ScanStep {
  std::vector<Tensor> state;
  std::vector<Tensor> outputs;
};
using ScanBody = std::function<ScanStep(Ops&, std::span<const Tensor> state, std::span<const Tensor> inputs)>;

// What a step did: how many fused ops it ran natively and how many through their expansion, and how many
// inputs its products of role sparse_input had and how many of those were zero.
struct OpCounts {
  std::int64_t native = 0;
  std::int64_t expanded = 0;
  std::int64_t sparse_inputs = 0;
  std::int64_t zeros = 0;
};

// The primitives that every backend implements. A call enqueues or computes; models cannot tell which.
// Binary ops broadcast dimensions of size 1. A result has the widest extent of its operands.
// What is passed by reference (Mat, Norm, Mixes and so on, here and in fused ops) need not outlive the call.
class Ops {
 public:
  virtual ~Ops() = default;

  // Token ids of the batch -> their rows of the table, {T, 1, D}.
  virtual Tensor embedding(const Mat& table) = 0;
  // A value handed over by the previous segment of a split model, and to the next (Port in batch.h). {T, 1,
  // cols}.
  virtual Tensor input(int port, int cols) = 0;
  virtual void output(int port, Tensor x) = 0;
  // y = act(x W^T + bias): {T, 1, in} -> {T, 1, out}.
  virtual Tensor linear(Tensor x, const Mat& w, Act epilogue = Act::none) = 0;
  virtual Tensor binary(BinaryOp op, Tensor a, Tensor b) = 0;
  virtual Tensor unary(Act f, Tensor x) = 0;
  virtual Tensor affine(Tensor x, float scale, float offset) = 0;
  virtual Tensor norm(Tensor x, float eps, NormKind kind) = 0;  // over the last dimension
  virtual Tensor sum(Tensor x) = 0;                             // over the last dimension, {.., .., 1}
  virtual Tensor reshape(Tensor x, Shape shape) = 0;            // same rows for batch extents
  virtual Tensor slice(Tensor x, int begin, int cols) = 0;      // columns [begin, begin + cols) of {T, 1, K}
  // The two primitives that know the ragged batch. shift: row t becomes row t-1 of its sequence, the first
  // row the sequence's `previous`; afterwards `previous` holds the sequence's last row of x.
  virtual Tensor shift(Tensor x, StateRef previous) = 0;
  // For every sequence in turn, for every token: body(state, rows of the inputs) with all tensors of extent
  // one; outputs of all tokens are stacked to {T, H, N}. The body is described once and may use weights from
  // outside.
  virtual std::vector<Tensor> scan(std::span<const StateRef> state, std::span<const Tensor> inputs,
                                   const ScanBody& body) = 0;
  // Of a state {H, M, N}: S x ({1, H, N} -> {1, H, M}), or S^T x ({1, H, M} -> {1, H, N}) when transposed.
  virtual Tensor matvec(Tensor s, Tensor x, bool transposed) = 0;
  virtual Tensor outer(Tensor u, Tensor v) = 0;  // {1, H, M} x {1, H, N} -> {H, M, N}
  // The rows whose logits are wanted: {T, 1, D} -> {wanted, 1, D}.
  virtual Tensor wanted(Tensor x) = 0;

  const KernelTable* kernels() const { return kernels_; }
  OpCounts counts;

 protected:
  const KernelTable* kernels_ = nullptr;  // null: every fused op is expanded
};

// Native kernels of a backend, keyed by the fused op's name and a hash of its signature: an address would
// differ between a program and a library that is loaded at run time.
class KernelTable {
 public:
  using Any = void (*)();
  template <class R, class... A, class F>
  void set(const F& op, R (*kernel)(Ops&, A...)) {
    static_assert(std::is_same_v<R (*)(Ops&, A...), typename F::Function>,
                  "kernel and fused op differ in signature");
    map_[op.name] = {F::signature(), reinterpret_cast<Any>(kernel)};
  }
  Any find(std::string_view name, std::uint64_t signature) const {
    const auto it = map_.find(name);
    return it != map_.end() && it->second.signature == signature ? it->second.kernel : nullptr;
  }

 private:
  struct Entry {
    std::uint64_t signature = 0;
    Any kernel = nullptr;
  };
  std::unordered_map<std::string_view, Entry> map_;
};

template <class Signature>
struct Fused;

// An op that is defined by its expansion. Names are unique and include parameters ("norm_mix6").
template <class R, class... A>
struct Fused<R(Ops&, A...)> {
  using Function = R (*)(Ops&, A...);
  const char* name;
  Function expand;

  static constexpr std::uint64_t signature() {  // FNV-1a of the type as the compiler spells it
    std::uint64_t h = 0xcbf29ce484222325u;
    for (const char* p = __PRETTY_FUNCTION__; *p; ++p)
      h = (h ^ static_cast<unsigned char>(*p)) * 0x100000001b3u;
    return h;
  }
  R operator()(Ops& op, A... a) const {
    if (op.kernels() != nullptr) {
      if (const KernelTable::Any k = op.kernels()->find(name, signature())) {
        ++op.counts.native;
        return reinterpret_cast<Function>(k)(op, a...);
      }
    }
    ++op.counts.expanded;
    return expand(op, a...);
  }
};

inline Tensor add(Ops& op, Tensor a, Tensor b) { return op.binary(BinaryOp::add, a, b); }
inline Tensor sub(Ops& op, Tensor a, Tensor b) { return op.binary(BinaryOp::sub, a, b); }
inline Tensor mul(Ops& op, Tensor a, Tensor b) { return op.binary(BinaryOp::mul, a, b); }
inline Tensor div(Ops& op, Tensor a, Tensor b) { return op.binary(BinaryOp::div, a, b); }
inline Tensor max(Ops& op, Tensor a, Tensor b) { return op.binary(BinaryOp::max, a, b); }

}  // namespace fr
