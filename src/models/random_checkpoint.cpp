#include "models/random_checkpoint.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <memory>
#include <new>
#include <span>
#include <vector>

#include "base/cpu_info.h"
#include "base/thread_pool.h"

namespace fr {
namespace {

// One tensor to make: uniform in [low, high].
struct Item {
  std::string name;
  std::vector<std::int64_t> shape;
  float low = 0, high = 0;
};

class Plan {
 public:
  Plan(const RandomShape& shape, bool tilted) : s_(shape), tilted_(tilted) {}

  std::vector<Item> make() {
    const int d = s_.n_embd;
    add("emb.weight", {s_.n_vocab, d}, -1, 1);
    if (s_.ln0) norm("blocks.0.ln0", d);
    for (int i = 0; i < s_.n_layer; ++i) layer("blocks." + std::to_string(i) + ".", i);
    norm("ln_out", d);
    mat("head", s_.n_vocab, d);
    if (s_.biases) add("head.bias", {s_.n_vocab}, -1, 1);
    return std::move(items_);
  }

 private:
  void add(const std::string& name, std::vector<std::int64_t> shape, float low, float high) {
    items_.push_back({name, std::move(shape), low, high});
  }
  void norm(const std::string& name, int n, float bias = 0.1f) {
    add(name + ".weight", {n}, 0.8f, 1.2f);
    add(name + ".bias", {n}, -bias, bias);
  }
  // Half width of a uniform distribution whose products of `in` terms keep `gain` times the input's size.
  static float spread(int in, float gain) { return gain * std::sqrt(3.0f / static_cast<float>(in)); }
  void mat(const std::string& name, int out, int in, float gain = 1) {
    add(name + ".weight", {out, in}, -spread(in, gain), spread(in, gain));
  }
  void factor(const std::string& name, std::vector<std::int64_t> shape, int in, float gain) {
    add(name, std::move(shape), -spread(in, gain), spread(in, gain));
  }
  void row(const std::string& name, float low, float high) { add(name, {1, 1, s_.n_embd}, low, high); }

  void layer(const std::string& block, int i) {
    const std::string att = block + "att.", ffn = block + "ffn.";
    const int d = s_.n_embd;
    norm(block + "ln1", d);
    norm(block + "ln2", d, tilted_ ? 1.0f : 0.1f);
    if (s_.version == "7") {
      time_mix7(att, i);
    } else {
      time_mix456(att);
    }
    for (const char* name : {"receptance", "key", "value"}) mat(att + name, d, d);
    mat(att + "output", d, d, 0.5f);
    if (s_.biases) add(att + "output.bias", {d}, -1, 1);
    if (s_.version != "4") norm(att + "ln_x", d);
    // ffn.x_prev counts little, so that the size of the input of ffn.key is known whatever the text.
    if (s_.version == "7") row(ffn + "x_k", 0, 0.2f);
    if (s_.version == "6") row(ffn + "time_maa_k", 0, 0.2f), row(ffn + "time_maa_r", 0, 1);
    if (s_.version[0] < '6') row(ffn + "time_mix_k", 0.8f, 1), row(ffn + "time_mix_r", 0, 1);
    if (s_.version != "7") mat(ffn + "receptance", d, d);
    mat(ffn + "key", s_.n_ffn, d);
    mat(ffn + "value", d, s_.n_ffn, 0.5f);
  }

