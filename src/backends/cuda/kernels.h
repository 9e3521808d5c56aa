// The kernels of the cuda backend, as functions that launch them: device pointers in, nothing allocated,
// nothing waited for. Plain types only, so that both compilers read this header. Formulas: core/fused_*.h,
// core/ops.h.
#pragma once
#include <cstddef>
#include <cstdint>

struct CUstream_st;  // cudaStream_t points to it

namespace fr::cuda {

using Stream = CUstream_st*;

// How a matrix is stored: plain numbers, or the blocks of base/quant.h with codes and scales apart (pack.h).
enum class WeightType : std::uint8_t { f32, f16, bf16, q8_0, q4_0, q4_k };
// Same order as Act and BinaryOp of core/ops.h (checked in cuda_ops.cpp).
enum class Activation : std::uint8_t { none, tanh, sigmoid, exp, silu, relu2, decay6, decay7 };
enum class Binary : std::uint8_t { add, sub, mul, div, max };

// float32 on the device: row i starts at p + i * stride floats. Stride 0 repeats one row (weights). p null:
// absent.
struct Rows {
  const float* p = nullptr;
  std::int64_t stride = 0;
  explicit operator bool() const { return p != nullptr; }
};
struct OutRows {
  float* p = nullptr;
  std::int64_t stride = 0;
  explicit operator bool() const { return p != nullptr; }
  operator Rows() const { return {p, stride}; }
};

// A sequence of the step, as core/batch.h has it.
struct DeviceSequence {
  std::int32_t slot, begin, count;
};

// The batch of a step. The counts are the host's and fixed in a graph; what the pointers show lies in device
// buffers whose addresses never change, and is read when the kernels run.
struct StepView {
  int rows = 0, sequences = 0, wanted = 0;
  const std::int32_t* tokens = nullptr;           // [rows]
  const std::int32_t* sequence_of_row = nullptr;  // [rows]
  const DeviceSequence* sequence = nullptr;       // [sequences]
  const std::int32_t* wanted_rows = nullptr;      // [wanted]
  float* const* slots = nullptr;  // [slots]: the state of each, blocks at fixed offsets (floats)
};

// ---- product.cu ----

// One packed matrix [out][in] on the device (pack.h says the layouts). `transposed`: stored [in][out], so
// that the rows of zero inputs can be left out (role sparse_input, plain number formats).
struct DeviceMatrix {
  WeightType type = WeightType::f32;
  bool transposed = false;
  int in = 0, out = 0;
  const void* codes = nullptr;   // numbers, or the codes of blocks
  const void* scales = nullptr;  // of blocks
};
// y = act(x W^T + bias) * gate, x [rows][in], y [rows][out]; bias and gate may be absent (bias.stride 0).
// Sums in float32, always in the same order. Up to `most_exact_rows` rows, and of float32 matrices always,
// inputs and numbers are float32; else tensor cores multiply them in tf32 (10 bits of mantissa, the range of
// float32), which holds 16-bit numbers exactly, and to which inputs and the numbers of blocks are rounded.
// scratch: product_scratch() bytes. zeros: null, or a counter to which the number of zero inputs is added
// (role sparse_input).
struct Product {
  DeviceMatrix w;
  Rows x;
  int rows = 0;
  Rows bias, gate;
  Activation act = Activation::none;
  OutRows y;
  void* scratch = nullptr;
  unsigned long long* zeros = nullptr;
};
inline constexpr int most_exact_rows = 8;
std::size_t product_scratch(const DeviceMatrix& w, int rows);  // bytes, the same for equal arguments
void product(Stream stream, const Product& p);

// ---- mix.cu ----

// sum = x + pending (sum, pending may be absent); h = layer_norm(x + pending) * weight + bias. weight, bias:
// [n].
struct AddNorm {
  int n = 0;
  float eps = 0;
  Rows x, pending;
  const float* weight = nullptr;
  const float* bias = nullptr;
  OutRows sum;
};
void add_norm(Stream stream, int rows, const AddNorm& norm, OutRows h);

// h = add_norm of the row, previous = that of the row before in its sequence (the first row: the state block
// at `block` floats in the slot), out[i] = h + (previous - h) mix[i] for i < count. Then the block holds the
// sequence's last h. h and dx (= previous - h) are stored if they are present.
struct NormMix {
  AddNorm norm;
  std::int64_t block = 0;
  int count = 0;
  const float* mix[6] = {};  // [n] each
  OutRows out[6];
  OutRows h, dx;
};
void norm_mix(Stream stream, const StepView& step, const NormMix& m);

// v6: out[i] = h + dx (maa[i] + part[i]), i < 5, n columns.
struct DataMixOut {
  int n = 0;
  Rows h, dx;
  const float* maa[5] = {};
  Rows part[5];
  OutRows out[5];
};
void data_mix(Stream stream, int rows, const DataMixOut& m);

void lerp(Stream stream, int rows, int n, Rows a, Rows b, Rows t, OutRows y);  // a + (b - a) t

// ---- wkv.cu ----
// Recurrences: for each sequence of the step, token by token, from and to the state blocks in its slot. Rows
// of r, k, v, w, a, b, y have heads * n columns. Any n >= 1 (fast for 32 and 64).

struct Wkv4 {
  int n = 0;  // channels
  Rows k, v;
  const float* decay = nullptr;  // [n]
  const float* bonus = nullptr;
  std::int64_t aa = 0, bb = 0, pp = 0;  // blocks
  OutRows y;
};
void wkv4(Stream stream, const StepView& step, const Wkv4& w);

struct Wkv56 {
  int heads = 0, n = 0;
  Rows r, k, v, w;               // v5: w.stride 0
  const float* bonus = nullptr;  // [heads n]
  std::int64_t block = 0;
  OutRows y;
};
void wkv56(Stream stream, const StepView& step, const Wkv56& w);

struct Wkv7 {
  int heads = 0, n = 0;
  Rows r, w, k, v, a, b;
  std::int64_t block = 0;
  OutRows y;
};
void wkv7(Stream stream, const StepView& step, const Wkv7& w);

// kk = l2_norm(k k_k) per head; key = k (1 + (a - 1) k_a); erase = -kk; write = kk a.
struct Wkv7KeysArgs {
  int heads = 0, n = 0;
  float eps = 0;
  Rows k, a;
  const float* k_k = nullptr;  // [heads n]
  const float* k_a = nullptr;
  OutRows key, erase, write;
};
void wkv7_keys(Stream stream, int rows, const Wkv7KeysArgs& k);

// out = (group_norm(y) * weight + bias + (sum over the head of r k r_k) v) * gate; the bonus term only if r
// is present, the gate only if it is.
struct HeadOut {
  int heads = 0, n = 0;
  float eps = 0;
  Rows y;
  const float* weight = nullptr;  // [heads n]
  const float* bias = nullptr;
  Rows gate, r, k, v;
  const float* r_k = nullptr;
  OutRows out;
};
void head_out(Stream stream, int rows, const HeadOut& h);

// ---- primitives.cu: the primitives of core/ops.h that are not above ----

// cudaError_t of looking up a kernel on the current device: it has one for this GPU, or has not.
int find_kernels();

// Rows of the table (plain numbers, [vocab][in]) of the step's tokens.
void embedding(Stream stream, const StepView& step, const DeviceMatrix& table, OutRows y);
// A tensor of three dimensions and its strides in floats, 0 where it is repeated.
struct Tensor3 {
  const float* p = nullptr;
  std::int64_t stride[3] = {};
};
void binary(Stream stream, Binary op, const int (&shape)[3], Tensor3 a, Tensor3 b, float* y,
            std::int64_t y_row_stride);
void unary(Stream stream, Activation f, int rows, int n, Rows x, OutRows y);
void affine(Stream stream, int rows, int n, Rows x, float scale, float offset, OutRows y);
// Over the last of {rows, heads, n}; l2: x / max(|x|, eps), else layer norm without weights.
void norm(Stream stream, int rows, int heads, int n, Rows x, float eps, bool l2, OutRows y);
void sum(Stream stream, int rows, int heads, int n, Rows x, OutRows y);  // [rows][heads]
void copy(Stream stream, int rows, int n, Rows x, OutRows y);
void gather_wanted(Stream stream, const StepView& step, int n, Rows x, OutRows y);
void shift(Stream stream, const StepView& step, int n, std::int64_t block, Rows x, OutRows y);
void matvec(Stream stream, int heads, int m, int n, const float* s, const float* x, bool transposed,
            float* y);
void outer(Stream stream, int heads, int m, int n, const float* u, const float* v, float* y);

}  // namespace fr::cuda
