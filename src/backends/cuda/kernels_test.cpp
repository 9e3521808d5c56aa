// The kernels of mix.cu and wkv.cu on ragged batches with permuted slots, against plain loops in double; and
// the promise that a sequence may be cut into steps anywhere. Products: product_test.cpp.
#include "backends/cuda/test_gpu.h"

namespace fr::cuda {
namespace {

constexpr double bound = 2e-6;

const std::vector<int> ragged = {1, 5, 1, 3, 9};

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

// x + pending of a row and its layer norm, in double.
struct ExactNorm {
  std::vector<double> sum, h;
};
ExactNorm exact_norm(const HostRows& x, const HostRows* pending, const std::vector<float>& weight,
                     const std::vector<float>& bias, int row, double eps) {
  const int n = static_cast<int>(weight.size());
  ExactNorm e;
  double mean = 0, variance = 0;
  for (int i = 0; i < n; ++i) {
    e.sum.push_back(x(row, i) + (pending != nullptr ? (*pending)(row, i) : 0));
    mean += e.sum.back() / n;
  }
  for (const double v : e.sum) variance += (v - mean) * (v - mean) / n;
  for (int i = 0; i < n; ++i) {
    e.h.push_back((e.sum[at(i)] - mean) / std::sqrt(variance + eps) * double{weight[at(i)]} +
                  double{bias[at(i)]});
  }
  return e;
}

// One norm over rows, with its weights. Values far from zero show a variance that is not taken about the
// mean.
struct NormInputs {
  HostRows x, pending;
  std::vector<float> weight, bias;
  OnDevice<float> device_weight, device_bias;
  bool with_pending;