  void time_mix456(const std::string& att) {
    const int d = s_.n_embd, n = s_.head_size, heads = d / n;
    const std::string& v = s_.version;
    if (v == "4") {
      add(att + "time_decay", {d}, -5, 3);
      add(att + "time_first", {d}, -1.7f, -0.7f);
    } else if (v == "5.0") {
      add(att + "time_decay", {heads}, -6, -1);
      add(att + "time_first", {heads}, -1.7f, -0.7f);
    } else if (v == "5.1") {
      add(att + "time_decay", {heads}, -6, -1);
      add(att + "time_faaaa", {heads}, 0, 1);
    } else {
      if (v == "5.2") add(att + "time_decay", {heads, n}, -6, -1);
      if (v == "6") row(att + "time_decay", -6, -1);
      add(att + "time_faaaa", {heads, n}, 0, 1);
    }
    if (v == "6") {
      for (const char c : std::string("xwkvrg")) row(att + "time_maa_" + c, 0, 1);
      factor(att + "time_maa_w1", {d, 5 * s_.rank_mix}, d, 0.5f);
      factor(att + "time_maa_w2", {5, s_.rank_mix, d}, s_.rank_mix, 0.2f);
      factor(att + "time_decay_w1", {d, s_.rank_w}, d, 0.5f);
      factor(att + "time_decay_w2", {s_.rank_w, d}, s_.rank_w, 0.5f);
    } else {
      const bool gated = v == "5.1" || v == "5.2";
      for (const char c : std::string(gated ? "kvrg" : "kvr")) row(att + "time_mix_" + c, 0, 1);
    }
    if (v[0] >= '5' && v != "5.0") mat(att + "gate", d, d);
  }

  void time_mix7(const std::string& att, int layer) {
    const int d = s_.n_embd, n = s_.head_size;
    for (const char c : std::string("rwkvag")) row(att + "x_" + c, 0, 1);
    const auto low_rank = [&](const std::string& name, int rank) {
      factor(att + name + "1", {d, rank}, d, 1);
      factor(att + name + "2", {rank, d}, rank, 1);
    };
    row(att + "w0", -6, 1);
    low_rank("w", s_.rank_w);
    row(att + "a0", -1, 1);
    low_rank("a", s_.rank_a);
    low_rank("g", s_.rank_g);
    if (layer > 0) {
      row(att + "v0", -1, 1);
      low_rank("v", s_.rank_v);
    }
    row(att + "k_k", 0.6f, 1.1f);
    row(att + "k_a", 0.8f, 1.2f);
    add(att + "r_k", {d / n, n}, -0.3f, 0.3f);
  }

