// The cpu device against the reference device: every fused op and primitive on random ragged batches, for
// every kernel table; and what it promises beyond that (same bits for every batching, chunking and number of
// threads).
#include "backends/cpu/cpu_device.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>

#include "backends/cpu/cpu_test.h"
#include "core/fused_linear.h"
#include "core/fused_mix.h"
#include "core/fused_wkv.h"

namespace fr {
const Backend& reference_backend();
const Backend& cpu_backend();
}  // namespace fr

namespace fr::cpu {
namespace {

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

  Vec vec(WeightStore& store, int heads, int cols, float mean = 0, float scale = 0.5f) {
    std::vector<float> v = random_floats(static_cast<std::size_t>(heads * cols), ++seed, scale);
    for (float& x : v) x += mean;
    return {*store.add_vector(v, {{1, heads, cols}})};
  }
  Mat mat(WeightStore& store, int out, int in, MatRole role = MatRole::plain, bool transposed = false) {
    const std::vector<float> v =
        random_floats(static_cast<std::size_t>(out * in), ++seed, 1 / std::sqrt(static_cast<float>(in)));
    Checkpoint file;
    auto bytes = std::make_shared<std::vector<std::byte>>(v.size() * dtype_size(stored));
    for (std::size_t i = 0; i < v.size(); ++i) {
      const std::uint16_t h = stored == DType::f16 ? float_to_half(v[i]) : float_to_bf16(v[i]);
      if (stored == DType::f32) std::memcpy(bytes->data() + i * 4, &v[i], 4);
      if (stored != DType::f32) std::memcpy(bytes->data() + i * 2, &h, 2);
    }
    file.memory = bytes;
    const TensorView view{"w",
                          stored,
                          {out, in},
                          transposed ? std::vector<std::int64_t>{1, out} : std::vector<std::int64_t>{in, 1},
                          bytes->data()};
    return *store.add_matrix(view, role, file);
  }
  Norm norm(WeightStore& store, int n) { return {vec(store, 1, n, 1), vec(store, 1, n)}; }
  LowRank low_rank(WeightStore& store, Act inner, Act outer, bool bias) {
    LowRank m{mat(store, size.rank, size.d, MatRole::plain, true),
              mat(store, size.d, size.rank, MatRole::plain, true),
              {},
              inner,
              outer};
    if (bias) m.bias = vec(store, 1, size.d);
    return m;
  }

