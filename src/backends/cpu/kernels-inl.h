// The kernels of one instruction set, written once over F32, which FR_VEC_HEADER defines. Everything has
// internal linkage. Formulas: core/fused_mix.h, fused_linear.h, fused_wkv.h.
#pragma once
#include FR_VEC_HEADER

#include "backends/cpu/kernels.h"

// After the vectors:
#include "backends/cpu/finish-inl.h"

namespace fr::cpu {
namespace {

// The lanes that an operation covers: all of a vector, or the first few at the end of a row; the others load
// as zero.
struct AllLanes {
  F32 load(const float* p) const { return cpu::load(p); }
  void store(float* p, F32 a) const { cpu::store(p, a); }
  F32 keep(F32 a) const { return a; }
};
struct FirstLanes {
  int n;
  F32 load(const float* p) const { return load_first(p, n); }
  void store(float* p, F32 a) const { store_first(p, a, n); }
  F32 keep(F32 a) const { return keep_first(a, n); }
};

// f(i, lanes) over n elements, a vector at a time.
template <class F>
inline void each(int n, F f) {
  int i = 0;
  for (; i + lanes <= n; i += lanes) f(i, AllLanes{});
  if (i < n) f(i, FirstLanes{n - i});
}

}  // namespace
}  // namespace fr::cpu

#include "backends/cpu/panels-inl.h"
#include "backends/cpu/product-inl.h"

