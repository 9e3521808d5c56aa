// A recorded program: commands over values, ordered in stages, with memory planned. Nothing in it depends on
// the number of rows: the same recording runs one token of one sequence, a prompt, or any mix.
#pragma once
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "backends/cpu/kernels.h"
#include "core/batch.h"
#include "core/ops.h"

namespace fr::cpu {

// Rows start on a cache line, and an odd number of lines apart, so that equal columns of successive rows do
// not fall into the same cache sets. At least as long as the panels that cover `cols`.
constexpr std::ptrdiff_t row_stride(std::ptrdiff_t cols) {
  constexpr std::ptrdiff_t line = 16;
  return ((cols + panel_cols - 1) / panel_cols * (panel_cols / line) | 1) * line;
}

// Where a value's numbers live.
enum class Place : std::uint8_t {
  rows,    // memory for every row of the batch
  wanted,  // memory for every wanted row
  fixed,   // memory of a size that the program knows
  bound,   // somewhere else: a weight; in a scan body also an input's row or a block of the state
};

struct Value {
  Place place = Place::fixed;
  int owner = 0;            // the value whose memory this is: itself unless a view
  std::int64_t offset = 0;  // floats from its place's (times the rows) or, for a view, its owner's begin
  std::int64_t size = 0;    // floats, per row for rows and wanted
  const float* bound = nullptr;
  int first = -1, last = -1;  // stages: made in, last read in
};

// How a command reaches a tensor: row i of its leading dimension starts at address[value] + i * stride.
struct Operand {
  int value = 0;
  std::ptrdiff_t stride = 0;
  explicit operator bool() const { return value >= 0; }
};
inline constexpr Operand no_operand{-1, 0};

struct Worker {
  float* scratch = nullptr;  // for the command at hand
  float* local = nullptr;    // values inside scan bodies
};

// Of the products that may leave out zeros.
struct SparseInputs {
  std::atomic<std::int64_t> all{0}, zeros{0};
};

// One run of a recording.
struct Frame {
  const Batch* batch = nullptr;
  int workers = 1;
  std::vector<int> sequence_of_row;
  std::span<float* const> slots;  // states, by slot number
  std::array<const float*, port_count> inputs{};
  std::array<float*, port_count> outputs{};  // null: nobody asked
  std::vector<float*> address;               // of every value
  SparseInputs* sparse_inputs = nullptr;

  float* at(Operand x, std::int64_t row = 0) const {
    return address[static_cast<std::size_t>(x.value)] + row * x.stride;
  }
  const Sequence& sequence(int row) const {
    return batch->sequences[static_cast<std::size_t>(sequence_of_row[static_cast<std::size_t>(row)])];
  }
  float* state(int slot, std::int64_t offset) const { return slots[static_cast<std::size_t>(slot)] + offset; }
  int rows() const { return batch->rows(); }
  int wanted() const { return static_cast<int>(batch->wanted.size()); }
  // The size of a tensor's leading dimension, d0 if it is fixed.
  int count(Extent extent, int d0 = 1) const {
    return extent == Extent::batch ? rows() : extent == Extent::wanted ? wanted() : d0;
  }
};

// A piece of work that falls into items, which may be done in any order by any workers.
struct Command {
  std::function<int(const Frame&)> items;
  std::function<void(const Frame&, const Worker&, int begin, int end)> run;
  std::vector<int> reads, writes;  // values (owners)
  std::vector<int> blocks;         // of the state
};

class Recording {
 public:
  std::vector<Value> values;
  std::vector<Command> commands;
  std::int64_t scratch = 0;  // floats that a command may want of each worker
  std::int64_t local = 0;    // floats of fixed values of scan bodies, per worker
  OpCounts counts;

  // Once, after the last command. in_order: every command is a stage of its own (scan bodies).
  void finish(bool in_order);

  // Floats that a run needs for its values.
  std::int64_t memory(int rows, int wanted) const {
    return sizes_[0] * rows + sizes_[1] * wanted + sizes_[2] + panel_cols;
  }
  // Fills frame.address; memory is 64-byte aligned. A scan then sets the bound values of its body and places
  // the views again for each token.
  void place(Frame& frame, float* memory) const;
  void place_views(Frame& frame) const;
  // The commands of a stage may run at the same time; stages come one after the other.
  int stages() const { return static_cast<int>(stages_.size()) - 1; }
  int items(int stage, const Frame& frame) const;
  void run(int stage, const Frame& frame, const Worker& worker, int begin, int end) const;
  // All commands by one worker.
  void run_alone(const Frame& frame, const Worker& worker) const;

 private:
  void order(bool in_order);
  void plan(Place place);
  std::span<const Command> stage_commands(int stage) const {
    const auto i = static_cast<std::size_t>(stage);
    return {commands.data() + stages_[i], commands.data() + stages_[i + 1]};
  }

  std::vector<std::size_t> stages_;      // first command of each, then the number of commands
  std::array<std::int64_t, 3> sizes_{};  // floats per row, per wanted row, fixed
};

}  // namespace fr::cpu