  // Everything that the programs below use.
  void load(Device& dev) {
    seed = 100;
    embedding = mat(dev, size.vocab, size.d, MatRole::embedding);
    for (Vec& m : mixes) m = vec(dev, 1, size.d);
    ln = norm(dev, size.d);
    for (Mat& m : square) m = mat(dev, size.d, size.d);
    square[0].bias = vec(dev, 1, size.d);
    key = mat(dev, size.ffn, size.d);
    rare_key = mat(dev, size.ffn, size.d);
    rare_key.bias = vec(dev, 1, size.ffn, -1.2f, 0.1f);  // nine zeros in ten
    value = mat(dev, size.d, size.ffn, MatRole::sparse_input);
    value_biased = mat(dev, size.d, size.ffn, MatRole::sparse_input, true);
    value_biased.bias = vec(dev, 1, size.d);
    head = mat(dev, size.vocab, size.d, MatRole::head);
    tanh_pair = low_rank(dev, Act::tanh, Act::decay7, true);
    plain_pair = low_rank(dev, Act::none, Act::sigmoid, true);
    gate_pair = low_rank(dev, Act::sigmoid, Act::none, false);
    data.maa_x = vec(dev, 1, size.d);
    data.w1 = mat(dev, 5 * size.rank, size.d, MatRole::plain, true);
    for (Mat& m : data.w2) m = mat(dev, size.d, size.rank, MatRole::plain, true);
    for (Vec& m : data.maa) m = vec(dev, 1, size.d);
    for (Vec& v : per_head) v = vec(dev, size.heads, size.head());
    decay4 = vec(dev, 1, size.d, -1.0f, 0.3f);
    bonus4 = vec(dev, 1, size.d);
    decay5 = vec(dev, size.heads, size.head(), 0.8f, 0.1f);
  }

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

template <class List>
Tensor blend(Ops& op, const List& tensors) {  // sum of (i + 1) t_i: a mixed up order is a difference
  Tensor sum;
  float weight = 0;
  for (const Tensor& t : tensors) {
    const Tensor scaled = op.affine(t, ++weight, 0);
    sum = sum ? add(op, sum, scaled) : scaled;
  }
  return sum;
}

using Emit = void (*)(Ops&, const Net&, const States&);

void emit_mixes(Ops& op, const Net& n, const States& s) {
  Residual r{op.embedding(n.embedding), op.input(port_pending, n.size.d)};
  const auto six = norm_mix6(op, r, n.ln, s.prev[0], n.mixes);
  op.output(port_x, blend(op, six));
  const auto one = norm_mix1(op, r, n.ln, s.prev[1], {n.mixes[0]});
  r.pending = one[0];
  const auto two = norm_mix2(op, r, n.ln, s.prev[2], {n.mixes[1], n.mixes[2]});
  r.pending = two[1];
  const auto three = norm_mix3(op, r, n.ln, s.prev[3], {n.mixes[3], n.mixes[4], n.mixes[5]});
  const auto four = norm_mix4(op, r, n.ln, s.prev[4], {n.mixes[0], n.mixes[1], n.mixes[2], n.mixes[3]});
  op.output(port_pending,
            blend(op, std::array{two[0], three[0], three[1], three[2], four[0], four[1], four[2], four[3]}));
  r.pending = two[0];
  const auto five = norm_data_mix5(op, r, n.ln, s.prev[5], n.data);
  op.output(port_v_first, blend(op, five));
  Residual last{op.wanted(r.x), op.wanted(five[0])};
  const Tensor hidden = add_norm(op, last, n.ln);
  op.output(port_hidden, hidden);
  op.output(port_logits, op.linear(hidden, n.head));
}

void emit_products(Ops& op, const Net& n, const States&) {
  const Tensor x = op.embedding(n.embedding), y = op.input(port_pending, n.size.d);
  const Tensor w = low_rank(op, x, n.tanh_pair), a = low_rank(op, y, n.plain_pair),
               g = low_rank(op, x, n.gate_pair);
  op.output(port_x, blend(op, std::array{w, a, g, op.linear(x, n.square[0], Act::silu),
                                         op.linear(y, n.square[1], Act::exp)}));
  op.output(port_pending, lerp(op, x, y, a));
  op.output(port_v_first, channel_mix_gated(op, x, y, n.key, n.value, n.square[2]));
  const Tensor hidden = op.wanted(channel_mix(op, y, n.rare_key, n.value_biased));
  op.output(port_hidden, hidden);
  op.output(port_logits, op.linear(op.wanted(g), n.head));
}

void emit_wkv(Ops& op, const Net& n, const States& s) {
  const int heads = n.size.heads;
  const Tensor x = op.embedding(n.embedding), z = op.input(port_pending, n.size.d);
  const Tensor r = split_heads(op, op.linear(x, n.square[0]), heads),
               k = split_heads(op, op.linear(x, n.square[1]), heads);
  const Tensor v = split_heads(op, op.linear(z, n.square[2]), heads),
               w = split_heads(op, low_rank(op, x, n.tanh_pair), heads);
  const Tensor a = split_heads(op, low_rank(op, z, n.plain_pair), heads), gate = low_rank(op, x, n.gate_pair);
  const Wkv7Keys keys = wkv7_keys(op, k, a, n.per_head[0], n.per_head[1]);
  const Tensor y7 = wkv7(op, s.kv[0], r, w, keys.key, v, keys.erase, keys.write);
  op.output(port_x, wkv7_out(op, y7, r, keys.key, v, gate, n.ln, n.per_head[2]));
  const Tensor y6 = wkv6(op, s.kv[1], r, k, v, w, n.per_head[3]);
  const Tensor y5 = wkv5(op, s.kv[2], r, k, v, n.decay5, n.per_head[3]);
  const Tensor y4 = wkv4(op, s.four, merge_heads(op, k), merge_heads(op, v), n.decay4, n.bonus4);
  op.output(port_pending, add(op, group_norm_gate(op, y6, n.ln, gate), group_norm_gate(op, y5, n.ln, {})));
  op.output(port_v_first, y4);
  op.output(port_hidden, op.wanted(merge_heads(op, keys.write)));
  op.output(port_logits, op.linear(op.wanted(y4), n.head));
}

// Primitives that no native kernel covers, and their broadcasts.
void emit_primitives(Ops& op, const Net& n, const States& s) {
  const int heads = n.size.heads;
  const Tensor x = op.embedding(n.embedding), z = op.input(port_pending, n.size.d);
  const Tensor xh = split_heads(op, x, heads), zh = split_heads(op, z, heads);
  const Tensor normed = op.norm(xh, 1e-3f, NormKind::layer), unit = op.norm(zh, 1e-3f, NormKind::l2);
  const Tensor sums = op.sum(mul(op, normed, unit));
  op.output(port_x, merge_heads(op, mul(op, add(op, normed, n.per_head[0].t), sums)));
  op.output(port_pending, div(op, op.shift(x, s.prev[0]), op.affine(op.unary(Act::sigmoid, z), 2, 1)));
  const Tensor part = op.slice(x, 1, n.size.d - 2), other = op.slice(z, 2, n.size.d - 2);
  const Tensor most = max(op, part, other),
               least = sub(op, part, max(op, sub(op, part, other), op.affine(part, 0, 0)));
  op.output(port_v_first, sub(op, most, least));
  const Tensor weights = op.unary(Act::exp, n.mixes[0].t);  // a value that does not depend on the batch
  const Tensor hidden = mul(op, op.wanted(x), add(op, weights, n.mixes[1].t));
  op.output(port_hidden, hidden);
  op.output(port_logits, op.linear(hidden, n.head, Act::tanh));
}

// A recurrence that no kernel knows, with states of two kinds that depend on each other.
void emit_scan(Ops& op, const Net& n, const States& s) {
  const int heads = n.size.heads, size = n.size.head();
  const Tensor x = op.embedding(n.embedding), z = op.input(port_pending, n.size.d);
  const StateRef refs[] = {s.kv[0], s.prev[0], s.prev[1]};
  const Tensor inputs[] = {split_heads(op, x, heads), split_heads(op, z, heads), x};
  const auto body = [&](Ops& o, std::span<const Tensor> state, std::span<const Tensor> in) -> ScanStep {
    const Tensor decay = o.unary(Act::sigmoid, n.per_head[0].t);
    const Tensor next = add(o, mul(o, state[0], o.reshape(decay, {{heads, size, 1}})), o.outer(in[0], in[1]));
    const Tensor y = o.matvec(next, o.norm(in[1], 1e-3f, NormKind::l2), true),
                 q = o.matvec(next, in[0], false);
    const Tensor flat = o.linear(o.reshape(y, {{1, 1, heads * size}}), n.square[0], Act::tanh);
    // prev[0] and prev[1] change places: the old state is read after its block was given a new value.
    return {{next, state[2], add(o, state[1], in[2])},
            {y, add(o, q, o.reshape(flat, {{1, heads, size}})), o.sum(in[0])}};
  };
  const std::vector<Tensor> out = op.scan(refs, inputs, body);
  op.output(port_x, merge_heads(op, out[0]));
  op.output(port_pending, merge_heads(op, out[1]));
  op.output(port_v_first, merge_heads(op, mul(op, split_heads(op, x, heads), out[2])));
  op.output(port_hidden, op.wanted(x));
  op.output(port_logits, op.linear(op.wanted(x), n.head));
}

struct Outputs {
  std::vector<float> x, pending, v_first, hidden, logits;
  bool operator==(const Outputs&) const = default;
};

// A device with the net's weights, running one program.
class Runner {
 public:
  Runner(std::unique_ptr<Device> device, Net net, Emit emit)
      : dev(std::move(device)), net_(std::move(net)), states_(net_.size), emit_(emit) {
    net_.load(*dev);
    EXPECT_TRUE(dev->set_state(states_.spec, 0, static_cast<int>(states_.spec.blocks.size())).ok());
    EXPECT_TRUE(dev->reserve_slots(4).ok());
  }

