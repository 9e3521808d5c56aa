// Recurrences, and what surrounds them head by head. The states of a head are kept in registers while its
// sequence runs: by the usual head sizes a column (v5, v6) or row (v7) is shared by four lanes of a warp, and
// a block has 16 of them, so that a sequence has several blocks per head. Other sizes work on the state in
// memory.
#include "backends/cuda/device_math.cuh"
#include "backends/cuda/launch.h"

namespace fr::cuda {
namespace {

constexpr int wkv4_threads = 128, lines = 16, lanes_per_line = 4, head_threads = lines * lanes_per_line;
constexpr int general_threads = 128, norm_warps = 4;

__device__ inline float dot(float4 a, float4 b, float sum) {
  return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, sum))));
}
__device__ inline float4 load4(const float* p) { return *reinterpret_cast<const float4*>(p); }

// What a block works on: blockIdx.x counts parts of heads, blockIdx.y sequences.
struct HeadOfSequence {
  DeviceSequence sequence;
  int head, part;
  __device__ HeadOfSequence(const StepView& step, int parts)
      : sequence(step.sequence[blockIdx.y]),
        head(static_cast<int>(blockIdx.x) / parts),
        part(static_cast<int>(blockIdx.x) % parts) {}
};

// A thread has a channel.
__global__ void __launch_bounds__(wkv4_threads) wkv4_channels(StepView step, Wkv4 w) {
  const int c = static_cast<int>(blockIdx.x) * wkv4_threads + static_cast<int>(threadIdx.x);
  if (c >= w.n) return;
  const DeviceSequence sequence = step.sequence[blockIdx.y];
  float* state = step.slots[sequence.slot];
  float a = state[w.aa + c], b = state[w.bb + c], p = state[w.pp + c];
  const float decay = w.decay[c], bonus = w.bonus[c];
  for (int row = sequence.begin; row < sequence.begin + sequence.count; ++row) {
    const float key = w.k.p[row * w.k.stride + c], value = w.v.p[row * w.v.stride + c];
    const float now = key + bonus, top = fmaxf(p, now);
    const float e1 = expf(p - top), e2 = expf(now - top);
    w.y.p[row * w.y.stride + c] = fmaf(e1, a, e2 * value) / fmaf(e1, b, e2);
    const float faded = p + decay, next = fmaxf(faded, key);
    const float f1 = expf(faded - next), f2 = expf(key - next);
    a = fmaf(f1, a, f2 * value);
    b = fmaf(f1, b, f2);
    p = next;
  }
  state[w.aa + c] = a;
  state[w.bb + c] = b;
  state[w.pp + c] = p;
}

// The vectors of one token of a head, on their way: next() starts reading a token to registers, publish()
// puts it into shared memory, of which there are two buffers that take turns, so that one barrier per token
// is enough.
template <int n, int count>
struct Tokens {
  static constexpr int at_once = head_threads / n, each = (count + at_once - 1) / at_once;  // vectors
  static_assert(at_once * n == head_threads);
  const int own = static_cast<int>(threadIdx.x) / n, element = static_cast<int>(threadIdx.x) % n;
  float v[each] = {};

  __device__ void next(const Rows (&from)[count], int row, int column) {
    FR_UNROLL
    for (int i = 0; i < count; ++i) {
      if (at_once == 1 || i % at_once == own)
        v[i / at_once] = from[i].p[row * from[i].stride + column + element];
    }
  }
  __device__ void publish(float (*shared)[n]) const {
    FR_UNROLL
    for (int i = 0; i < count; ++i) {
      if (at_once == 1 || i % at_once == own) shared[i][element] = v[i / at_once];
    }
  }
};

