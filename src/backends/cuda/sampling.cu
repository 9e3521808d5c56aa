// The sampler on the GPU. A block draws a row's token by the steps of sample/sampler.cpp, and must come to
// the same bits: weights are computed as there (this file is compiled without contraction), and sums whose
// rounding matters are added in the order that they have there. One warp adds, while the others compute the
// weights of the next tile.
#include <cfloat>

#include "backends/cuda/launch.h"
#include "backends/cuda/sampling.h"
#include "base/portable_math-inl.h"

namespace fr::cuda {
namespace {

using Key = unsigned long long;  // a smaller one is a better token: sampler.cpp, make_key

constexpr unsigned all_lanes = 0xffffffffu;
constexpr int threads = 512, warps = threads / 32;
constexpr int workers = threads - 32;  // all warps but the first
constexpr int tile = 2 * workers;      // weights that they compute at a time
constexpr int sum_lanes = 8;           // partial sums of ordered_sum
constexpr int shared_keys = 2048;      // more are sorted in GPU memory
constexpr int most_blocks = 128;       // rows beyond them wait
constexpr Key no_key = ~Key{0};
static_assert(tile % sum_lanes == 0);

struct Shared {
  Key keys[shared_keys];
  double tiles[2][tile];
  union {
    Key keys[warps];
    double sums[warps];
    int counts[warps];
  } reduce;
  double lane_sums[sum_lanes];
  double sum;
  int count;
  bool stop[2];
};

__device__ Key make_key(float logit, unsigned id) {
  unsigned u = __float_as_uint(logit);
  if (u == 0x80000000u) u = 0;  // -0 equals +0
  const unsigned descending = (u >> 31) != 0 ? u : u ^ 0x7fffffffu;
  return (static_cast<Key>(descending) << 32) | id;
}
__device__ float key_logit(Key key) {
  const unsigned u = static_cast<unsigned>(key >> 32);
  return __uint_as_float((u >> 31) != 0 ? u : u ^ 0x7fffffffu);
}
__device__ int key_id(Key key) { return static_cast<int>(key & 0xffffffffu); }
__device__ Key last_key(float logit) { return make_key(logit, 0xffffffffu); }

__device__ int thread() { return static_cast<int>(threadIdx.x); }
__device__ int lane() { return thread() % 32; }
__device__ int warp() { return thread() / 32; }

// Over the block, in a fixed order; everyone gets the result. buffer: [warps], of Shared::reduce.
template <class T, class Op>
__device__ T block_reduce(T value, T* buffer, Op op) {
  for (int step = 16; step > 0; step /= 2) value = op(value, __shfl_xor_sync(all_lanes, value, step));
  if (lane() == 0) buffer[warp()] = value;
  __syncthreads();
  value = buffer[lane() % warps];
  for (int step = warps / 2; step > 0; step /= 2) value = op(value, __shfl_xor_sync(all_lanes, value, step));
  __syncthreads();
  return value;
}
__device__ Key block_min(Shared& s, Key value) {
  return block_reduce(value, s.reduce.keys, [](Key a, Key b) { return a < b ? a : b; });
}
__device__ double block_sum(Shared& s, double value) {
  return block_reduce(value, s.reduce.sums, [](double a, double b) { return a + b; });
}

// Numbers i < n pass through tiles: weight(i) by all warps but the first, then use(values, count) by the
// first warp, whose first lane ends it with true. Whatever that warp leaves in shared memory is there for all
// at the end.
template <class Weight, class Use>
__device__ void through_tiles(Shared& s, int n, Weight weight, Use use) {
  const int tiles = (n + tile - 1) / tile;
  for (int t = 0; t <= tiles; ++t) {
    if (warp() > 0) {
      for (int i = thread() - 32; i < tile && t * tile + i < n; i += workers)
        s.tiles[t % 2][i] = weight(t * tile + i);
    } else {
      const int first = (t - 1) * tile, count = n - first < tile ? n - first : tile;
      const bool stop = t > 0 && use(s.tiles[(t - 1) % 2], count);
      if (lane() == 0) s.stop[t % 2] = stop;
    }
    __syncthreads();
    if (s.stop[t % 2]) break;
  }
  __syncthreads();
}

// Ascending. Every exchange brings the smaller key to the lower place, so n need not be a power of two: what
// would lie beyond it never moves.
__device__ void sort(Key* keys, int n) {
  const auto order = [&](int low, int high) {
    if (high >= n || keys[low] <= keys[high]) return;
    const Key key = keys[low];
    keys[low] = keys[high];
    keys[high] = key;
  };
  int pairs = 1;
  while (2 * pairs < n) pairs *= 2;
  for (int half = 1; half < n; half *= 2) {  // sorted runs of `half` become runs of twice the size
    for (int p = thread(); p < pairs; p += threads) {
      const int i = p & (half - 1), run = (p - i) * 2;
      order(run + i, run + 2 * half - 1 - i);
    }
    __syncthreads();
    for (int step = half / 2; step > 0; step /= 2) {
      for (int p = thread(); p < pairs; p += threads) {
        const int i = p & (step - 1), low = (p - i) * 2 + i;
        order(low, low + step);
      }
      __syncthreads();
    }
  }
}

// The row of a block. All functions are for all its threads.
struct Row {
  Shared& s;
  const PackedDraw& r;
  int vocab;
  float* x;       // [vocab] logits after penalties, biases, bans
  Key* far_keys;  // [vocab]
  float max = 0;
  Key* keys = nullptr;  // what `gather` found