  const RandomShape& s_;
  bool tilted_;
  std::vector<Item> items_;
};

std::uint64_t mixed(std::uint64_t z) {  // splitmix64
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

std::uint64_t name_hash(const std::string& name, std::uint64_t seed) {  // FNV-1a
  std::uint64_t h = 0xcbf29ce484222325u;
  for (const char c : name) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return mixed(h ^ mixed(seed));
}

// Calls put(i, 12 random bits) for the elements [begin, end), in order; begin is a multiple of 4. A table of
// 4096 values makes billions of weights quick to fill.
constexpr std::size_t table_size = 4096;
template <class Put>
void for_random(std::uint64_t key, std::size_t begin, std::size_t end, Put put) {
  for (std::size_t i = begin; i < end; i += 4) {
    std::uint64_t bits = mixed(key + (i / 4 + 1) * 0x9e3779b97f4a7c15u);
    for (std::size_t j = i; j < std::min(i + 4, end); ++j, bits >>= 16)
      put(j, (bits >> 4) & (table_size - 1));
  }
}

template <class T>
T stored(float x, DType dtype) {
  if constexpr (sizeof(T) == 4) {
    return x;
  } else {
    return dtype == DType::f16 ? float_to_half(x) : float_to_bf16(x);
  }
}

// Elements [begin, end) of one tensor. `shift`, if any, is subtracted from every row.
struct Part {
  std::size_t item = 0, begin = 0, end = 0;
};
template <class T>
void fill(const Item& item, const Part& part, std::uint64_t seed, std::span<const float> shift, DType dtype,
          T* out) {
  std::array<float, table_size> values;
  std::array<T, table_size> table;
  for (std::size_t i = 0; i < table_size; ++i) {
    const float u = (static_cast<float>(i) + 0.5f) / static_cast<float>(table_size);  // exact
    values[i] =
        std::fma(item.high - item.low, u, item.low);  // the same bits with and without FMA instructions
    table[i] = stored<T>(values[i], dtype);
  }
  const std::uint64_t key = name_hash(item.name, seed);
  if (shift.empty()) {
    for_random(key, part.begin, part.end, [&](std::size_t i, std::size_t r) { out[i] = table[r]; });
  } else {
    std::size_t column = part.begin % shift.size();
    for_random(key, part.begin, part.end, [&](std::size_t i, std::size_t r) {
      out[i] = stored<T>(values[r] - shift[column], dtype);
      if (++column == shift.size()) column = 0;
    });
  }
}

std::vector<float> read_all(const Checkpoint& file, const std::string& name) {
  const TensorView* t = file.find(name);
  FR_CHECK(t != nullptr);
  std::vector<float> values(static_cast<std::size_t>(t->size()));
  t->read(0, values);
  return values;
}

// x with P(normal variable <= x) = p, by bisection.
double normal_quantile(double p) {
  double low = -8, high = 8;
  for (int i = 0; i < 60; ++i) {
    const double x = (low + high) / 2;
    (0.5 * std::erfc(-x / std::sqrt(2.0)) < p ? low : high) = x;
  }
  return low;
}

// What to subtract from the rows of ffn.key. The input of ffn.key is b + m: b is ln2's bias, m its normed
// part, mixed with that of the previous token. Over the rows, w (b + m) is normal with deviation sigma |b +
// m|; subtracting c b / |b|^2 from every row moves it by -c (1 + b m / |b|^2), where the last term is small.
std::vector<float> tilt(const Checkpoint& file, const std::string& block, const std::string& mix,
                        float half_width, double zeros) {
  const std::vector<float> weight = read_all(file, block + "ln2.weight"),
                           bias = read_all(file, block + "ln2.bias"), mixes = read_all(file, block + mix);
  double bias_square = 0, norm_square = 0;
  for (std::size_t i = 0; i < bias.size(); ++i) {
    const double w = weight[i], b = bias[i], x = mixes[i];
    bias_square += b * b;
    norm_square += w * w * (x * x + (1 - x) * (1 - x));
  }
  const double sigma = half_width / std::sqrt(3.0);
  const double c = normal_quantile(zeros) * sigma * std::sqrt(bias_square + norm_square);
  std::vector<float> shift(bias.size());
  for (std::size_t i = 0; i < bias.size(); ++i) shift[i] = static_cast<float>(c * bias[i] / bias_square);
  return shift;
}

std::string ffn_mix_name(const std::string& version) {
  if (version == "7") return "ffn.x_k";
  return version == "6" ? "ffn.time_maa_k" : "ffn.time_mix_k";
}

// Makes the tensors of the plan, not filled yet. Null when there is no memory for `size` bytes.
std::byte* add_tensors(Checkpoint& file, const std::vector<Item>& items, DType dtype, std::size_t& size) {
  std::vector<std::size_t> offsets;
  size = 0;
  for (const Item& item : items) {
    TensorView view{item.name, dtype, item.shape, std::vector<std::int64_t>(item.shape.size()), nullptr};
    std::int64_t stride = 1;
    for (std::size_t d = item.shape.size(); d-- > 0; stride *= item.shape[d]) view.stride[d] = stride;
    offsets.push_back(size);
    size += (static_cast<std::size_t>(stride) * dtype_size(dtype) + 63) / 64 * 64;
    file.tensors.push_back(std::move(view));
  }
  constexpr std::align_val_t alignment{64};
  auto* memory = static_cast<std::byte*>(::operator new(size, alignment, std::nothrow));
  if (memory == nullptr) return nullptr;
  file.memory = std::shared_ptr<const void>(memory, [](std::byte* p) { ::operator delete(p, alignment); });
  for (std::size_t i = 0; i < items.size(); ++i) file.tensors[i].data = memory + offsets[i];
  file.index();
  return memory;
}

// Fills the tensors that have a shift, or those that have none, with all threads.
void fill_tensors(const Checkpoint& file, std::byte* memory, const std::vector<Item>& items,
                  std::uint64_t seed, const std::map<std::size_t, std::vector<float>>& shifts, bool shifted,
                  ThreadPool& pool) {
  constexpr std::size_t part_size = 1 << 20;
  std::vector<Part> parts;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (shifts.contains(i) != shifted) continue;
    const auto n = static_cast<std::size_t>(file.tensors[i].size());
    for (std::size_t begin = 0; begin < n; begin += part_size)
      parts.push_back({i, begin, std::min(begin + part_size, n)});
  }
  pool.run(static_cast<int>(parts.size()), [&](int, int first, int last) {
    for (auto p = static_cast<std::size_t>(first); p < static_cast<std::size_t>(last); ++p) {
      const TensorView& t = file.tensors[parts[p].item];
      const Item& item = items[parts[p].item];
      const std::span<const float> shift =
          shifted ? std::span(shifts.at(parts[p].item)) : std::span<const float>();
      std::byte* out = memory + (t.data - memory);
      if (t.dtype == DType::f32) {
        fill(item, parts[p], seed, shift, t.dtype, reinterpret_cast<float*>(out));
      } else {
        fill(item, parts[p], seed, shift, t.dtype, reinterpret_cast<std::uint16_t*>(out));
      }
    }
  });
}

}  // namespace

Result<RandomShape> released_shape(const std::string& size, const std::string& version) {
  struct Released {
    const char* size;
    int n_layer, n_embd, w, v, g;  // ranks of v7; a has the rank of w
  };
  constexpr std::array table{
      Released{"0.1b", 12, 768, 64, 32, 128},   Released{"0.4b", 24, 1024, 64, 32, 128},
      Released{"1.5b", 24, 2048, 96, 64, 256},  Released{"2.9b", 32, 2560, 96, 64, 320},
      Released{"7.2b", 32, 4096, 128, 96, 480}, Released{"13.3b", 61, 4096, 128, 96, 480}};
  bool known = false;
  for (const char* v : {"4", "5.0", "5.1", "5.2", "6", "7"}) known = known || version == v;
  if (!known)
    return usage_error("unknown RWKV version " + version + " (random weights): use 4, 5.0, 5.1, 5.2, 6 or 7");
  for (const Released& r : table) {
    if (size != r.size) continue;
    RandomShape s;
    s.version = version;
    s.n_layer = r.n_layer;
    s.n_embd = r.n_embd;
    if (version == "4" && size == "13.3b") s.n_layer = 40, s.n_embd = 5120;
    const bool wide = version == "4" || version == "5.0" || version == "7";
    s.n_ffn = wide ? 4 * s.n_embd : s.n_embd * 7 / 2 / 32 * 32;
    s.n_vocab = 65536;
    s.rank_mix = s.n_embd >= 4096 ? 64 : 32;
    s.rank_w = version == "6" ? (s.n_embd >= 4096 ? 128 : 64) : r.w;
    s.rank_a = r.w;
    s.rank_v = r.v;
    s.rank_g = r.g;
    return s;
  }
  return usage_error("unknown size " + size + " (random weights): use 0.1b, 0.4b, 1.5b, 2.9b, 7.2b or 13.3b");
}

Result<Checkpoint> random_checkpoint(const RandomShape& shape, const RandomOptions& options) {
  FR_CHECK(is_weight_dtype(options.dtype) && (shape.version == "4" || shape.n_embd % shape.head_size == 0));
  const bool tilted = options.zeros > 0 && options.zeros < 1;
  const std::vector<Item> items = Plan(shape, tilted).make();
  Checkpoint file;
  file.path = "random weights";
  file.format = "random";
  std::size_t size = 0;
  std::byte* memory = add_tensors(file, items, options.dtype, size);
  if (memory == nullptr) {
    return runtime_error("not enough memory (" + std::to_string(size) +
                         " bytes of random weights): use a smaller size");
  }
  FR_TRY(const std::unique_ptr<ThreadPool> pool, ThreadPool::create(available_cores()));
  std::map<std::size_t, std::vector<float>> shifts;  // by item
  for (std::size_t i = 0; tilted && i < items.size(); ++i) {
    if (items[i].name.ends_with("ffn.key.weight")) shifts.emplace(i, std::vector<float>());
  }
  fill_tensors(file, memory, items, options.seed, shifts, false, *pool);
  for (auto& [i, shift] : shifts) {  // they depend on tensors that are filled now
    const std::string block = items[i].name.substr(0, items[i].name.find("ffn."));
    shift = tilt(file, block, ffn_mix_name(shape.version), items[i].high, options.zeros);
  }
  fill_tensors(file, memory, items, options.seed, shifts, true, *pool);
  return file;
}

}  // namespace fr