// S [key][value], a column per four lanes: y_j = sum over i of r_i (S_ij + u_i k_i v_j), S_ij = w_i S_ij +
// k_i v_j. Lane part q has keys 4 q + 16 c + (0..3).
template <int n>
__global__ void __launch_bounds__(head_threads) wkv56_heads(StepView step, Wkv56 w) {
  constexpr int quads = n / lanes_per_line / 4;
  alignas(16) __shared__ float shared[2][4][n];
  const HeadOfSequence work(step, n / lines);
  const DeviceSequence sequence = work.sequence;
  const int lane = static_cast<int>(threadIdx.x) % 32,
            part = lane / 8;  // neighbours have neighbouring columns
  const int j = work.part * lines + static_cast<int>(threadIdx.x) / 32 * 8 + lane % 8, column = work.head * n;
  float* state = step.slots[sequence.slot] + w.block + std::int64_t{column} * n;
  float s[quads][4], u[quads][4];
  FR_UNROLL
  for (int c = 0; c < quads; ++c) {
    FR_UNROLL
    for (int e = 0; e < 4; ++e) {
      const int i = 4 * part + 16 * c + e;
      s[c][e] = state[i * n + j];
      u[c][e] = w.bonus[column + i];
    }
  }
  const Rows from[4] = {w.r, w.k, w.v, w.w};
  Tokens<n, 4> token;
  token.next(from, sequence.begin, column);
  const int end = sequence.begin + sequence.count;
  for (int row = sequence.begin; row < end; ++row) {
    float(*now)[n] = shared[(row - sequence.begin) % 2];
    token.publish(now);
    __syncthreads();
    if (row + 1 < end) token.next(from, row + 1, column);
    const float value = now[2][j];
    float y = 0;
    FR_UNROLL
    for (int c = 0; c < quads; ++c) {
      const int i = 4 * part + 16 * c;
      const float4 r4 = load4(&now[0][i]), k4 = load4(&now[1][i]), w4 = load4(&now[3][i]);
      const float r[4] = {r4.x, r4.y, r4.z, r4.w}, k[4] = {k4.x, k4.y, k4.z, k4.w},
                  d[4] = {w4.x, w4.y, w4.z, w4.w};
      FR_UNROLL
      for (int e = 0; e < 4; ++e) {
        const float kv = k[e] * value;
        y = fmaf(r[e], fmaf(u[c][e], kv, s[c][e]), y);
        s[c][e] = fmaf(d[e], s[c][e], kv);
      }
    }
    y += __shfl_xor_sync(all_lanes, y, 8);
    y += __shfl_xor_sync(all_lanes, y, 16);
    if (part == 0) w.y.p[row * w.y.stride + column + j] = y;
  }
  FR_UNROLL
  for (int c = 0; c < quads; ++c) {
    FR_UNROLL
    for (int e = 0; e < 4; ++e) state[(4 * part + 16 * c + e) * n + j] = s[c][e];
  }
}

// S [value][key], a row per four lanes: S = S diag(w) + (S a) b^T + v k^T, y = S r. Lane part q has columns
// 4 q + 16 c + (0..3).
template <int n>
__global__ void __launch_bounds__(head_threads) wkv7_heads(StepView step, Wkv7 w) {
  constexpr int quads = n / lanes_per_line / 4;
  alignas(16) __shared__ float shared[2][6][n];
  const HeadOfSequence work(step, n / lines);
  const DeviceSequence sequence = work.sequence;
  const int part = static_cast<int>(threadIdx.x) % lanes_per_line, column = work.head * n;
  const int i = work.part * lines + static_cast<int>(threadIdx.x) / lanes_per_line;
  float* state = step.slots[sequence.slot] + w.block + (std::int64_t{column} + i) * n + 4 * part;
  float4 s[quads];
  FR_UNROLL
  for (int c = 0; c < quads; ++c) {
    const float* at = state + 16 * c;
    s[c] = {at[0], at[1], at[2], at[3]};
  }
  const Rows from[6] = {w.r, w.w, w.k, w.v, w.a, w.b};
  Tokens<n, 6> token;
  token.next(from, sequence.begin, column);
  const int end = sequence.begin + sequence.count;
  for (int row = sequence.begin; row < end; ++row) {
    float(*now)[n] = shared[(row - sequence.begin) % 2];
    token.publish(now);
    __syncthreads();
    if (row + 1 < end) token.next(from, row + 1, column);
    float erased = 0;
    FR_UNROLL
    for (int c = 0; c < quads; ++c) erased = dot(s[c], load4(&now[4][4 * part + 16 * c]), erased);
    erased = warp_sum<lanes_per_line>(erased);
    const float value = now[3][i];
    float y = 0;
    FR_UNROLL
    for (int c = 0; c < quads; ++c) {
      const int at = 4 * part + 16 * c;
      const float4 d = load4(&now[1][at]), k = load4(&now[2][at]), b = load4(&now[5][at]);
      s[c] = {fmaf(s[c].x, d.x, fmaf(erased, b.x, value * k.x)),
              fmaf(s[c].y, d.y, fmaf(erased, b.y, value * k.y)),
              fmaf(s[c].z, d.z, fmaf(erased, b.z, value * k.z)),
              fmaf(s[c].w, d.w, fmaf(erased, b.w, value * k.w))};
      y = dot(s[c], load4(&now[0][at]), y);
    }
    y = warp_sum<lanes_per_line>(y);
    if (part == 0) w.y.p[row * w.y.stride + column + i] = y;
  }
  FR_UNROLL
  for (int c = 0; c < quads; ++c) {
    float* at = state + 16 * c;
    at[0] = s[c].x, at[1] = s[c].y, at[2] = s[c].z, at[3] = s[c].w;
  }
}