  Outputs step(const Batch& batch, const std::vector<float>& pending) {
    const auto rows = static_cast<std::size_t>(batch.rows()), wanted = batch.wanted.size(),
               d = static_cast<std::size_t>(net_.size.d);
    const std::size_t third = program_sliced ? d - 2 : d;
    Outputs o{std::vector<float>(rows * d), std::vector<float>(rows * d), std::vector<float>(rows * third),
              std::vector<float>(wanted * d),
              std::vector<float>(wanted * static_cast<std::size_t>(net_.size.vocab))};
    const PortIn in[] = {{port_pending, pending}};
    const PortOut out[] = {{port_x, o.x},
                           {port_pending, o.pending},
                           {port_v_first, o.v_first},
                           {port_hidden, o.hidden},
                           {port_logits, o.logits}};
    const Program program{7, [this](Ops& op) { emit_(op, net_, states_); }};
    EXPECT_TRUE(dev->step(program, batch, in, out).ok());
    return o;
  }
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

Runner make_cpu(const Net& net, Emit emit, CpuOptions options) {
  auto dev = create_device(options);
  EXPECT_TRUE(dev.ok());
  Runner r(std::move(dev).value(), net, emit);
  r.program_sliced = emit == &emit_primitives;
  return r;
}

// Sequences {slot, rows}; every third row and each last one is wanted.
Batch make_batch(std::initializer_list<std::pair<int, int>> sequences, int vocab, int first_token = 1) {
  Batch b;
  for (const auto& [slot, count] : sequences) {
    b.sequences.push_back({slot, b.rows(), count});
    for (int i = 0; i < count; ++i) b.tokens.push_back((first_token + 7 * (b.rows() + 1)) % vocab);
    if (count > 1 || slot == 0) b.wanted.push_back(b.rows() - 1);
  }
  return b;
}

void expect_close(const std::vector<float>& got, const std::vector<float>& expected,
                  const std::string& what) {
  ASSERT_EQ(got.size(), expected.size()) << what;
  double most = 0, difference = 0, total = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_TRUE(std::isfinite(got[i])) << what << " at " << i;
    const double d = double{got[i]} - double{expected[i]};
    most = std::max(most, std::abs(d) / std::max(1.0, std::abs(double{expected[i]})));
    difference += d * d;
    total += double{expected[i]} * double{expected[i]};
  }
  EXPECT_LE(most, 3e-4) << what;
  EXPECT_LE(std::sqrt(difference), 2e-5 * std::sqrt(total) + 1e-30) << what;
}

void expect_close(const Outputs& got, const Outputs& expected, const std::string& what) {
  expect_close(got.x, expected.x, what + ", x");
  expect_close(got.pending, expected.pending, what + ", pending");
  expect_close(got.v_first, expected.v_first, what + ", v_first");
  expect_close(got.hidden, expected.hidden, what + ", hidden");
  expect_close(got.logits, expected.logits, what + ", logits");
}

constexpr Sizes odd_size{35, 5, 77, 3, 41}, usual_size{128, 2, 448, 32, 96}, small_heads{64, 4, 100, 8, 33},
    head_40{80, 2, 96, 5, 50}, head_32{96, 3, 200, 16, 64};

std::vector<float> pending_of(const Batch& b, const Net& net, unsigned seed) {
  return random_floats(static_cast<std::size_t>(b.rows() * net.size.d), seed);
}

void compare_with_reference(const Net& net, Emit emit, const CpuOptions& options, const std::string& what) {
  auto reference = reference_backend().create(options.device);
  ASSERT_TRUE(reference.ok());
  Runner oracle(std::move(reference).value(), net, emit), tested = make_cpu(net, emit, options);
  oracle.program_sliced = tested.program_sliced;
  const int vocab = net.size.vocab;
  unsigned seed = 1;
  for (const Batch& b : {make_batch({{2, 3}, {0, 1}, {1, 9}}, vocab),
                         make_batch({{0, 1}, {1, 1}, {2, 1}}, vocab, 3), make_batch({{3, 1}}, vocab, 5),
                         make_batch({{1, 33}}, vocab, 2), make_batch({{0, 2}, {3, 18}}, vocab, 9)}) {
    const std::vector<float> pending = pending_of(b, net, ++seed);
    expect_close(tested.step(b, pending), oracle.step(b, pending), what + ", step " + std::to_string(seed));
  }
  for (int slot = 0; slot < 4; ++slot) expect_close(tested.state(slot), oracle.state(slot), what + ", state");
}

class CpuDeviceTest : public testing::TestWithParam<const Kernels*> {
 protected:
  CpuOptions options(DType dtype = DType::f32, int threads = 2) const {
    return {{dtype, threads}, GetParam(), false, 128};
  }
};
INSTANTIATE_TEST_SUITE_P(, CpuDeviceTest, testing::ValuesIn(tested_kernels()), kernels_name);

TEST_P(CpuDeviceTest, FusedOpsEqualTheReference) {
  for (const Sizes& size : {odd_size, usual_size, small_heads, head_40, head_32}) {
    const std::string name = "width " + std::to_string(size.d);
    compare_with_reference(Net(size), &emit_mixes, options(), "mixes, " + name);
    compare_with_reference(Net(size), &emit_products, options(), "products, " + name);
    compare_with_reference(Net(size), &emit_wkv, options(), "wkv, " + name);
  }
}

TEST_P(CpuDeviceTest, PrimitivesEqualTheReference) {
  for (const Sizes& size : {odd_size, usual_size}) {
    compare_with_reference(Net(size), &emit_primitives, options(), "primitives");
    compare_with_reference(Net(size), &emit_scan, options(), "scan");
  }
}

TEST_P(CpuDeviceTest, ExpansionsEqualTheReference) {
  CpuOptions expanded = options();
  expanded.expand_all = true;
  for (const Sizes& size : {odd_size, usual_size}) {
    compare_with_reference(Net(size), &emit_mixes, expanded, "mixes");
    compare_with_reference(Net(size), &emit_products, expanded, "products");
    compare_with_reference(Net(size), &emit_wkv, expanded, "wkv");
  }
}

TEST_P(CpuDeviceTest, EveryStoredFormat) {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    for (const DType file : {DType::f32, DType::f16, DType::bf16}) {
      const std::string what = std::string(dtype_name(file)) + " as " + std::string(dtype_name(dtype));
      compare_with_reference(Net(odd_size, file), &emit_products, options(dtype), what);
    }
  }
}

TEST_P(CpuDeviceTest, CountsNativeAndExpandedOps) {
  const Batch b = make_batch({{0, 2}}, odd_size.vocab);
  for (const Emit emit : {&emit_mixes, &emit_products, &emit_wkv}) {
    const Net net(odd_size);
    CpuOptions o = options();
    Runner native = make_cpu(net, emit, o);
    native.step(b, pending_of(b, net, 1));
    EXPECT_EQ(native.dev->last_counts().expanded, 0);
    EXPECT_GT(native.dev->last_counts().native, 0);
    o.expand_all = true;
    Runner expanded = make_cpu(net, emit, o);
    expanded.step(b, pending_of(b, net, 1));
    EXPECT_EQ(expanded.dev->last_counts().native, 0);
    EXPECT_GE(expanded.dev->last_counts().expanded, native.dev->last_counts().native);
  }
}

// The same tokens of slots 0 to 2 in one batch, one by one, in pieces, with other threads and cut by the
// device: always the same bits.
TEST_P(CpuDeviceTest, BitsDoNotDependOnBatchingChunkingOrThreads) {
  constexpr int rows = 37;
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    for (const Emit emit : {&emit_mixes, &emit_products, &emit_wkv}) {
      const Net net(odd_size);
      const std::size_t d = static_cast<std::size_t>(net.size.d);
      const Batch all = make_batch({{0, rows}, {1, 1}, {2, 5}}, net.size.vocab);
      const std::vector<float> pending = pending_of(all, net, 1);
      Runner once = make_cpu(net, emit, options(dtype, 1));
      const Outputs expected = once.step(all, pending);

      for (const int threads : {2, 3}) {
        Runner threaded = make_cpu(net, emit, options(dtype, threads));
        EXPECT_EQ(threaded.step(all, pending), expected) << threads << " threads";
        EXPECT_EQ(threaded.state(0), once.state(0));
      }
      CpuOptions cut_options = options(dtype);
      cut_options.most_rows = 16;
      Runner cut = make_cpu(net, emit, cut_options);
      EXPECT_EQ(cut.step(all, pending), expected) << "cut by the device";
      EXPECT_EQ(cut.state(0), once.state(0));

      Runner pieces = make_cpu(net, emit, options(dtype));
      Outputs got;
      for (int begin = 0, count = 1; begin < rows;
           begin += count, count = std::min(count + 3, rows - begin)) {
        Batch b;
        b.tokens.assign(all.tokens.begin() + begin, all.tokens.begin() + begin + count);
        b.sequences = {{0, 0, count}};
        if (begin + count == rows) b.wanted = {count - 1};
        const auto from = pending.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(begin) * d);
        const Outputs o =
            pieces.step(b, {from, from + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(count) * d)});
        got.x.insert(got.x.end(), o.x.begin(), o.x.end());
        got.logits = o.logits;
      }
      EXPECT_TRUE(std::equal(got.x.begin(), got.x.end(), expected.x.begin())) << "pieces";
      EXPECT_TRUE(std::equal(got.logits.begin(), got.logits.end(), expected.logits.begin()));
      EXPECT_EQ(pieces.state(0), once.state(0));
    }
  }
}