  template <class F>
  __device__ void each(F f) const {
    for (int i = thread(); i < vocab; i += threads) f(i);
  }

  __device__ double weight(float logit, double temperature) const {
    const double distance = static_cast<double>(logit) - static_cast<double>(max);
    return exp_inline(temperature == 1.0 ? distance : distance / temperature);
  }
  __device__ Key key(int i) const { return make_key(x[i], static_cast<unsigned>(i)); }

  // The best token, and max; or what is wrong with the row, and with which token. A thread looks at those
  // numbers that `each` gives it.
  __device__ Drawn examine() {
    Key first = no_key;
    each([&](int i) {  // the key of a sound number has more in its upper half than 0
      const Key k = x[i] <= FLT_MAX ? key(i) : static_cast<Key>(i);
      first = k < first ? k : first;
    });
    first = block_min(s, first);
    const int token = key_id(first);
    if (first >> 32 == 0) return {token, x[token] > FLT_MAX ? Fault::infinite : Fault::not_a_number};
    max = key_logit(first);
    if (max < -FLT_MAX) return {0, Fault::all_banned};
    return {token, Fault::none};
  }

  __device__ void adjust(const std::byte* requests) {
    const PackedBias* penalties = reinterpret_cast<const PackedBias*>(requests + r.penalties);
    const PackedBias* biases = reinterpret_cast<const PackedBias*>(requests + r.biases);
    const std::int32_t* banned = reinterpret_cast<const std::int32_t*>(requests + r.banned);
    for (unsigned i = threadIdx.x; i < r.n_penalties; i += threads) x[penalties[i].id] += penalties[i].value;
    __syncthreads();
    for (unsigned i = 0; i < r.n_biases; ++i)  // those of one id are one thread's, in their order
      if (biases[i].id % threads == thread()) x[biases[i].id] += biases[i].value;
    __syncthreads();
    for (unsigned i = threadIdx.x; i < r.n_banned; i += threads) x[banned[i]] = -INFINITY;
    __syncthreads();
  }

  // Of all weights at the filters' temperature, as base/portable_math.h adds them.
  __device__ double ordered_sum() const {
    double sum = 0;  // of the first warp's first lanes
    through_tiles(
        s, vocab, [&](int i) { return weight(x[i], r.filter_temperature); },
        [&](const double* values, int count) {
          if (lane() < sum_lanes)
            for (int i = lane(); i < count; i += sum_lanes) sum += values[i];
          return false;
        });
    if (thread() < sum_lanes) s.lane_sums[thread()] = sum;
    __syncthreads();
    const double* p = s.lane_sums;
    return ((p[0] + p[1]) + (p[2] + p[3])) + ((p[4] + p[5]) + (p[6] + p[7]));
  }

  // Adds the weights of keys[0..n) one by one. The result: how many it took to reach `target` (or to exceed
  // it), n if all did not; s.sum is the sum of all if they did not.
  __device__ int count_to(double target, bool exceed, int n, double temperature) const {
    double sum = 0;
    int before = 0;
    if (thread() == 0) s.count = n;
    through_tiles(
        s, n, [&](int i) { return weight(key_logit(keys[i]), temperature); },
        [&](const double* values, int count) {
          if (lane() != 0) return false;
          const auto reached = [&](double mass) { return exceed ? mass > target : mass >= target; };
          double after = sum;
          for (int i = 0; i < count; ++i) after += values[i];
          if (reached(after)) {  // sums only grow: it is in this tile
            int i = 0;
            while (!reached(sum += values[i])) ++i;
            s.count = before + i + 1;
            return true;
          }
          before += count;
          s.sum = sum = after;
          return false;
        });
    const int count = s.count;
    __syncthreads();
    return count;
  }
  __device__ double sum_of(int n, double temperature) const {
    count_to(INFINITY, true, n, temperature);
    const double sum = s.sum;
    __syncthreads();
    return sum;
  }