// Any n: a thread has whole columns of the state, in memory.
__global__ void __launch_bounds__(general_threads) wkv56_general(StepView step, Wkv56 w) {
  const HeadOfSequence work(step, 1);
  const DeviceSequence sequence = work.sequence;
  const int column = work.head * w.n;
  float* state = step.slots[sequence.slot] + w.block + std::int64_t{column} * w.n;
  for (int j = static_cast<int>(threadIdx.x); j < w.n; j += general_threads) {
    for (int row = sequence.begin; row < sequence.begin + sequence.count; ++row) {
      const float *r = w.r.p + row * w.r.stride + column, *k = w.k.p + row * w.k.stride + column,
                  *d = w.w.p + row * w.w.stride + column;
      const float value = w.v.p[row * w.v.stride + column + j];
      float y = 0;
      for (int i = 0; i < w.n; ++i) {
        float& s = state[std::int64_t{i} * w.n + j];
        const float kv = k[i] * value;
        y = fmaf(r[i], fmaf(w.bonus[column + i], kv, s), y);
        s = fmaf(d[i], s, kv);
      }
      w.y.p[row * w.y.stride + column + j] = y;
    }
  }
}

// Any n: a thread has whole rows of the state, in memory.
__global__ void __launch_bounds__(general_threads) wkv7_general(StepView step, Wkv7 w) {
  const HeadOfSequence work(step, 1);
  const DeviceSequence sequence = work.sequence;
  const int column = work.head * w.n;
  for (int i = static_cast<int>(threadIdx.x); i < w.n; i += general_threads) {
    float* s = step.slots[sequence.slot] + w.block + (std::int64_t{column} + i) * w.n;
    for (int row = sequence.begin; row < sequence.begin + sequence.count; ++row) {
      const auto at = [&](const Rows& x) { return x.p + row * x.stride + column; };
      const float *r = at(w.r), *d = at(w.w), *k = at(w.k), *a = at(w.a), *b = at(w.b);
      const float value = at(w.v)[i];
      float erased = 0, y = 0;
      for (int j = 0; j < w.n; ++j) erased = fmaf(s[j], a[j], erased);
      for (int j = 0; j < w.n; ++j) {
        s[j] = fmaf(s[j], d[j], fmaf(erased, b[j], value * k[j]));
        y = fmaf(s[j], r[j], y);
      }
      w.y.p[row * w.y.stride + column + i] = y;
    }
  }
}

// A warp has a head of a row: blockIdx.x counts groups of norm_warps heads, blockIdx.y rows.
struct HeadOfRow {
  int row, head, lane;
  __device__ HeadOfRow()
      : row(static_cast<int>(blockIdx.y)),
        head(static_cast<int>(blockIdx.x) * norm_warps + static_cast<int>(threadIdx.x) / 32),
        lane(static_cast<int>(threadIdx.x) % 32) {}
};

