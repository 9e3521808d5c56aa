#include "backends/cpu/test_net.h"

#include <cmath>
#include <cstring>

#include "base/quant.h"

namespace fr::cpu {

std::vector<const Kernels*> tested_kernels() {
  std::vector<const Kernels*> all(supported_kernels().begin(), supported_kernels().end());
#ifdef FR_HAVE_EMULATED_AVX512
  const auto with = [](const char* name, const TileKernels& tiles) {
    Kernels k = kernels_avx512_emulated;
    k.name = name;
    k.tiles = &tiles;
    return k;
  };
  static const Kernels amx = with("amx-emulated", tiles_amx_emulated),
                       bf16 = with("bf16-emulated", dots_bf16_emulated);
  all.push_back(&kernels_avx512_emulated);
  all.push_back(&amx);
  all.push_back(&bf16);
#endif
  return all;
}

std::string kernels_name(const testing::TestParamInfo<const Kernels*>& info) {
  std::string name = info.param->name;
  for (char& c : name) c = c == '-' ? '_' : c;
  return name;
}

std::vector<float> random_floats(std::size_t n, unsigned seed, float scale) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(n);
  for (float& v : values) v = normal(random);
  return values;
}

Vec Net::vec(WeightStore& store, int heads, int cols, float mean, float scale) {
  std::vector<float> v = random_floats(static_cast<std::size_t>(heads * cols), ++seed, scale);
  for (float& x : v) x += mean;
  return {*store.add_vector(v, {{1, heads, cols}})};
}
Mat Net::mat(WeightStore& store, int out, int in, MatRole role, bool transposed) {
  const std::vector<float> v =
      random_floats(static_cast<std::size_t>(out * in), ++seed, 1 / std::sqrt(static_cast<float>(in)));
  Checkpoint file;
  const int row = transposed ? out : in;  // as the file has them
  const DType type = row % block_size(stored) == 0 ? stored : DType::f16;
  auto bytes = std::make_shared<std::vector<std::byte>>(
      v.size() / static_cast<std::size_t>(block_size(type)) * dtype_size(type));
  if (is_block_dtype(type)) {
    EXPECT_TRUE(quantise(type, v, bytes->data()));
  }
  for (std::size_t i = 0; i < v.size() && !is_block_dtype(type); ++i) {
    const std::uint16_t h = type == DType::f16 ? float_to_half(v[i]) : float_to_bf16(v[i]);
    if (type == DType::f32) std::memcpy(bytes->data() + i * 4, &v[i], 4);
    if (type != DType::f32) std::memcpy(bytes->data() + i * 2, &h, 2);
  }
  file.memory = bytes;
  const TensorView view{"w",
                        type,
                        {out, in},
                        transposed ? std::vector<std::int64_t>{1, out} : std::vector<std::int64_t>{in, 1},
                        bytes->data()};
  return *store.add_matrix(view, role, file);
}
LowRank Net::low_rank(WeightStore& store, Act inner, Act outer, bool bias) {
  LowRank m{mat(store, size.rank, size.d, MatRole::low_rank, true),
            mat(store, size.d, size.rank, MatRole::low_rank, true),
            {},
            inner,
            outer};
  if (bias) m.bias = vec(store, 1, size.d);
  return m;
}

void Net::load(Device& dev) {
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
  data.w1 = mat(dev, 5 * size.rank, size.d, MatRole::low_rank, true);
  for (Mat& m : data.w2) m = mat(dev, size.d, size.rank, MatRole::low_rank, true);
  for (Vec& m : data.maa) m = vec(dev, 1, size.d);
  for (Vec& v : per_head) v = vec(dev, size.heads, size.head());
  decay4 = vec(dev, 1, size.d, -1.0f, 0.3f);
  bonus4 = vec(dev, 1, size.d);
  decay5 = vec(dev, size.heads, size.head(), 0.8f, 0.1f);
}

namespace {

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

}  // namespace

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

Runner::Runner(std::unique_ptr<Device> device, Net net, Emit emit)
    : dev(std::move(device)), net_(std::move(net)), states_(net_.size), emit_(emit) {
  net_.load(*dev);
  EXPECT_TRUE(dev->set_state(states_.spec, 0, static_cast<int>(states_.spec.blocks.size())).ok());
  EXPECT_TRUE(dev->reserve_slots(4).ok());
}

Outputs Runner::step(const Batch& batch, const std::vector<float>& pending) {
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

Runner make_cpu(const Net& net, Emit emit, const CpuOptions& options) {
  auto dev = create_device(options);
  EXPECT_TRUE(dev.ok());
  Runner r(std::move(dev).value(), net, emit);
  r.program_sliced = emit == &emit_primitives;
  return r;
}

Batch make_batch(std::initializer_list<std::pair<int, int>> sequences, int vocab, int first_token) {
  Batch b;
  for (const auto& [slot, count] : sequences) {
    b.sequences.push_back({slot, b.rows(), count});
    for (int i = 0; i < count; ++i) b.tokens.push_back((first_token + 7 * (b.rows() + 1)) % vocab);
    if (count > 1 || slot == 0) b.wanted.push_back(b.rows() - 1);
  }
  return b;
}

std::vector<float> pending_of(const Batch& b, const Net& net, unsigned seed) {
  return random_floats(static_cast<std::size_t>(b.rows() * net.size.d), seed);
}

}  // namespace fr::cpu
