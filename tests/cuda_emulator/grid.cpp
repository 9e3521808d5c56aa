#include "cuda_emulator/grid.h"

#include <cstdio>
#include <vector>

#include "cuda_emulator/fibers.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace cuda_emulator {
namespace {

struct Barrier {
  unsigned arrived = 0;
  std::uint64_t generation = 0;
};
struct Warp {
  Barrier barrier;
  unsigned alive = 0;    // lanes that have not returned
  unsigned waiting = 0;  // the mask of those at the barrier, and the mask they wait for
  unsigned mask = 0;
  unsigned votes = 0;
  alignas(16) unsigned char slots[warp_size][64];
};
struct Block {
  std::vector<Warp> warps;
  Barrier barrier;
  unsigned alive = 0;
  std::vector<unsigned char> shared;
};
Block block;

unsigned linear_thread() { return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z); }
Warp& own_warp() { return block.warps[linear_thread() / warp_size]; }

void open_block_barrier() {
  if (block.barrier.arrived > 0 && block.barrier.arrived == block.alive) {
    block.barrier.arrived = 0;
    ++block.barrier.generation;
  }
}
void open_warp_barrier(Warp& warp) {
  if (warp.waiting != 0 && warp.waiting == (warp.mask & warp.alive)) {
    warp.waiting = 0;
    ++warp.barrier.generation;
  }
}

uint3 place(std::size_t i, const dim3& size) {
  return {static_cast<unsigned>(i % size.x), static_cast<unsigned>(i / size.x % size.y),
          static_cast<unsigned>(i / size.x / size.y)};
}

// The barriers leave threadIdx to others: it is put back when the thread goes on.
void wait_here(const std::function<bool()>& ready, const char* what) {
  const uint3 thread = threadIdx;
  wait_until(ready, what);
  threadIdx = thread;
}

// The order of what may run in any order.
struct Order {
  bool descending;  // blocks, and threads of a block, from the last to the first
  bool warps;       // a warp runs as far as it can before another does
};

void run_block(std::size_t threads, Order order, const std::function<void()>& body) {
  block.barrier = {};
  block.alive = static_cast<unsigned>(threads);
  block.warps.assign((threads + warp_size - 1) / warp_size, {});
  for (std::size_t i = 0; i < threads; ++i) block.warps[i / warp_size].alive |= 1u << (i % warp_size);
  run_fibers(threads, order.warps ? warp_size : 1, [&](std::size_t fiber) {
    const std::size_t i = order.descending ? threads - 1 - fiber : fiber;
    threadIdx = place(i, blockDim);
    body();
    Warp& warp = block.warps[i / warp_size];
    warp.alive &= ~(1u << (i % warp_size));
    --block.alive;
    open_warp_barrier(warp);
    open_block_barrier();
  });
}

}  // namespace

// The order changes from launch to launch: what relies on one, for want of a barrier, then shows.
void run_grid(const dim3& grid, const dim3& threads, std::size_t shared, const std::function<void()>& body) {
  static unsigned launches = 0;
  const Order order{launches % 2 == 1, launches / 2 % 2 == 1};
  ++launches;
  blockDim = threads;
  gridDim = grid;
  const std::size_t blocks = std::size_t{grid.x} * grid.y * grid.z;
  for (std::size_t b = 0; b < blocks; ++b) {
    block.shared.assign(shared + 16, 0xff);
    blockIdx = place(order.descending ? blocks - 1 - b : b, grid);
    run_block(std::size_t{threads.x} * threads.y * threads.z, order, body);
  }
}

void sync_block() {
  const std::uint64_t generation = block.barrier.generation;
  ++block.barrier.arrived;
  open_block_barrier();
  wait_here([generation] { return block.barrier.generation != generation; }, "__syncthreads");
}

void sync_warp(unsigned mask) {
  Warp& warp = own_warp();
  const unsigned bit = 1u << lane();
  if ((mask & bit) == 0 || (warp.waiting != 0 && warp.mask != mask)) {
    std::fprintf(stderr,
                 "cuda emulator: lanes of a warp meet with different masks, or one outside its own mask\n");
    std::abort();
  }
  const std::uint64_t generation = warp.barrier.generation;
  warp.mask = mask;
  warp.waiting |= bit;
  open_warp_barrier(warp);
  wait_here([&warp, generation] { return warp.barrier.generation != generation; }, "a warp operation");
}

unsigned lane() { return linear_thread() % warp_size; }
unsigned active_lanes() { return own_warp().alive; }
unsigned char* exchange(unsigned lane) { return own_warp().slots[lane]; }

unsigned ballot(unsigned mask, bool predicate) {
  const unsigned char vote = predicate ? 1 : 0;
  std::memcpy(exchange(lane()), &vote, 1);
  sync_warp(mask);
  unsigned votes = 0;
  for (unsigned i = 0; i < warp_size; ++i) {
    if ((mask & own_warp().alive) >> i & 1u) votes |= static_cast<unsigned>(*exchange(i)) << i;
  }
  sync_warp(mask);
  return votes;
}

void* dynamic_shared() {
  const auto at = reinterpret_cast<std::uintptr_t>(block.shared.data());
  return block.shared.data() + (16 - at % 16) % 16;
}

}  // namespace cuda_emulator