namespace fr::cpu {
namespace {

void activate(Epilogue act, const float* x, float* y, int n) {
  each(n, [&](int i, auto some) { some.store(y + i, apply(act, some.load(x + i))); });
}

struct Moments {
  float mean, inverse_deviation;
};
inline Moments moments(const float* x, int n, float eps) {
  F32 total = set1(0.0f), squares = set1(0.0f);
  each(n, [&](int i, auto some) { total = total + some.load(x + i); });
  const float mean = sum(total) / static_cast<float>(n);
  each(n, [&](int i, auto some) {
    const F32 d = some.keep(some.load(x + i) - set1(mean));
    squares = fma(d, d, squares);
  });
  return {mean, 1.0f / __builtin_sqrtf(sum(squares) / static_cast<float>(n) + eps)};
}

void add_norm(const float* x, const float* pending, const float* weight, const float* bias, float eps, int n,
              float* sum, float* h) {
  if (pending != nullptr) {
    float* total = sum != nullptr ? sum : h;
    each(n, [&](int i, auto some) { some.store(total + i, some.load(x + i) + some.load(pending + i)); });
    x = total;
  }
  const Moments m = moments(x, n, eps);
  each(n, [&](int i, auto some) {
    const F32 normed = (some.load(x + i) - set1(m.mean)) * set1(m.inverse_deviation);
    some.store(h + i, fma(normed, some.load(weight + i), some.load(bias + i)));
  });
}

void mix(const float* h, const float* previous, const float* const* mix, int count, int n, float* const* out,
         float* dx) {
  each(n, [&](int i, auto some) {
    const F32 now = some.load(h + i), d = some.load(previous + i) - now;
    if (dx != nullptr) some.store(dx + i, d);
    for (int j = 0; j < count; ++j) some.store(out[j] + i, fma(d, some.load(mix[j] + i), now));
  });
}

void data_mix(const float* h, const float* dx, const float* maa, const float* part, int n, float* out) {
  each(n, [&](int i, auto some) {
    const F32 weight = some.load(maa + i) + some.load(part + i);
    some.store(out + i, fma(some.load(dx + i), weight, some.load(h + i)));
  });
}

void lerp(const float* a, const float* b, const float* t, int n, float* out) {
  each(n, [&](int i, auto some) {
    const F32 from = some.load(a + i);
    some.store(out + i, fma(some.load(b + i) - from, some.load(t + i), from));
  });
}

void wkv4(const float* k, const float* v, const float* decay, const float* bonus, int n, float* aa, float* bb,
          float* pp, float* y) {
  each(n, [&](int i, auto some) {
    const F32 key = some.load(k + i), value = some.load(v + i);
    const F32 a = some.load(aa + i), b = some.load(bb + i), p = some.load(pp + i);
    const F32 now = key + some.load(bonus + i), top = max(p, now);
    const F32 e1 = exp(p - top), e2 = exp(now - top);
    some.store(y + i, fma(e1, a, e2 * value) / fma(e1, b, e2));
    const F32 faded = p + some.load(decay + i), next = max(faded, key);
    const F32 f1 = exp(faded - next), f2 = exp(key - next);
    some.store(aa + i, fma(f1, a, f2 * value));
    some.store(bb + i, fma(f1, b, f2));
    some.store(pp + i, next);
  });
}

// V vectors of columns of the state, from column c on.
template <int V, class Lanes>
inline void wkv56_columns(const float* r, const float* k, const float* v, const float* w, const float* u,
                          int n, float* s, float* y, int c, Lanes some) {
  F32 value[V], out[V];
  for (int j = 0; j < V; ++j) {
    value[j] = some.load(v + c + j * lanes);
    out[j] = set1(0.0f);
  }
  for (int i = 0; i < n; ++i) {
    const F32 ri = set1(r[i]), ki = set1(k[i]), wi = set1(w[i]), ui = set1(u[i]);
    float* row = s + i * n + c;
    for (int j = 0; j < V; ++j) {
      const F32 kv = ki * value[j], old = some.load(row + j * lanes);
      out[j] = fma(ri, fma(ui, kv, old), out[j]);
      some.store(row + j * lanes, fma(wi, old, kv));
    }
  }
  for (int j = 0; j < V; ++j) some.store(y + c + j * lanes, out[j]);
}

void wkv56(const float* r, const float* k, const float* v, const float* w, const float* u, int n, float* s,
           float* y) {
  int c = 0;
  for (; c + 4 * lanes <= n; c += 4 * lanes) wkv56_columns<4>(r, k, v, w, u, n, s, y, c, AllLanes{});
  for (; c + lanes <= n; c += lanes) wkv56_columns<1>(r, k, v, w, u, n, s, y, c, AllLanes{});
  if (c < n) wkv56_columns<1>(r, k, v, w, u, n, s, y, c, FirstLanes{n - c});
}

// What R rows add up to, four rows together: each in every lane, or one after the other to memory.
inline void sums_of(const F32 (&v)[4], F32 (&to)[4]) {
  const F32 four = four_sums(v);
  to[0] = of_four<0>(four);
  to[1] = of_four<1>(four);
  to[2] = of_four<2>(four);
  to[3] = of_four<3>(four);
}
inline void sums_of(const F32 (&v)[1], F32 (&to)[1]) { to[0] = set1(sum(v[0])); }
inline void sums_of(const F32 (&v)[4], float* to) { store_four(to, four_sums(v)); }
inline void sums_of(const F32 (&v)[1], float* to) { *to = sum(v[0]); }

// R rows of the state from row i on: two passes, because the second needs the whole of S a.
template <int R>
inline void wkv7_rows(const Wkv7Token& t, int n, float* s, int i) {
  F32 dot[R], value[R], out[R];
#pragma GCC unroll 4
  for (int j = 0; j < R; ++j) dot[j] = out[j] = set1(0.0f);
  each(n, [&](int c, auto some) {
    const F32 a = some.load(t.a + c);
#pragma GCC unroll 4
    for (int j = 0; j < R; ++j) dot[j] = fma(some.load(s + (i + j) * n + c), a, dot[j]);
  });
  F32 erased[R];
  sums_of(dot, erased);
#pragma GCC unroll 4
  for (int j = 0; j < R; ++j) value[j] = set1(t.v[i + j]);
  each(n, [&](int c, auto some) {
    const F32 r = some.load(t.r + c), w = some.load(t.w + c), k = some.load(t.k + c), b = some.load(t.b + c);
#pragma GCC unroll 4
    for (int j = 0; j < R; ++j) {
      float* at = s + (i + j) * n + c;
      const F32 next = fma(some.load(at), w, fma(erased[j], b, value[j] * k));
      some.store(at, next);
      out[j] = fma(next, r, out[j]);
    }
  });
  sums_of(out, t.y + i);
}

void wkv7(const Wkv7Token& t, int n, float* s) {
  int i = 0;
  for (; i + 4 <= n; i += 4) wkv7_rows<4>(t, n, s, i);
  for (; i < n; ++i) wkv7_rows<1>(t, n, s, i);
}

void wkv7_keys(const float* k, const float* a, const float* k_k, const float* k_a, float eps, int n,
               float* key, float* erase, float* write) {
  F32 squares = set1(0.0f);
  each(n, [&](int i, auto some) {
    const F32 kk = some.load(k + i) * some.load(k_k + i);
    squares = fma(kk, kk, squares);
  });
  const float length = __builtin_sqrtf(sum(squares)), inverse = 1.0f / (length > eps ? length : eps);
  each(n, [&](int i, auto some) {
    const F32 raw = some.load(k + i), rate = some.load(a + i);
    const F32 kk = raw * some.load(k_k + i) * set1(inverse);
    some.store(key + i, raw * fma(rate - set1(1.0f), some.load(k_a + i), set1(1.0f)));
    some.store(erase + i, set1(0.0f) - kk);
    some.store(write + i, kk * rate);
  });
}

void head_out(const HeadOut& h, float eps, int n) {
  const Moments m = moments(h.y, n, eps);
  F32 dot = set1(0.0f);
  if (h.r != nullptr) {
    each(n, [&](int i, auto some) {
      dot = fma(some.load(h.r + i) * some.load(h.k + i), some.load(h.r_k + i), dot);
    });
  }
  const F32 bonus = set1(sum(dot));
  each(n, [&](int i, auto some) {
    const F32 normed = (some.load(h.y + i) - set1(m.mean)) * set1(m.inverse_deviation);
    F32 out = fma(normed, some.load(h.weight + i), some.load(h.bias + i));
    if (h.r != nullptr) out = fma(bonus, some.load(h.v + i), out);
    if (h.gate != nullptr) out = out * some.load(h.gate + i);
    some.store(h.out + i, out);
  });
}

constexpr Kernels table(const char* name, const CodedKernels* coded) {
  return {name,  sparse_share, &product, &sparse_product, &nonzero,   &activate, &add_norm, &mix,   &data_mix,
          &lerp, &wkv4,        &wkv56,   &wkv7,           &wkv7_keys, &head_out, coded,     nullptr};
}

}  // namespace
}  // namespace fr::cpu