  // Sets `keys` to those up to `last` of tokens with at least min_weight, in id order; returns how many.
  __device__ int gather(Key last, double min_weight) {
    const int share = (vocab + warps * 32 - 1) / (warps * 32) * 32, begin = warp() * share;
    const int end = begin + share < vocab ? begin + share : vocab;
    const auto kept = [&](int i) {
      return i < end && key(i) <= last &&
             (min_weight <= 0 || weight(x[i], r.filter_temperature) >= min_weight);
    };
    int count = 0;
    for (int i = begin; i < end; i += 32) count += __popc(__ballot_sync(all_lanes, kept(i + lane())));
    if (lane() == 0) s.reduce.counts[warp()] = count;
    __syncthreads();
    int at = 0, n = 0;
    for (int w = 0; w < warps; ++w) {
      if (w == warp()) at = n;
      n += s.reduce.counts[w];
    }
    keys = n <= shared_keys ? s.keys : far_keys;
    for (int i = begin; i < end; i += 32) {
      const bool keep = kept(i + lane());
      const unsigned ballot = __ballot_sync(all_lanes, keep);
      if (keep) keys[at + __popc(ballot & ((1u << lane()) - 1))] = key(i + lane());
      at += __popc(ballot);
    }
    __syncthreads();
    return n;
  }

  // A limit with enough tokens before it for the cut: top_k of them, or (not with target < 0) the mass of
  // top-p. It decides how many are sorted, not what the cut is; so the order of these sums does not matter.
  __device__ Key candidates(double target) const {
    for (float distance = 4; distance <= 16; distance *= 2) {
      const float lowest = max - distance;
      const Key limit = last_key(lowest < -FLT_MAX ? -FLT_MAX : lowest);
      double count = 0, mass = 0;
      each([&](int i) {
        if (key(i) > limit) return;
        count += 1;
        if (target >= 0) mass += weight(x[i], r.filter_temperature);
      });
      if (r.top_k > 0 && block_sum(s, count) >= r.top_k) return limit;
      if (target >= 0 && block_sum(s, mass) > target * (1 + 1e-9)) return limit;
    }
    return last_key(-FLT_MAX);
  }

  // The last key that top-k and top-p keep.
  __device__ Key cut() {
    const bool use_p = r.top_p<1, mass_of_k = r.top_k> 0 && (r.top_p_of_top_k || !use_p);
    if (r.top_k == 0 && !use_p) return last_key(-FLT_MAX);
    double target = mass_of_k ? -1 : r.top_p * ordered_sum();
    int n = gather(candidates(target), 0);
    sort(keys, n);
    if (r.top_k > 0 && r.top_k < n) n = r.top_k;
    Key last = keys[n - 1];
    if (use_p) {
      if (mass_of_k) target = r.top_p * sum_of(n, r.filter_temperature);
      const Key end = keys[count_to(target, r.top_p_exceeds, n, r.filter_temperature) - 1];
      const Key end_of_equals = last_key(key_logit(end));
      last = !r.equals_stay ? end : end_of_equals < last ? end_of_equals : last;
    }
    __syncthreads();  // `keys` are read
    return last;
  }

  __device__ int token() {
    const int n = gather(cut(), r.min_p);
    const double target = r.uniform * sum_of(n, r.temperature);
    return key_id(keys[count_to(target, true, n, r.temperature) - 1]);
  }
};

struct Scratch {
  std::size_t keys, bytes;  // where the keys begin behind the logits, and all
};
__host__ __device__ Scratch scratch_of(int vocab) {
  const std::size_t keys = (static_cast<std::size_t>(vocab) * sizeof(float) + 15) / 16 * 16;
  return {keys, keys + (static_cast<std::size_t>(vocab) * sizeof(Key) + 15) / 16 * 16};
}

__global__ void __launch_bounds__(threads, 1) draw_kernel(Draw d) {
  __shared__ Shared shared;
  const Scratch sizes = scratch_of(d.vocab);
  std::byte* scratch = static_cast<std::byte*>(d.scratch) + blockIdx.x * sizes.bytes;
  const PackedDraw* requests = reinterpret_cast<const PackedDraw*>(d.requests);
  for (int i = static_cast<int>(blockIdx.x); i < d.rows; i += static_cast<int>(gridDim.x)) {
    Row row{shared, requests[i], d.vocab, reinterpret_cast<float*>(scratch),
            reinterpret_cast<Key*>(scratch + sizes.keys)};
    const float* logits = d.logits.p + i * d.logits.stride;
    row.each([&](int id) { row.x[id] = logits[id]; });
    Drawn drawn = row.examine();
    if (drawn.fault == Fault::none) {
      row.adjust(d.requests);
      drawn = row.examine();
    }
    if (drawn.fault == Fault::none && !row.r.greedy) drawn.token = row.token();
    if (thread() == 0) d.drawn[i] = drawn;
    __syncthreads();  // the next row finds scratch and shared memory unused
  }
}

int blocks_of(int rows) { return rows < most_blocks ? rows : most_blocks; }

}  // namespace

std::size_t draw_scratch(int rows, int vocab) {
  return static_cast<std::size_t>(blocks_of(rows)) * scratch_of(vocab).bytes;
}

void draw(Stream stream, const Draw& d) {
  launch(draw_kernel, dim3(static_cast<unsigned>(blocks_of(d.rows))), dim3(threads), 0, stream, d);
}

}  // namespace fr::cuda