TEST(CpuDevice, SlotsAreIndependent) {
  const Net net(odd_size);
  Runner r = make_cpu(net, &emit_wkv, {{DType::f32, 2}});
  const std::vector<float> fresh = r.state(1);
  EXPECT_EQ(fresh.back(), -1e30f);  // pp starts there
  const Batch b = make_batch({{1, 4}}, net.size.vocab);
  const Outputs first = r.step(b, pending_of(b, net, 1));
  const std::vector<float> used = r.state(1);
  EXPECT_NE(used, fresh);
  EXPECT_EQ(r.state(0), fresh);
  r.dev->copy_slot(1, 2);
  EXPECT_EQ(r.state(2), used);
  r.dev->reset_slot(1);
  EXPECT_EQ(r.state(1), fresh);
  EXPECT_EQ(r.step(b, pending_of(b, net, 1)), first);
  r.dev->import_slot(3, used);
  EXPECT_EQ(r.state(3), used);
  ASSERT_TRUE(r.dev->reserve_slots(9).ok());
  EXPECT_EQ(r.state(3), used) << "growing keeps what there was";
  EXPECT_EQ(r.state(8), fresh);
  EXPECT_EQ(r.dev->memory().states, 9 * static_cast<std::int64_t>(used.size() * sizeof(float)));
}

