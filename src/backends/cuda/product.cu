// Products: which kernel, the sum over slices, and the count of zero inputs.
#include "backends/cuda/product.cuh"

namespace fr::cuda {
namespace {

constexpr int threads = 256;

__global__ void __launch_bounds__(threads) add_slices(Product p, int slices) {
  const std::int64_t all = std::int64_t{p.rows} * p.w.out;
  const std::int64_t i = std::int64_t{blockIdx.x} * threads + threadIdx.x;
  if (i >= all) return;
  const float* partial = static_cast<const float*>(p.scratch) + i;
  float sum = 0;
  for (int s = 0; s < slices; ++s) sum += partial[s * all];
  finish(p, static_cast<int>(i / p.w.out), static_cast<int>(i % p.w.out), sum);
}

__global__ void __launch_bounds__(threads) count_zeros(Rows x, int in, unsigned long long* zeros) {
  const int i = static_cast<int>(blockIdx.x) * threads + static_cast<int>(threadIdx.x);
  const float* row = x.p + blockIdx.y * x.stride;
  const unsigned found = __ballot_sync(all_lanes, i < in && row[i] == 0.0f);
  if (threadIdx.x % 32 == 0 && found != 0) atomicAdd(zeros, static_cast<unsigned long long>(__popc(found)));
}

bool sparse(const DeviceMatrix& w, int rows) { return w.transposed && rows <= most_exact_rows; }

Slices slices_of(const DeviceMatrix& w, int rows) {
  if (rows > most_exact_rows) return tile_slices(w, rows);
  return w.transposed ? sparse_slices(w) : Slices{};
}

}  // namespace

std::size_t product_scratch(const DeviceMatrix& w, int rows) {
  const Slices slices = slices_of(w, rows);
  if (slices.count == 1 && !sparse(w, rows)) return 0;
  return static_cast<std::size_t>(slices.count) * static_cast<std::size_t>(rows) *
         static_cast<std::size_t>(w.out) * sizeof(float);
}

void product(Stream stream, const Product& p) {
  if (p.rows <= 0) return;
  const Slices slices = slices_of(p.w, p.rows);
  if (p.rows > most_exact_rows) {
    product_tiles(stream, p, slices);
  } else if (p.w.transposed) {
    product_sparse(stream, p, slices);
  } else {
    product_few_rows(stream, p);
  }
  if (slices.count > 1 || sparse(p.w, p.rows)) {
    const std::int64_t all = std::int64_t{p.rows} * p.w.out;
    launch(add_slices, dim3(static_cast<unsigned>((all + threads - 1) / threads)), dim3(threads), 0, stream,
           p, slices.count);
  }
  if (p.zeros != nullptr && !sparse(p.w, p.rows)) {
    const dim3 grid(static_cast<unsigned>(ceil_div(p.w.in, threads)), static_cast<unsigned>(p.rows));
    launch(count_zeros, grid, dim3(threads), 0, stream, p.x, p.w.in, p.zeros);
  }
}

}  // namespace fr::cuda
