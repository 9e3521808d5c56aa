// One step's work: rows of tokens from any number of sequences (decode: one row each; prefill: many rows of
// one).
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"

namespace fr {

// Rows [begin, begin + count) of a batch are consecutive tokens of the sequence whose state lives in `slot`.
struct Sequence {
  int slot = 0;
  int begin = 0;
  int count = 0;
};

struct Batch {
  std::vector<std::int32_t> tokens;  // one per row
  std::vector<Sequence> sequences;   // cover the rows in order, without gaps; slots are distinct
  std::vector<int> wanted;           // rows whose logits (and hidden rows) are wanted, ascending

  int rows() const { return static_cast<int>(tokens.size()); }
};

// Checks what the caller gave before a device runs it: at least one row, token ids in [0, n_vocab), sequences
// that cover the rows in order, slots in [0, n_slots) and distinct, wanted rows in range and strictly
// ascending.
Status validate(const Batch& batch, int n_vocab, int n_slots);

// Rows [begin, end) of a batch, as a batch; a sequence that is cut goes on through its state.
Batch part_of(const Batch& all, int begin, int end);

// Named places where values enter and leave a step (Ops::input, Ops::output). Row counts: logits and hidden
// have one row per wanted row, the others one row per token: they carry a split model's stream from device to
// device.
enum Port : int {
  port_logits = 0,
  port_hidden = 1,
  port_x = 2,
  port_pending = 3,
  port_v_first = 4,
  port_count = 5
};

// What the caller gives to or takes from one port.
struct PortIn {
  int port;
  std::span<const float> data;
};
struct PortOut {
  int port;
  std::span<float> data;
};

}  // namespace fr