__global__ void __launch_bounds__(norm_warps * 32) wkv7_keys_heads(Wkv7KeysArgs w) {
  const HeadOfRow work;
  if (work.head >= w.heads) return;
  const int begin = work.head * w.n, end = begin + w.n;
  const float *k = w.k.p + work.row * w.k.stride, *a = w.a.p + work.row * w.a.stride;
  float squares = 0;
  for (int c = begin + work.lane; c < end; c += 32) {
    const float kk = k[c] * w.k_k[c];
    squares = fmaf(kk, kk, squares);
  }
  const float inverse = 1.0f / fmaxf(sqrtf(warp_sum(squares)), w.eps);
  for (int c = begin + work.lane; c < end; c += 32) {
    const float raw = k[c], rate = a[c], kk = raw * w.k_k[c] * inverse;
    w.key.p[work.row * w.key.stride + c] = raw * fmaf(rate - 1.0f, w.k_a[c], 1.0f);
    w.erase.p[work.row * w.erase.stride + c] = -kk;
    w.write.p[work.row * w.write.stride + c] = kk * rate;
  }
}

__global__ void __launch_bounds__(norm_warps * 32) head_out_heads(HeadOut h) {
  const HeadOfRow work;
  if (work.head >= h.heads) return;
  const int begin = work.head * h.n, end = begin + h.n;
  const auto at = [&](const Rows& x) { return x.p == nullptr ? nullptr : x.p + work.row * x.stride; };
  const float *y = at(h.y), *gate = at(h.gate), *r = at(h.r), *k = at(h.k), *v = at(h.v);
  float sum = 0, bonus = 0;
  for (int c = begin + work.lane; c < end; c += 32) {
    sum += y[c];
    if (r != nullptr) bonus = fmaf(r[c] * k[c], h.r_k[c], bonus);
  }
  const float n = static_cast<float>(h.n), mean = warp_sum(sum) / n;
  bonus = warp_sum(bonus);
  float squares = 0;
  for (int c = begin + work.lane; c < end; c += 32) squares = fmaf(y[c] - mean, y[c] - mean, squares);
  const float inverse_deviation = 1.0f / sqrtf(warp_sum(squares) / n + h.eps);
  for (int c = begin + work.lane; c < end; c += 32) {
    float out = fmaf((y[c] - mean) * inverse_deviation, h.weight[c], h.bias[c]);
    if (r != nullptr) out = fmaf(bonus, v[c], out);
    if (gate != nullptr) out *= gate[c];
    h.out.p[work.row * h.out.stride + c] = out;
  }
}

dim3 heads_and_rows(int heads, int rows) {
  return dim3(static_cast<unsigned>((heads + norm_warps - 1) / norm_warps), static_cast<unsigned>(rows));
}

// `heads` registers what runs for n = 64, 32, 16 and for any n.
template <class Args>
void by_head_size(Stream stream, const StepView& step, const Args& w,
                  void (*const (&heads)[3])(StepView, Args), void (*general)(StepView, Args)) {
  const int which = w.n == 64 ? 0 : w.n == 32 ? 1 : w.n == 16 ? 2 : -1;
  const int parts = which < 0 ? 1 : w.n / lines;
  const dim3 grid(static_cast<unsigned>(w.heads * parts), static_cast<unsigned>(step.sequences));
  launch(which < 0 ? general : heads[which], grid, dim3(which < 0 ? general_threads : head_threads), 0,
         stream, step, w);
}

}  // namespace

void wkv4(Stream stream, const StepView& step, const Wkv4& w) {
  const dim3 grid(static_cast<unsigned>((w.n + wkv4_threads - 1) / wkv4_threads),
                  static_cast<unsigned>(step.sequences));
  launch(&wkv4_channels, grid, dim3(wkv4_threads), 0, stream, step, w);
}

void wkv56(Stream stream, const StepView& step, const Wkv56& w) {
  by_head_size<Wkv56>(stream, step, w, {&wkv56_heads<64>, &wkv56_heads<32>, &wkv56_heads<16>},
                      &wkv56_general);
}

void wkv7(Stream stream, const StepView& step, const Wkv7& w) {
  by_head_size<Wkv7>(stream, step, w, {&wkv7_heads<64>, &wkv7_heads<32>, &wkv7_heads<16>}, &wkv7_general);
}

void wkv7_keys(Stream stream, int rows, const Wkv7KeysArgs& k) {
  launch(&wkv7_keys_heads, heads_and_rows(k.heads, rows), dim3(norm_warps * 32), 0, stream, k);
}

void head_out(Stream stream, int rows, const HeadOut& h) {
  launch(&head_out_heads, heads_and_rows(h.heads, rows), dim3(norm_warps * 32), 0, stream, h);
}

}  // namespace fr::cuda
