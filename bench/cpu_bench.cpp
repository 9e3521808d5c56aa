// Kernels of the cpu backend beside the limits they run against: weights that stream from memory and the read
// bandwidth of one thread, products with many rows and the peak of the multipliers. One thread; times are its
// CPU time, so that other programs disturb little.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "backends/cpu/dispatch.h"
#include "backends/cpu/recording.h"
#include "base/aligned_buffer.h"

namespace fr::cpu {
namespace {

AlignedBuffer filled(std::size_t bytes, int byte) {
  AlignedBuffer buffer = std::move(AlignedBuffer::allocate(bytes, "a benchmark")).value();
  std::memset(buffer.data(), byte, bytes);
  return buffer;
}

// Far larger than the caches; products walk through it, so that weights come from memory.
std::byte* weights(std::size_t at, std::size_t bytes) {
  constexpr std::size_t size = std::size_t{512} << 20;
  static AlignedBuffer memory = filled(size, 0x11);
  const std::size_t copies = size / bytes;
  return memory.data() + at % copies * bytes;
}

// The limit of decoding: sums of a large array, from four places at once.
void read_bandwidth(benchmark::State& state) {
  constexpr std::size_t bytes = std::size_t{512} << 20, quarter = bytes / sizeof(std::uint64_t) / 4;
  const auto* data = reinterpret_cast<const std::uint64_t*>(weights(0, bytes));
  for (auto _ : state) {
    std::uint64_t a = 0, b = 0, c = 0, d = 0;
    for (std::size_t i = 0; i < quarter; i += 8) {
      for (std::size_t j = i; j < i + 8; ++j) {
        a ^= data[j];
        b ^= data[j + quarter];
        c ^= data[j + 2 * quarter];
        d ^= data[j + 3 * quarter];
      }
    }
    benchmark::DoNotOptimize(a ^ b ^ c ^ d);
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * bytes));
}
BENCHMARK(read_bandwidth)->Unit(benchmark::kMillisecond);

struct Shape {
  int rows, in, out, group;
  double zeros;  // share; 0: dense
};

enum class Way { floats, coded, coded_dense };  // coded: inputs in 8 bits and products of integers

void product(benchmark::State& state, const Kernels& simd, WeightType type, Shape s, Way way = Way::floats) {
  const bool coded = way != Way::floats;
  const int panels = s.out / panel_cols;
  const std::ptrdiff_t ldx = row_stride(s.in), ldy = row_stride(s.out);
  std::vector<float> x(static_cast<std::size_t>(s.rows * ldx), 0.5f);
  std::vector<int> lists;
  for (int t = 0; t < s.rows; ++t) {
    const std::size_t count_at = lists.size();
    lists.push_back(0);
    for (int k = 0; k < s.in; ++k) {
      if (static_cast<double>((k * 7919 + t * 104729) % 1000) >= 1000 * s.zeros) lists.push_back(k);
    }
    lists[count_at] = static_cast<int>(lists.size() - count_at) - 1;
    lists.resize(count_at + static_cast<std::size_t>(s.in) + 1);
  }
  AlignedBuffer y = filled(static_cast<std::size_t>(s.rows * ldy) * sizeof(float), 0);
  AlignedBuffer tile = filled(sizeof(float) * tile_floats, 0);
  const auto bytes = static_cast<std::size_t>(packed_bytes(type, s.out / panel_cols, s.group, s.in));
  std::vector<char> codes(static_cast<std::size_t>(s.rows * coded_bytes(s.in)));
  for (int t = 0; coded && t < s.rows; t += simd.coded->height)
    simd.coded->encode(x.data() + t * ldx, ldx, std::min(simd.coded->height, s.rows - t), s.in,
                       codes.data() + t * coded_bytes(s.in));
  std::size_t copy = 0;
  weights(0, bytes);  // filled before the time counts
  for (auto _ : state) {
    const Product p{type,
                    weights(copy++, bytes),
                    panels,
                    s.group,
                    s.in,
                    x.data(),
                    ldx,
                    s.rows,
                    nullptr,
                    Epilogue::none,
                    nullptr,
                    0,
                    y.as<float>(),
                    ldy,
                    tile.as<float>(),
                    lists.data(),
                    s.in + 1,
                    codes.data(),
                    coded_bytes(s.in)};
    const auto run = way == Way::coded && s.group > 1 ? simd.coded->rows_product
                     : coded                          ? simd.coded->product
                     : s.zeros > 0                    ? simd.sparse_product
                                                      : simd.product;
    const int unit = s.group == 1 ? panels : s.group;  // as product.cpp cuts the work
    for (int panel = 0; panel < panels; panel += unit) run(p, panel, panel + unit);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(static_cast<std::size_t>(state.iterations()) * bytes));
  state.counters["flops"] =
      benchmark::Counter(2.0 * s.rows * s.in * s.out, benchmark::Counter::kIsIterationInvariantRate);
}

void recurrence(benchmark::State& state, const Kernels& simd, int n) {
  const auto bytes = static_cast<std::size_t>(n * n) * sizeof(float);
  AlignedBuffer s = filled(bytes, 0), y = filled(bytes, 0);
  const std::vector<float> v(static_cast<std::size_t>(n), 0.1f);
  const Wkv7Token token{v.data(), v.data(), v.data(), v.data(), v.data(), v.data(), y.as<float>()};
  for (auto _ : state) {
    simd.wkv7(token, n, s.as<float>());
    benchmark::ClobberMemory();
  }
}

// For every instruction set of this machine.
const bool registered = [] {
  for (const Kernels* k : supported_kernels()) {
    const std::string isa = k->name;
    const auto add = [&](const std::string& name, WeightType type, Shape s) {
      benchmark::RegisterBenchmark((isa + "/" + name + "/rows:" + std::to_string(s.rows)).c_str(),
                                   [=](benchmark::State& state) { product(state, *k, type, s); });
    };
    for (const int rows : {1, 2, 4, 8, 16, 32, 128}) {
      add("fp16_2048x2048", WeightType::f16, {rows, 2048, 2048, 1, 0});
      add("bf16_2048x2048", WeightType::bf16, {rows, 2048, 2048, 1, 0});
      add("fp32_2048x2048", WeightType::f32, {rows, 2048, 2048, 1, 0});
      for (const auto& [name, type] : {std::pair{"q8_0", WeightType::q8_0}, {"q4_k", WeightType::q4_k}}) {
        add(std::string(name) + "_2048x2048", type, {rows, 2048, 2048, 1, 0});
        if (k->coded == nullptr) continue;
        benchmark::RegisterBenchmark(
            (isa + "/" + name + "_2048x2048_coded/rows:" + std::to_string(rows)).c_str(),
            [=](benchmark::State& state) {
              product(state, *k, type, {rows, 2048, 2048, 1, 0}, Way::coded);
            });
      }
      for (const double zeros : {0.02, 0.86}) {
        if (k->coded == nullptr) continue;
        for (const auto& [name, type] : {std::pair{"q8_0", WeightType::q8_0}, {"q4_k", WeightType::q4_k}}) {
          const std::string shape =
              std::string(name) + "_8192x2048_" + std::to_string(zeros).substr(2, 2) + "%_zeros";
          const Shape s{rows, 8192, 2048, 16, zeros};
          add(shape, type, s);
          for (const auto& [suffix, way] : {std::pair{"_coded", Way::coded}, {"_dense", Way::coded_dense}}) {
            benchmark::RegisterBenchmark(
                (isa + "/" + shape + suffix + "/rows:" + std::to_string(rows)).c_str(),
                [=](benchmark::State& state) { product(state, *k, type, s, way); });
          }
        }
      }
      for (const double zeros : {0.02, 0.86})
        add("fp16_8192x2048_" + std::to_string(zeros).substr(2, 2) + "%_zeros", WeightType::f16,
            {rows, 8192, 2048, 32, zeros});
    }
    benchmark::RegisterBenchmark((isa + "/wkv7_head_64").c_str(),
                                 [=](benchmark::State& state) { recurrence(state, *k, 64); });
  }
  return true;
}();

}  // namespace
}  // namespace fr::cpu
