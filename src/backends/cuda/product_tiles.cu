// Products of many rows, a tile of y per block: inputs and numbers of the matrix meet in shared memory as
// float32, `k` inputs at a time, while the next ones are on their way to registers. float32 matrices multiply
// exactly; the others on tensor cores in tf32 (16-bit numbers fit into it; inputs and numbers of blocks are
// rounded to it).
#include <mma.h>

#include <algorithm>
#include <type_traits>

#include "backends/cuda/chunk.cuh"
#include "backends/cuda/product.cuh"

namespace fr::cuda {
namespace {

// A block's tile: m rows of y and n outputs. `down` by `across` warps share it.
template <int m_, int n_, int k_, int down_, int across_>
struct Tile {
  static constexpr int m = m_, n = n_, k = k_, down = down_, across = across_;
  static constexpr int threads = 32 * down * across;
  static constexpr int x_ld =
      k + 4;  // floats from row to row in shared memory: no bank serves two rows at once
};
using Exact = Tile<64, 64, 32, 2, 4>;

// What one block works on.
struct Work {
  int first_row, first_out, begin, end;  // inputs [begin, end)
};
template <class T>
__device__ inline Work work(const Product& p, const Slices& slices) {
  const int begin = static_cast<int>(blockIdx.z) * slices.length;
  return {static_cast<int>(blockIdx.y) * T::m, static_cast<int>(blockIdx.x) * T::n, begin,
          min(begin + slices.length, p.w.in)};
}

template <bool round>
__device__ inline float4 operand(float4 v) {
  if constexpr (round) {
    using namespace nvcuda::wmma;
    return {__float_to_tf32(v.x), __float_to_tf32(v.y), __float_to_tf32(v.z), __float_to_tf32(v.w)};
  } else {
    return v;
  }
}

// This thread's part of [m][k] inputs. Zeros beyond the last row and input.
template <class T>
struct InputPart {
  static constexpr int count = T::m * T::k / 4 / T::threads, per_row = T::k / 4;
  static_assert(count * T::threads * 4 == T::m * T::k);
  float4 v[count];

  __device__ void load(const Product& p, bool aligned, int first_row, int first_in) {
    FR_UNROLL
    for (int i = 0; i < count; ++i) {
      const int at = static_cast<int>(threadIdx.x) + i * T::threads;
      const int row = first_row + at / per_row, k = first_in + at % per_row * 4;
      v[i] = {};
      if (row >= p.rows || k >= p.w.in) continue;
      const float* x = p.x.p + row * p.x.stride + k;
      if (aligned) {
        v[i] = __ldg(reinterpret_cast<const float4*>(x));
      } else {
        const int left = p.w.in - k;
        v[i] = {x[0], left > 1 ? x[1] : 0.0f, left > 2 ? x[2] : 0.0f, left > 3 ? x[3] : 0.0f};
      }
    }
  }
  template <bool round>
  __device__ void store(float* shared) const {
    FR_UNROLL
    for (int i = 0; i < count; ++i) {
      const int at = static_cast<int>(threadIdx.x) + i * T::threads;
      *reinterpret_cast<float4*>(shared + at / per_row * T::x_ld + at % per_row * 4) = operand<round>(v[i]);
    }
  }
};

// This thread's part of the matrix: [n][k] numbers, of a transposed matrix [k][n].
template <class T, WeightType type, bool transposed>
struct MatrixPart {
  using C = Chunk<type>;
  static constexpr int rows = transposed ? T::k : T::n, per_row = (transposed ? T::n : T::k) / C::numbers;
  static constexpr int all = rows * per_row, count = (all + T::threads - 1) / T::threads;
  static constexpr int ld = (transposed ? T::n : T::k) + 4;
  static_assert(per_row * C::numbers + 4 == ld);
  C v[count];