TEST(CpuDevice, ASegmentHoldsItsOwnBlocks) {
  auto dev = cpu_backend().create({DType::f32, 1});
  ASSERT_TRUE(dev.ok());
  StateSpec spec;
  spec.add("a", 0, {3}, 1);
  const StateRef second = spec.add("b", 1, {2}, 2);
  spec.add("c", 2, {4}, 3);
  ASSERT_TRUE((*dev)->set_state(spec, 1, 3).ok());
  ASSERT_TRUE((*dev)->reserve_slots(1).ok());
  std::vector<float> values(6);
  (*dev)->export_slot(0, values);
  EXPECT_EQ(values, (std::vector<float>{2, 2, 3, 3, 3, 3}));
  const Program p{1, [&](Ops& op) { op.output(port_x, op.shift(op.input(port_x, 2), second)); }};
  const std::vector<float> x{5, 6};
  std::vector<float> y(2);
  const PortIn in[] = {{port_x, x}};
  const PortOut out[] = {{port_x, y}};
  ASSERT_TRUE((*dev)->step(p, {{0}, {{0, 0, 1}}, {}}, in, out).ok());
  EXPECT_EQ(y, (std::vector<float>{2, 2}));
  (*dev)->export_slot(0, values);
  EXPECT_EQ(values, (std::vector<float>{5, 6, 3, 3, 3, 3}));
}

