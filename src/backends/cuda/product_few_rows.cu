// Products of few rows: each weight is read once, 16 bytes at a time, with many loads in flight; inputs come
// through the first-level cache.
#include "backends/cuda/chunk.cuh"
#include "backends/cuda/product.cuh"

namespace fr::cuda {
namespace {

constexpr int warps = 8, threads = warps * 32;

// Numbers of inputs [k, k + 4) of a row.
template <bool aligned>
__device__ inline float4 inputs(const float* x, int k, int in) {
  if constexpr (aligned) {
    return __ldg(reinterpret_cast<const float4*>(x + k));
  } else {
    return {k < in ? x[k] : 0.0f, k + 1 < in ? x[k + 1] : 0.0f, k + 2 < in ? x[k + 2] : 0.0f,
            k + 3 < in ? x[k + 3] : 0.0f};
  }
}

__device__ inline float dot(float4 a, float4 b, float sum) {
  return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, sum))));
}

// Sums n numbers per lane over the lanes of a warp: halves of the numbers change places as long as there are
// halves, so that a lane ends with max(1, n / 32) sums, of numbers [first, ...). True in lanes whose sums no
// other has.
template <int n>
__device__ inline bool fold(float (&v)[n], int lane, int& first) {
  int left = n;
  bool owner = true;
  first = 0;
  FR_UNROLL
  for (int step = 16; step > 0; step /= 2) {
    const bool upper = (lane & step) != 0;
    if (left > 1) {
      left /= 2;
      FR_UNROLL
      for (int i = 0; i < n / 2; ++i) {
        if (i >= left) break;
        const float keep = upper ? v[i + left] : v[i], give = upper ? v[i] : v[i + left];
        v[i] = keep + __shfl_xor_sync(all_lanes, give, step);
      }
      if (upper) first += left;
    } else {
      v[0] += __shfl_xor_sync(all_lanes, v[0], step);
      owner = owner && !upper;
    }
  }
  return owner;
}

template <WeightType type>
constexpr bool blocks = type == WeightType::q8_0 || type == WeightType::q4_0 || type == WeightType::q4_k;

// Chunks of a row that a lane loads together. R times that many loads are on their way; registers are the
// limit.
template <WeightType type, int M, int R>
constexpr int chunks_at_once = blocks<type>&& M >= 4 ? 1 : 8 / R;

// `split` warps share R outputs; a lane has every (32 split)-th chunk of these rows of the matrix. M rows of
// x from row M blockIdx.y on.
template <WeightType type, int M, int R, bool aligned>
__global__ void __launch_bounds__(threads, M == 8 && !blocks<type> ? 1 : 2) few_rows(Product p, int split) {
  constexpr int unroll = chunks_at_once<type, M, R>, sums = R * M;
  __shared__ float partial[warps][sums];
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int groups = warps / split, group = static_cast<int>(blockIdx.x) * groups;
  const int first_out = (group + warp / split) * R, first_row = static_cast<int>(blockIdx.y) * M;
  const int chunks = row_chunks(type, p.w.in), step = 32 * split;

  const float* x[M];
  FR_UNROLL
  for (int m = 0; m < M; ++m) x[m] = p.x.p + min(first_row + m, p.rows - 1) * p.x.stride;
  float acc[sums];
  FR_UNROLL
  for (int i = 0; i < sums; ++i) acc[i] = 0;
  const int end = first_out < p.w.out ? chunks : 0;
  for (int c = warp % split * 32 + lane; c < end; c += unroll * step) {
    Chunk<type> w[unroll][R];
    FR_UNROLL
    for (int u = 0; u < unroll; ++u) {
      FR_UNROLL
      for (int r = 0; r < R; ++r) {
        if (c + u * step < chunks) w[u][r].load(p.w, chunks, min(first_out + r, p.w.out - 1), c + u * step);
      }
    }
    FR_UNROLL
    for (int u = 0; u < unroll; ++u) {
      if (c + u * step >= chunks) break;
      float2 line[R];
      FR_UNROLL
      for (int r = 0; r < R; ++r) line[r] = w[u][r].line();
      FR_UNROLL
      for (int q = 0; q < Chunk<type>::quads; ++q) {
        const int k = (c + u * step) * Chunk<type>::numbers + 4 * q;
        float4 in[M];
        FR_UNROLL
        for (int m = 0; m < M; ++m) in[m] = inputs<aligned>(x[m], k, p.w.in);
        FR_UNROLL
        for (int r = 0; r < R; ++r) {
          const float4 numbers = w[u][r].quad(q, line[r]);
          FR_UNROLL
          for (int m = 0; m < M; ++m) acc[r * M + m] = dot(numbers, in[m], acc[r * M + m]);
        }
      }
    }
  }

  int first;
  if (fold(acc, lane, first)) {
    FR_UNROLL
    for (int i = 0; i < (sums + 31) / 32; ++i) partial[warp][first + i] = acc[i];
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < groups * sums; i += threads) {
    const int g = i / sums, at = i % sums, out = (group + g) * R + at / M, row = first_row + at % M;
    if (out >= p.w.out || row >= p.rows) continue;
    float sum = 0;
    for (int s = 0; s < split; ++s) sum += partial[g * split + s][at];
    finish(p, row, out, sum);
  }
}

template <WeightType type, int M, bool aligned>
void run(Stream stream, const Product& p) {
  // Outputs that share what is read of x: few where registers are short.
  constexpr int R = blocks<type> ? (M <= 2 ? 8 : 4) : (M == 8 ? 8 : 4);
  int split = 1;
  while (split < warps && row_chunks(type, p.w.in) > 32 * chunks_at_once<type, M, R> * split) split *= 2;
  const dim3 grid(static_cast<unsigned>(ceil_div(p.w.out, warps / split * R)),
                  static_cast<unsigned>(ceil_div(p.rows, M)));
  launch(&few_rows<type, M, R, aligned>, grid, dim3(threads), 0, stream, p, split);
}

template <WeightType type>
void run(Stream stream, const Product& p) {
  if (!aligned_inputs(p)) return run<type, 1, false>(stream, p);
  if (p.rows == 1) return run<type, 1, true>(stream, p);
  if (p.rows == 2) return run<type, 2, true>(stream, p);
  if (p.rows <= 4) return run<type, 4, true>(stream, p);
  run<type, 8, true>(stream, p);
}

}  // namespace

void product_few_rows(Stream stream, const Product& p) {
  switch (p.w.type) {
    case WeightType::f32:
      return run<WeightType::f32>(stream, p);
    case WeightType::f16:
      return run<WeightType::f16>(stream, p);
    case WeightType::bf16:
      return run<WeightType::bf16>(stream, p);
    case WeightType::q8_0:
      return run<WeightType::q8_0>(stream, p);
    case WeightType::q4_0:
      return run<WeightType::q4_0>(stream, p);
    case WeightType::q4_k:
      return run<WeightType::q4_k>(stream, p);
  }
}

}  // namespace fr::cuda