  NormInputs(int rows, int n, bool pending_too)
      : x(rows, n, 1, 3),
        pending(rows, n, 0.5f, -1, 1),
        weight(random_floats(at(n), 0.3f, 1)),
        bias(random_floats(at(n), 0.2f)),
        device_weight(weight),
        device_bias(bias),
        with_pending(pending_too) {}
  AddNorm arguments(OutRows sum) const {
    AddNorm norm;
    norm.n = static_cast<int>(weight.size());
    norm.eps = 1e-5f;
    norm.x = x.on_device();
    if (with_pending) norm.pending = pending.on_device(), norm.sum = sum;
    norm.weight = device_weight.get();
    norm.bias = device_bias.get();
    return norm;
  }
  ExactNorm exact(int row) const {
    return exact_norm(x, with_pending ? &pending : nullptr, weight, bias, row, double{1e-5f});
  }
};

void append(std::vector<double>& to, const std::vector<double>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

TEST(MixTest, AddNorm) {
  for (const int n : {1, 3, 35, 77, 128, 500, 1500, 3000, 8192, 8500}) {
    for (const bool pending : {false, true}) {
      const int rows = n > 1000 ? 2 : 5;
      const NormInputs in(rows, n, pending);
      const ResultRows sum(rows, n), h(rows, n);
      add_norm(nullptr, rows, in.arguments(sum.on_device()), h.on_device());
      std::vector<double> sums, hs;
      for (int row = 0; row < rows; ++row) {
        const ExactNorm e = in.exact(row);
        append(sums, e.sum);
        append(hs, e.h);
      }
      expect_near(h.read(), hs, bound, "h of " + std::to_string(n));
      if (pending) expect_near(sum.read(), sums, 1e-7, "sum of " + std::to_string(n));
    }
  }
}

TEST(MixTest, NormMix) {
  for (const int n : {35, 128, 2100, 8300}) {
    for (const int count : {1, 2, 3, 4, 6}) {
      if (n > 1000 && count != 2) continue;
      TestStep step(n > 1000 ? std::vector<int>{1, 3} : ragged);
      step.add_state(n + 5);
      const auto before = step.states();
      const bool extra = count % 2 == 0;  // also the sum, h and dx
      const NormInputs in(step.rows, n, extra);
      const ResultRows sum(step.rows, n), h(step.rows, n), dx(step.rows, n);
      std::vector<ResultRows> out;
      std::vector<std::vector<float>> mixes;
      std::vector<OnDevice<float>> device_mixes;
      NormMix m;
      m.norm = in.arguments(sum.on_device());
      m.block = 5;
      m.count = count;
      for (int c = 0; c < count; ++c) {
        mixes.push_back(random_floats(at(n)));
        device_mixes.emplace_back(mixes.back());
        out.emplace_back(step.rows, n);
        m.mix[c] = device_mixes.back().get();
        m.out[c] = out.back().on_device();
      }
      if (extra) m.h = h.on_device(), m.dx = dx.on_device();
      norm_mix(nullptr, step.view(), m);

      std::vector<double> hs, dxs;
      std::vector<std::vector<double>> mixed(at(count));
      for (const DeviceSequence& q : step.sequences) {
        const std::vector<float>& old = before[at(q.slot)];
        std::vector<double> previous(old.begin() + 5, old.end());
        for (int row = q.begin; row < q.begin + q.count; ++row) {
          const std::vector<double> now = in.exact(row).h;
          append(hs, now);
          for (int i = 0; i < n; ++i) dxs.push_back(previous[at(i)] - now[at(i)]);
          for (int c = 0; c < count; ++c) {
            for (int i = 0; i < n; ++i) {
              const double d = previous[at(i)] - now[at(i)];
              mixed[at(c)].push_back(now[at(i)] + d * double{mixes[at(c)][at(i)]});
            }
          }
          previous = now;
        }
        const std::vector<float> state = step.state(q.slot);
        EXPECT_TRUE(std::equal(state.begin(), state.begin() + 5, old.begin())) << "wrote before the block";
        expect_near({state.begin() + 5, state.end()}, previous, bound, "state");
      }
      for (int c = 0; c < count; ++c) expect_near(out[at(c)].read(), mixed[at(c)], bound, "mix");
      if (extra) {
        expect_near(h.read(), hs, bound, "h");
        expect_near(dx.read(), dxs, bound, "dx");
      }
    }
  }
}

TEST(MixTest, DataMixAndLerp) {
  for (const int n : {3, 77, 300}) {
    constexpr int rows = 7;
    const HostRows h(rows, n), dx(rows, n);
    std::vector<HostRows> parts, weights;
    std::vector<ResultRows> out;
    DataMixOut m;
    m.n = n;
    m.h = h.on_device();
    m.dx = dx.on_device();
    for (int c = 0; c < 5; ++c) {
      parts.emplace_back(rows, n);
      weights.emplace_back(1, n);
      out.emplace_back(rows, n);
      m.part[c] = parts.back().on_device();
      m.maa[c] = weights.back().on_device().p;
      m.out[c] = out.back().on_device();
    }
    data_mix(nullptr, rows, m);
    const ResultRows y(rows, n);
    lerp(nullptr, rows, n, h.on_device(), dx.on_device(), parts[0].on_device(), y.on_device());
    for (int c = 0; c < 5; ++c) {
      std::vector<double> exact, lerps;
      for (int row = 0; row < rows; ++row) {
        for (int i = 0; i < n; ++i) {
          exact.push_back(h(row, i) + dx(row, i) * (weights[at(c)](0, i) + parts[at(c)](row, i)));
          lerps.push_back(h(row, i) + (dx(row, i) - h(row, i)) * parts[0](row, i));
        }
      }
      expect_near(out[at(c)].read(), exact, bound);
      if (c == 0) expect_near(y.read(), lerps, bound);
    }
  }
}

// ---- recurrences ----

// run(view, first row, y): launches the kernel for rows of a step that begins at `first`. Runs the whole
// batch at once, then again from the old states token by token; both must give the same bits. Returns y and
// leaves the states.
template <class F>
std::vector<float> whole_and_in_steps(TestStep& step, int columns, F run) {
  const auto before = step.states();
  const ResultRows whole(step.rows, columns);
  run(step.view(), whole.on_device());
  const std::vector<float> y = whole.read();
  const auto after = step.states();

  step.set_states(before);
  const ResultRows pieces(step.rows, columns);
  const auto sequences = step.sequences;
  for (int token = 0;; ++token) {  // a step has the next token of every sequence that has one
    step.sequences.clear();
    for (const DeviceSequence& q : sequences) {
      if (token < q.count) step.sequences.push_back({q.slot, q.begin + token, 1});
    }
    if (step.sequences.empty()) break;
    run(step.view(), pieces.on_device());
    expect_ok(cudaDeviceSynchronize());
  }
  step.sequences = sequences;
  EXPECT_EQ(pieces.read(), y) << "token by token";
  EXPECT_EQ(step.states(), after) << "token by token";
  return y;
}

TEST(WkvTest, Wkv4) {
  for (const int n : {3, 35, 200}) {
    TestStep step(ragged);
    step.add_state(3 * n + 2);
    const auto before = step.states();
    const HostRows k(step.rows, n, 2), v(step.rows, n, 1, 0, 1);
    const std::vector<float> decay = random_floats(at(n), 1, -2), bonus = random_floats(at(n));
    const OnDevice<float> device_decay(decay), device_bonus(bonus);
    const std::int64_t aa = 2, bb = aa + n, pp = bb + n;
    for (std::size_t s = 0; s < step.slots.size(); ++s) {  // the denominator is positive
      auto state = before[s];
      for (int c = 0; c < n; ++c) state[at(bb + c)] = std::abs(state[at(bb + c)]);
      step.slots[s] = OnDevice<float>(state);
    }
    const auto begin = step.states();
    const std::vector<float> y = whole_and_in_steps(step, n, [&](const StepView& view, OutRows to) {
      wkv4(nullptr, view,
           {n, k.on_device(), v.on_device(), device_decay.get(), device_bonus.get(), aa, bb, pp, to});
    });
    std::vector<double> exact(y.size());
    for (const DeviceSequence& q : step.sequences) {
      std::vector<double> state(begin[at(q.slot)].begin(), begin[at(q.slot)].end());
      for (int row = q.begin; row < q.begin + q.count; ++row) {
        for (int c = 0; c < n; ++c) {
          double &a = state[at(aa + c)], &b = state[at(bb + c)], &p = state[at(pp + c)];
          const double key = k(row, c), value = v(row, c), now = key + double{bonus[at(c)]},
                       top = std::max(p, now);
          const double e1 = std::exp(p - top), e2 = std::exp(now - top);
          exact[at(row * n + c)] = (e1 * a + e2 * value) / (e1 * b + e2);
          const double faded = p + double{decay[at(c)]}, next = std::max(faded, key);
          a = std::exp(faded - next) * a + std::exp(key - next) * value;
          b = std::exp(faded - next) * b + std::exp(key - next);
          p = next;
        }
      }
      expect_near(step.state(q.slot), state, bound, "state");
    }
    expect_near(y, exact, bound);
  }
}

TEST(WkvTest, Wkv56) {
  for (const int n : {64, 32, 16, 40, 5}) {
    for (const bool decay_of_token : {false, true}) {
      constexpr int heads = 2;
      const int columns = heads * n;
      TestStep step(n == 64 ? std::vector<int>{2, 4, 1} : ragged);
      step.add_state(columns * n + 4);
      const auto before = step.states();
      const HostRows r(step.rows, columns), k(step.rows, columns, 0.3f), v(step.rows, columns, 1, 0, 1);
      const HostRows w(step.rows, columns, 0.05f, 0.9f), u(1, columns);
      const Rows decay{w.on_device().p, decay_of_token ? w.on_device().stride : 0};
      const std::vector<float> y = whole_and_in_steps(step, columns, [&](const StepView& view, OutRows to) {
        wkv56(nullptr, view,
              {heads, n, r.on_device(), k.on_device(), v.on_device(), decay, u.on_device().p, 4, to});
      });
      std::vector<double> exact(y.size());
      for (const DeviceSequence& q : step.sequences) {
        std::vector<double> state(before[at(q.slot)].begin(), before[at(q.slot)].end());
        for (int row = q.begin; row < q.begin + q.count; ++row) {
          for (int c = 0; c < columns; ++c) {
            const int head = c / n * n;  // first column of it
            double& to = exact[at(row * columns + c)];
            for (int i = head; i < head + n; ++i) {
              double& s = state[at(4 + std::int64_t{i} * n + c - head)];
              const double kv = k(row, i) * v(row, c);
              to += r(row, i) * (s + u(0, i) * kv);
              s = s * w(decay_of_token ? row : 0, i) + kv;
            }
          }
        }
        expect_near(step.state(q.slot), state, bound, "state");
      }
      expect_near(y, exact, bound, "head of " + std::to_string(n));
    }
  }
}

TEST(WkvTest, Wkv7) {
  for (const int n : {64, 32, 16, 40, 5}) {
    constexpr int heads = 2;
    const int columns = heads * n;
    TestStep step(n == 64 ? std::vector<int>{2, 4, 1} : ragged);
    step.add_state(columns * n + 3);
    const auto before = step.states();
    const HostRows r(step.rows, columns), w(step.rows, columns, 0.05f, 0.9f), k(step.rows, columns, 0.3f);
    const HostRows v(step.rows, columns, 1, 0, 1);
    const HostRows a(step.rows, columns, 0.1f), b(step.rows, columns, 0.1f);
    const std::vector<float> y = whole_and_in_steps(step, columns, [&](const StepView& view, OutRows to) {
      wkv7(nullptr, view,
           {heads, n, r.on_device(), w.on_device(), k.on_device(), v.on_device(), a.on_device(),
            b.on_device(), 3, to});
    });
    std::vector<double> exact(y.size());
    for (const DeviceSequence& q : step.sequences) {
      std::vector<double> state(before[at(q.slot)].begin(), before[at(q.slot)].end());
      for (int row = q.begin; row < q.begin + q.count; ++row) {
        for (int c = 0; c < columns; ++c) {
          const int head = c / n * n;
          double* s = state.data() + 3 + std::int64_t{c} * n - head;  // s[j]: column j of the state's row c
          double erased = 0;
          for (int j = head; j < head + n; ++j) erased += s[j] * a(row, j);
          for (int j = head; j < head + n; ++j) {
            s[j] = s[j] * w(row, j) + erased * b(row, j) + v(row, c) * k(row, j);
            exact[at(row * columns + c)] += s[j] * r(row, j);
          }
        }
      }
      expect_near(step.state(q.slot), state, bound, "state");
    }
    expect_near(y, exact, bound, "head of " + std::to_string(n));
  }
}

TEST(WkvTest, Wkv7Keys) {
  for (const int n : {64, 40, 16, 5}) {
    constexpr int heads = 3, rows = 4;
    const int columns = heads * n;
    HostRows k(rows, columns), a(rows, columns, 0.3f, 0.5f), k_k(1, columns, 0.2f, 0.8f), k_a(1, columns);
    for (int c = 0; c < n; ++c) k.at(1, c) = 0;  // of length zero: divided by eps
    k.upload();
    const ResultRows key(rows, columns), erase(rows, columns), write(rows, columns);
    wkv7_keys(nullptr, rows,
              {heads, n, 1e-12f, k.on_device(), a.on_device(), k_k.on_device().p, k_a.on_device().p,
               key.on_device(), erase.on_device(), write.on_device()});
    std::vector<double> keys, erases, writes;
    for (int row = 0; row < rows; ++row) {
      for (int c = 0; c < columns; ++c) {
        const int head = c / n * n;
        double squares = 0;
        for (int i = head; i < head + n; ++i) squares += std::pow(k(row, i) * k_k(0, i), 2);
        const double kk = k(row, c) * k_k(0, c) / std::max(std::sqrt(squares), double{1e-12f});
        keys.push_back(k(row, c) * (1 + (a(row, c) - 1) * k_a(0, c)));
        erases.push_back(-kk);
        writes.push_back(kk * a(row, c));
      }
    }
    expect_near(key.read(), keys, bound, "key");
    expect_near(erase.read(), erases, bound, "erase");
    expect_near(write.read(), writes, bound, "write");
  }
}

TEST(WkvTest, HeadOut) {
  for (const int n : {64, 40, 16, 5}) {
    for (const bool gated : {false, true}) {
      for (const bool bonus : {false, true}) {
        constexpr int heads = 5, rows = 3;
        const int columns = heads * n;
        const HostRows y(rows, columns, 1, 2), gate(rows, columns), r(rows, columns), k(rows, columns);
        const HostRows v(rows, columns), weight(1, columns), bias(1, columns), r_k(1, columns);
        const ResultRows out(rows, columns);
        HeadOut h{heads, n,  64e-5f, y.on_device(), weight.on_device().p, bias.on_device().p, {},
                  {},    {}, {},     nullptr,       out.on_device()};
        if (gated) h.gate = gate.on_device();
        if (bonus) h.r = r.on_device(), h.k = k.on_device(), h.v = v.on_device(), h.r_k = r_k.on_device().p;
        head_out(nullptr, rows, h);
        std::vector<double> exact;
        for (int row = 0; row < rows; ++row) {
          for (int c = 0; c < columns; ++c) {
            const int head = c / n * n;
            double mean = 0, variance = 0, sum = 0;
            for (int i = head; i < head + n; ++i) mean += y(row, i) / n;
            for (int i = head; i < head + n; ++i) {
              variance += std::pow(y(row, i) - mean, 2) / n;
              sum += r(row, i) * k(row, i) * r_k(0, i);
            }
            double e = (y(row, c) - mean) / std::sqrt(variance + double{64e-5f}) * weight(0, c) + bias(0, c);
            if (bonus) e += sum * v(row, c);
            exact.push_back(gated ? e * gate(row, c) : e);
          }
        }
        expect_near(out.read(), exact, bound);
      }
    }
  }
}

}  // namespace
}  // namespace fr::cuda