TEST(CpuDevice, OutputsMayBeLeftOutAndProgramsMixed) {
  auto dev = cpu_backend().create({DType::f32, 2});
  ASSERT_TRUE(dev.ok());
  ASSERT_TRUE((*dev)->set_state({}, 0, 0).ok());
  ASSERT_TRUE((*dev)->reserve_slots(1).ok());
  std::vector<float> y(3);
  for (int round = 0; round < 2; ++round) {
    for (int key = 0; key < 40; ++key) {  // more programs than are kept
      const Program p{key, [&](Ops& op) {
                        const Tensor x = op.input(port_x, 3);
                        op.output(port_x, op.affine(x, 1, static_cast<float>(key)));
                        op.output(port_hidden, op.wanted(x));
                      }};
      const std::vector<float> x{1, 2, 3};
      const PortIn in[] = {{port_x, x}};
      const PortOut out[] = {{port_x, y}};
      ASSERT_TRUE((*dev)->step(p, {{0}, {{0, 0, 1}}, {0}}, in, out).ok());
      const float k = static_cast<float>(key);
      EXPECT_EQ(y, (std::vector<float>{1 + k, 2 + k, 3 + k}));
    }
  }
}

TEST(CpuDevice, MemoryIsWhatWasPackedAndMapped) {
  const Net net(usual_size, DType::f16);
  Runner half = make_cpu(net, &emit_products, {{DType::f16, 1}}),
         full = make_cpu(net, &emit_products, {{DType::f32, 1}});
  const MemoryUse h = half.dev->memory(), f = full.dev->memory();
  EXPECT_EQ(h.mapped, 96 * 128 * 2);  // the embedding stays where it is
  EXPECT_EQ(f.mapped, h.mapped);
  const std::int64_t matrices =
      5 * 128 * 128 + 4 * 448 * 128 + 96 * 128 + 6 * 128 * 32 + 160 * 128 + 5 * 128 * 32;
  EXPECT_EQ(f.weights - h.weights, matrices * 2);
  EXPECT_LT(h.weights, matrices * 2 + 64 * 1024);
  EXPECT_EQ(h.scratch, 0);
  const Batch b = make_batch({{0, 3}}, net.size.vocab);
  half.step(b, pending_of(b, net, 1));
  EXPECT_GT(half.dev->memory().scratch, 0);
}

