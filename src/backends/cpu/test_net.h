// A small net of random weights, programs that use every op, and devices that run them.
#pragma once
#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "backends/cpu/cpu_device.h"
#include "backends/cpu/dispatch.h"
#include "core/fused_linear.h"
#include "core/fused_mix.h"
#include "core/fused_wkv.h"

namespace fr {
const Backend& reference_backend();
const Backend& cpu_backend();
}  // namespace fr

namespace fr::cpu {

extern const Kernels kernels_avx512_emulated;
extern const TileKernels tiles_amx_emulated, dots_bf16_emulated;

// All kernels that can run here, the emulated AVX-512 ones included.
std::vector<const Kernels*> tested_kernels();
std::string kernels_name(const testing::TestParamInfo<const Kernels*>& info);

std::vector<float> random_floats(std::size_t n, unsigned seed, float scale = 1);

struct Sizes {
  int d, heads, ffn, rank, vocab;
  int head() const { return d / heads; }
};

// Random weights, the same for every device that `load` is called for: ids depend on the order alone.
struct Net {
  explicit Net(Sizes sizes, DType in_file = DType::f32) : size(sizes), stored(in_file) {}
  Sizes size;
  DType stored;  // as the "file" has them
  unsigned seed = 0;

  Vec vec(WeightStore& store, int heads, int cols, float mean = 0, float scale = 0.5f);
  Mat mat(WeightStore& store, int out, int in, MatRole role = MatRole::plain, bool transposed = false);
  Norm norm(WeightStore& store, int n) { return {vec(store, 1, n, 1), vec(store, 1, n)}; }
  LowRank low_rank(WeightStore& store, Act inner, Act outer, bool bias);
  void load(Device& dev);  // everything that the programs use

  Mat embedding, key, rare_key, value, value_biased, head;
  std::array<Vec, 6> mixes;
  Norm ln;
  std::array<Mat, 5> square;
  LowRank tanh_pair, plain_pair, gate_pair;
  DataMix data;
  std::array<Vec, 4> per_head;
  Vec decay4, bonus4, decay5;
};

// Blocks of the state that the programs use.
struct States {
  explicit States(Sizes size) {
    for (int i = 0; i < 6; ++i)
      prev[static_cast<std::size_t>(i)] = spec.add("prev" + std::to_string(i), 0, {size.d});
    for (StateRef& kv_ref : kv) kv_ref = spec.add("kv", 0, {size.heads, size.head(), size.head()});
    four = {spec.add("aa", 0, {size.d}), spec.add("bb", 0, {size.d}), spec.add("pp", 0, {size.d}, -1e30f)};
  }
  StateSpec spec;
  std::array<StateRef, 6> prev;
  std::array<StateRef, 3> kv;
  Wkv4State four;
};

using Emit = void (*)(Ops&, const Net&, const States&);
void emit_mixes(Ops& op, const Net& n, const States& s);
void emit_products(Ops& op, const Net& n, const States& s);
void emit_wkv(Ops& op, const Net& n, const States& s);
// Primitives that no native kernel covers, and their broadcasts.
void emit_primitives(Ops& op, const Net& n, const States& s);
// A recurrence that no kernel knows, with states of two kinds that depend on each other.
void emit_scan(Ops& op, const Net& n, const States& s);

struct Outputs {
  std::vector<float> x, pending, v_first, hidden, logits;
  bool operator==(const Outputs&) const = default;
};

// A device with the net's weights, running one program.
class Runner {
 public:
  Runner(std::unique_ptr<Device> device, Net net, Emit emit);

  Outputs step(const Batch& batch, const std::vector<float>& pending);
  std::vector<float> state(int slot) const {
    std::vector<float> values(static_cast<std::size_t>(states_.spec.size));
    dev->export_slot(slot, values);
    return values;
  }

  std::unique_ptr<Device> dev;
  bool program_sliced = false;  // port_v_first has two columns less

 private:
  Net net_;
  States states_;
  Emit emit_;
};

Runner make_cpu(const Net& net, Emit emit, const CpuOptions& options);

// Sequences {slot, rows}; the last row of each is wanted, unless it is the only one (but in slot 0 always).
Batch make_batch(std::initializer_list<std::pair<int, int>> sequences, int vocab, int first_token = 1);
std::vector<float> pending_of(const Batch& b, const Net& net, unsigned seed);

inline constexpr Sizes odd_size{35, 5, 77, 3, 41}, usual_size{128, 2, 448, 32, 96},
    small_heads{64, 4, 100, 8, 33}, head_40{80, 2, 96, 5, 50}, head_32{96, 3, 200, 16, 64},
    with_blocks{256, 4, 544, 32, 96}, one_panel{32, 2, 256, 8, 96};

}  // namespace fr::cpu
