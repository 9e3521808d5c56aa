// Products of few rows with a matrix that is stored [in][out]: of inputs that are zero in every row of x,
// nothing is read. A block has a slice of the inputs and 32 chunks of the outputs.
#include "backends/cuda/chunk.cuh"
#include "backends/cuda/product.cuh"

namespace fr::cuda {
namespace {

constexpr int warps = 8, threads = warps * 32, longest_slice = threads, unroll = 4;

template <WeightType type, int M>
__global__ void __launch_bounds__(threads) sparse_rows(Product p, Slices slices) {
  constexpr int numbers = Chunk<type>::numbers, columns = 32 * numbers;
  __shared__ int kept[longest_slice];  // inputs that are not zero, and their values
  __shared__ float values[M][longest_slice];
  __shared__ float4 sums[warps][columns / 4];
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const int first_in = static_cast<int>(blockIdx.y) * slices.length;
  const int count = min(slices.length, p.w.in - first_in);

  float x[M];
  bool keep = false;
  int zeros = 0;
  FR_UNROLL
  for (int m = 0; m < M; ++m) {
    const bool inside = thread < count && m < p.rows;
    x[m] = inside ? p.x.p[m * p.x.stride + first_in + thread] : 0.0f;
    keep = keep || x[m] != 0.0f;
    zeros += __popc(__ballot_sync(all_lanes, inside && x[m] == 0.0f));
  }
  if (p.zeros != nullptr && blockIdx.x == 0 && lane == 0 && zeros != 0)
    atomicAdd(p.zeros, static_cast<unsigned long long>(zeros));
  const unsigned keepers = __ballot_sync(all_lanes, keep);
  // Each warp keeps to its own 32 inputs: a row's sums do not depend on the zeros of other rows.
  const int all = __popc(keepers), base = warp * 32;
  if (keep) {
    const int at = base + __popc(keepers & ((1u << lane) - 1u));
    kept[at] = first_in + thread;
    FR_UNROLL
    for (int m = 0; m < M; ++m) values[m][at] = x[m];
  }
  __syncwarp();

  const int chunks = row_chunks(type, p.w.out), chunk = static_cast<int>(blockIdx.x) * 32 + lane;
  float4 acc[M][Chunk<type>::quads] = {};
  for (int i = 0; i < all && chunk < chunks; i += unroll) {
    Chunk<type> w[unroll];
    FR_UNROLL
    for (int u = 0; u < unroll; ++u) {
      if (i + u < all) w[u].load(p.w, chunks, kept[base + i + u], chunk);
    }
    FR_UNROLL
    for (int u = 0; u < unroll; ++u) {
      if (i + u >= all) break;
      FR_UNROLL
      for (int q = 0; q < Chunk<type>::quads; ++q) {
        const float4 numbers4 = w[u].quad(q, {});
        FR_UNROLL
        for (int m = 0; m < M; ++m) {
          const float value = values[m][base + i + u];
          float4& a = acc[m][q];
          a = {fmaf(numbers4.x, value, a.x), fmaf(numbers4.y, value, a.y), fmaf(numbers4.z, value, a.z),
               fmaf(numbers4.w, value, a.w)};
        }
      }
    }
  }

  float* partial = static_cast<float*>(p.scratch) + std::int64_t{blockIdx.y} * p.rows * p.w.out;
  const int out = static_cast<int>(blockIdx.x) * columns + thread;
  FR_UNROLL
  for (int m = 0; m < M; ++m) {
    if (m >= p.rows) break;
    FR_UNROLL
    for (int q = 0; q < Chunk<type>::quads; ++q) sums[warp][lane * Chunk<type>::quads + q] = acc[m][q];
    __syncthreads();
    if (thread < columns && out < p.w.out) {
      float sum = 0;
      FR_UNROLL
      for (int i = 0; i < warps; ++i) sum += reinterpret_cast<const float*>(sums[i])[thread];
      partial[std::int64_t{m} * p.w.out + out] = sum;
    }
    __syncthreads();
  }
}

template <WeightType type>
void run(Stream stream, const Product& p, Slices slices) {
  const dim3 grid(static_cast<unsigned>(ceil_div(row_chunks(type, p.w.out), 32)),
                  static_cast<unsigned>(slices.count));
  const auto kernel = p.rows == 1   ? &sparse_rows<type, 1>
                      : p.rows == 2 ? &sparse_rows<type, 2>
                      : p.rows <= 4 ? &sparse_rows<type, 4>
                                    : &sparse_rows<type, 8>;
  launch(kernel, grid, dim3(threads), 0, stream, p, slices);
}

}  // namespace

Slices sparse_slices(const DeviceMatrix& w) { return {ceil_div(w.in, longest_slice), longest_slice}; }

void product_sparse(Stream stream, const Product& p, Slices slices) {
  switch (p.w.type) {
    case WeightType::f32:
      return run<WeightType::f32>(stream, p, slices);
    case WeightType::f16:
      return run<WeightType::f16>(stream, p, slices);
    default:
      return run<WeightType::bf16>(stream, p, slices);
  }
}

}  // namespace fr::cuda
