// A recorded program: launches over values, in order, with memory planned. Nothing in it depends on the
// number of rows: the same recording runs one token of one sequence, a prompt, or any mix, at once or
// captured in a graph.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "backends/cuda/kernels.h"
#include "core/batch.h"
#include "core/ops.h"

namespace fr::cuda {

// Floats from row to row: whole cache lines, so that rows can be read in vectors.
constexpr std::int64_t row_stride(std::int64_t cols) { return (cols + 31) / 32 * 32; }

// Where a value's numbers live.
enum class Place : std::uint8_t {
  rows,    // memory for every row of the batch
  wanted,  // memory for every wanted row
  fixed,   // memory of a size that the program knows
  bound,   // somewhere else: a weight; in a scan body also an input's row or a block of the state
};

struct Value {
  Place place = Place::fixed;
  int owner = -1;           // the value whose memory this is: itself unless a view
  std::int64_t offset = 0;  // floats from its place's (times the rows) or, for a view, its owner's begin
  std::int64_t size = 0;    // floats, per row for rows and wanted
  const float* bound = nullptr;
  int first = -1, last = -1;  // commands: made by, last read by
};

// How a command reaches a tensor: row i of its leading dimension starts at address[value] + i * stride.
struct Operand {
  int value = -1;
  std::int64_t stride = 0;
  explicit operator bool() const { return value >= 0; }
};

// One run of a recording. All pointers but `batch` and `slots` itself are the device's.
struct Frame {
  Stream stream = nullptr;
  StepView step;                             // with padding, if a graph is captured
  const Batch* batch = nullptr;              // for scans, which are never captured
  std::span<float* const> slots;             // for scans, by slot number of the batch
  std::array<OutRows, port_count> inputs{};  // where the caller's rows were put
  std::vector<float*> address;               // of every value
  void* scratch = nullptr;                   // of the product at hand
  float* local = nullptr;                    // values of scan bodies
  unsigned long long* zeros = nullptr;       // counter: zero inputs of the products that may leave them out

  float* at(Operand x, std::int64_t row = 0) const {
    return address[static_cast<std::size_t>(x.value)] + row * x.stride;
  }
  // An absent operand gives absent rows.
  Rows rows(Operand x) const { return x ? Rows{at(x), x.stride} : Rows{}; }
  OutRows out(Operand x) const { return x ? OutRows{at(x), x.stride} : OutRows{}; }
  // The size of a tensor's leading dimension, d0 if it is fixed.
  int count(Extent extent, int d0 = 1) const {
    return extent == Extent::batch ? step.rows : extent == Extent::wanted ? step.wanted : d0;
  }
};

struct Command {
  std::function<void(const Frame&)> run;
  std::vector<int> reads, writes;  // values (owners)
};

// What a program hands out.
struct Output {
  int port = 0;
  Operand from;
  Extent extent = Extent::batch;
  int d0 = 1, cols = 0;
};

class Recording {
 public:
  std::vector<Value> values;
  std::vector<Command> commands;
  std::vector<Output> outputs;
  std::array<int, port_count> input_cols{};  // of the ports that are read, else 0
  bool has_scan = false;                     // its launches depend on the batch: no graph
  OpCounts counts;                           // sparse_inputs: per row

  struct Scratch {
    const DeviceMatrix* w;
    Extent extent;
  };
  std::vector<Scratch> products;  // what needs scratch memory
  std::int64_t local = 0;         // floats for the values of a scan body

  // Once, after the last command.
  void finish();

  // Bytes of a run's memory, in the order: scratch of products, values, values of scan bodies.
  std::size_t memory(int rows, int wanted) const;
  // Fills frame.address, scratch and local for its number of rows; memory is 256-byte aligned. A scan then
  // sets the bound values of its body and places the views again for each token.
  void place(Frame& frame, std::byte* memory) const;
  void place_views(Frame& frame) const;
  void run(const Frame& frame) const {
    for (const Command& c : commands) c.run(frame);
  }

 private:
  void plan(Place place);
  std::size_t scratch_bytes(int rows, int wanted) const;
  std::int64_t floats(int rows, int wanted) const;

  std::array<std::int64_t, 3> sizes_{};  // floats per row, per wanted row, fixed
};

}  // namespace fr::cuda