  __device__ void load(const Product& p, int first_out, int first_in) {
    const int limit = transposed ? p.w.in : p.w.out, chunks = row_chunks(type, transposed ? p.w.out : p.w.in);
    const int first_row = transposed ? first_in : first_out;
    const int first_chunk = (transposed ? first_out : first_in) / C::numbers;
    FR_UNROLL
    for (int i = 0; i < count; ++i) {
      const int at = static_cast<int>(threadIdx.x) + i * T::threads;
      const int row = first_row + at / per_row, chunk = first_chunk + at % per_row;
      v[i] = {};
      if (at < all && row < limit && chunk < chunks) v[i].load(p.w, chunks, row, chunk);
    }
  }
  template <bool round>
  __device__ void store(float* shared) const {
    FR_UNROLL
    for (int i = 0; i < count; ++i) {
      const int at = static_cast<int>(threadIdx.x) + i * T::threads;
      if (at >= all) break;
      float* to = shared + at / per_row * ld + at % per_row * C::numbers;
      const float2 line = v[i].line();
      FR_UNROLL
      for (int q = 0; q < C::quads; ++q)
        *reinterpret_cast<float4*>(to + 4 * q) = operand<round>(v[i].quad(q, line));
    }
  }
};

// multiply(): called with tiles of k inputs in shared memory, one after the other, by all threads.
template <class T, WeightType type, bool transposed, bool round, class F>
__device__ inline void each_tile(const Product& p, bool aligned, const Work& work, float* xs, float* ws,
                                 F multiply) {
  InputPart<T> x;
  MatrixPart<T, type, transposed> w;
  x.load(p, aligned, work.first_row, work.begin);
  w.load(p, work.first_out, work.begin);
  for (int k = work.begin; k < work.end; k += T::k) {
    __syncthreads();
    x.template store<round>(xs);
    w.template store<round>(ws);
    __syncthreads();
    if (k + T::k < work.end) {
      x.load(p, aligned, work.first_row, k + T::k);
      w.load(p, work.first_out, k + T::k);
    }
    multiply();
  }
}

// One number of y, or of this slice's part of it.
__device__ inline void put(const Product& p, const Slices& slices, int row, int out, float sum) {
  if (row >= p.rows || out >= p.w.out) return;
  if (slices.count == 1) {
    finish(p, row, out, sum);
  } else {
    static_cast<float*>(p.scratch)[(std::int64_t{blockIdx.z} * p.rows + row) * p.w.out + out] = sum;
  }
}

template <class T, WeightType type, bool transposed>
__global__ void __launch_bounds__(T::threads) tensor_tiles(Product p, Slices slices, bool aligned) {
  using namespace nvcuda::wmma;
  using Matrix = MatrixPart<T, type, transposed>;
  constexpr int down = T::m / T::down / 16, across = T::n / T::across / 16;  // pieces of 16 x 16 of a warp
  constexpr int out_ld = 20;
  alignas(128) __shared__ float shared[T::m * T::x_ld + Matrix::rows * Matrix::ld];
  static_assert(T::down * T::across * 16 * out_ld <= T::m * T::x_ld + Matrix::rows * Matrix::ld);
  float *const xs = shared, *const ws = shared + T::m * T::x_ld;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int row = warp / T::across * down * 16, out = warp % T::across * across * 16;  // in the tile

  fragment<accumulator, 16, 16, 8, float> sums[down][across];
  FR_UNROLL
  for (int i = 0; i < down; ++i) {
    FR_UNROLL
    for (int j = 0; j < across; ++j) fill_fragment(sums[i][j], 0.0f);
  }
  const Work tile = work<T>(p, slices);
  each_tile<T, type, transposed, true>(p, aligned, tile, xs, ws, [&] {
    FR_UNROLL
    for (int k = 0; k < T::k; k += 8) {
      fragment<matrix_a, 16, 16, 8, precision::tf32, row_major> a[down];
      fragment<matrix_b, 16, 16, 8, precision::tf32, std::conditional_t<transposed, row_major, col_major>>
          b[across];
      FR_UNROLL
      for (int i = 0; i < down; ++i) load_matrix_sync(a[i], xs + (row + 16 * i) * T::x_ld + k, T::x_ld);
      FR_UNROLL
      for (int j = 0; j < across; ++j) {
        const int o = out + 16 * j;
        load_matrix_sync(b[j], ws + (transposed ? k * Matrix::ld + o : o * Matrix::ld + k), Matrix::ld);
      }
      FR_UNROLL
      for (int i = 0; i < down; ++i) {
        FR_UNROLL
        for (int j = 0; j < across; ++j) mma_sync(sums[i][j], a[i], b[j], sums[i][j]);
      }
    }
  });

  __syncthreads();
  float* const piece = shared + warp * 16 * out_ld;
  FR_UNROLL
  for (int i = 0; i < down; ++i) {
    FR_UNROLL
    for (int j = 0; j < across; ++j) {
      store_matrix_sync(piece, sums[i][j], out_ld, mem_row_major);
      __syncwarp();
      for (int at = lane; at < 256; at += 32) {
        put(p, slices, tile.first_row + row + 16 * i + at / 16, tile.first_out + out + 16 * j + at % 16,
            piece[at / 16 * out_ld + at % 16]);
      }
      __syncwarp();
    }
  }
}

// A thread has rows ty + 16 i and outputs tx + 16 j of the tile.
template <bool transposed>
__global__ void __launch_bounds__(Exact::threads) exact_tiles(Product p, Slices slices, bool aligned) {
  using T = Exact;
  using Matrix = MatrixPart<T, WeightType::f32, transposed>;
  alignas(16) __shared__ float xs[T::m * T::x_ld], ws[Matrix::rows * Matrix::ld];
  const int tx = static_cast<int>(threadIdx.x) % 16, ty = static_cast<int>(threadIdx.x) / 16;
  float sums[4][4] = {};
  const Work tile = work<T>(p, slices);
  each_tile<T, WeightType::f32, transposed, false>(p, aligned, tile, xs, ws, [&] {
    FR_UNROLL
    for (int k = 0; k < T::k; k += 4) {
      float4 x[4], w[4];
      FR_UNROLL
      for (int i = 0; i < 4; ++i) {
        x[i] = *reinterpret_cast<const float4*>(xs + (ty + 16 * i) * T::x_ld + k);
        if constexpr (transposed) {
          const float* at = ws + k * Matrix::ld + tx + 16 * i;
          w[i] = {at[0], at[Matrix::ld], at[2 * Matrix::ld], at[3 * Matrix::ld]};
        } else {
          w[i] = *reinterpret_cast<const float4*>(ws + (tx + 16 * i) * Matrix::ld + k);
        }
      }
      FR_UNROLL
      for (int i = 0; i < 4; ++i) {
        FR_UNROLL
        for (int j = 0; j < 4; ++j) {
          float& s = sums[i][j];
          s = fmaf(x[i].w, w[j].w, fmaf(x[i].z, w[j].z, fmaf(x[i].y, w[j].y, fmaf(x[i].x, w[j].x, s))));
        }
      }
    }
  });
  FR_UNROLL
  for (int i = 0; i < 4; ++i) {
    FR_UNROLL
    for (int j = 0; j < 4; ++j)
      put(p, slices, tile.first_row + ty + 16 * i, tile.first_out + tx + 16 * j, sums[i][j]);
  }
}

struct Shape {
  int m, n, k;
};
constexpr int busy_blocks = 264;  // two for each processor of a large card
using Tile16 = Tile<16, 64, 64, 1, 4>;
using Tile32 = Tile<32, 64, 64, 2, 2>;
using Tile64 = Tile<64, 64, 32, 2, 2>;
using Tile128 = Tile<128, 128, 32, 4, 2>;
template <class T>
constexpr Shape shape_of() {
  return {T::m, T::n, T::k};
}

int blocks(const Shape& s, const DeviceMatrix& w, int rows) {
  return ceil_div(rows, s.m) * ceil_div(w.out, s.n);
}

Shape choose(const DeviceMatrix& w, int rows) {
  if (w.type == WeightType::f32) return shape_of<Exact>();
  if (rows <= 16) return shape_of<Tile16>();
  if (rows <= 32) return shape_of<Tile32>();
  const Shape large = shape_of<Tile128>();
  return blocks(large, w, rows) < busy_blocks / 2 ? shape_of<Tile64>() : large;
}

template <class T, WeightType type, bool transposed>
void run(Stream stream, const Product& p, Slices slices) {
  const bool aligned =
      reinterpret_cast<std::uintptr_t>(p.x.p) % 16 == 0 && p.x.stride % 4 == 0 && p.w.in % 4 == 0;
  const dim3 grid(static_cast<unsigned>(ceil_div(p.w.out, T::n)),
                  static_cast<unsigned>(ceil_div(p.rows, T::m)), static_cast<unsigned>(slices.count));
  if constexpr (type == WeightType::f32) {
    launch(&exact_tiles<transposed>, grid, dim3(T::threads), 0, stream, p, slices, aligned);
  } else {
    launch(&tensor_tiles<T, type, transposed>, grid, dim3(T::threads), 0, stream, p, slices, aligned);
  }
}

template <WeightType type, bool transposed>
void run(Stream stream, const Product& p, Slices slices) {
  switch (choose(p.w, p.rows).m) {
    case 16:
      return run<Tile16, type, transposed>(stream, p, slices);
    case 32:
      return run<Tile32, type, transposed>(stream, p, slices);
    case 64:
      return run<Tile64, type, transposed>(stream, p, slices);
    default:
      return run<Tile128, type, transposed>(stream, p, slices);
  }
}

template <WeightType type>
void run_plain(Stream stream, const Product& p, Slices slices) {
  p.w.transposed ? run<type, true>(stream, p, slices) : run<type, false>(stream, p, slices);
}

}  // namespace

// Cut until the card is busy, but no shorter than a few tiles.
Slices tile_slices(const DeviceMatrix& w, int rows) {
  const Shape shape = choose(w, rows);
  const int tiles = ceil_div(w.in, shape.k), tiles_at_least = 4;
  int count = ceil_div(busy_blocks, blocks(shape, w, rows));
  count = std::max(1, std::min(count, tiles / tiles_at_least));
  const int length = ceil_div(tiles, count) * shape.k;
  return {ceil_div(w.in, length), length};
}

void product_tiles(Stream stream, const Product& p, Slices slices) {
  switch (p.w.type) {
    case WeightType::f32:
      return p.w.transposed ? run<Exact, WeightType::f32, true>(stream, p, slices)
                            : run<Exact, WeightType::f32, false>(stream, p, slices);
    case WeightType::f16:
      return run_plain<WeightType::f16>(stream, p, slices);
    case WeightType::bf16:
      return run_plain<WeightType::bf16>(stream, p, slices);
    case WeightType::q8_0:
      return run<WeightType::q8_0, false>(stream, p, slices);
    case WeightType::q4_0:
      return run<WeightType::q4_0, false>(stream, p, slices);
    case WeightType::q4_k:
      return run<WeightType::q4_k, false>(stream, p, slices);
  }
}

}  // namespace fr::cuda