TEST(CpuDevice, ErrorsSayWhatToDo) {
  const auto message = [](const CpuOptions& o) {
    const auto dev = create_device(o);
    return dev.ok() ? "" : dev.error().message;
  };
  EXPECT_NE(message({{DType::i8, 1}}).find("int8"), std::string::npos);
  EXPECT_NE(message({{DType::f32, -1}}).find("-1 threads"), std::string::npos);
  EXPECT_NE(message({{DType::f32, 100000}}).find("100000 threads"), std::string::npos);

  ASSERT_EQ(setenv("FR_ISA", "mmx", 1), 0);
  EXPECT_NE(message({{DType::f32, 1}}).find("mmx"), std::string::npos);
  ASSERT_EQ(setenv("FR_ISA", "generic", 1), 0);
  auto dev = create_device({{DType::f16, 1}});
  ASSERT_EQ(unsetenv("FR_ISA"), 0);
  ASSERT_TRUE(dev.ok());
  EXPECT_EQ((*dev)->description(), "cpu fp16, 1 thread, generic");

  StateSpec big;
  big.add("kv", 0, {1024, 1024, 1024});
  ASSERT_TRUE((*dev)->set_state(big, 0, 1).ok());
  const Status s = (*dev)->reserve_slots(1000000);
  ASSERT_FALSE(s.ok());
  EXPECT_NE(s.error().message.find("1000000 states of 4096 MB"), std::string::npos) << s.error().message;
}

}  // namespace
}  // namespace fr::cpu
