// Matrix products of a warp (nvcuda::wmma) of the emulated CUDA. The elements of a fragment are dealt out to
// the lanes in turn; which lane has which is unspecified in CUDA, so no correct kernel depends on it.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

inline float __float_to_tf32(float x) {  // to nearest, ties away from zero
  return __uint_as_float((__float_as_uint(x) + 0x1000u) & 0xffffe000u);
}

namespace nvcuda::wmma {

struct matrix_a;
struct matrix_b;
struct accumulator;
struct row_major;
struct col_major;
enum layout_t { mem_row_major, mem_col_major };
namespace precision {
struct tf32;
}

namespace emulated {
template <class T>
struct Element {
  using type = T;
};
template <>
struct Element<precision::tf32> {
  using type = float;
};
// What the multiplier sees: of a tf32 operand the upper 19 bits only.
template <class T>
float operand(T x) {
  if constexpr (std::is_same_v<T, float>) {
    return __uint_as_float(__float_as_uint(x) & 0xffffe000u);
  } else if constexpr (std::is_same_v<T, __half>) {
    return __half2float(x);
  } else {
    return __bfloat162float(x);
  }
}
template <class Use, int M, int N, int K>
constexpr int rows_of = std::is_same_v<Use, matrix_b> ? K : M;
template <class Use, int M, int N, int K>
constexpr int cols_of = std::is_same_v<Use, matrix_a> ? K : N;
}  // namespace emulated

template <class Use, int M, int N, int K, class T, class Layout = void>
struct fragment {
  using element_type = typename emulated::Element<T>::type;
  static constexpr int rows = emulated::rows_of<Use, M, N, K>, cols = emulated::cols_of<Use, M, N, K>;
  static constexpr int num_elements = rows * cols / 32;
  element_type x[num_elements];

  // Calls f(element, row, column) for each of the lane's.
  template <class F>
  void each(F f) {
    for (int i = 0; i < num_elements; ++i) {
      const int at = i * 32 + static_cast<int>(cuda_emulator::lane());
      f(x[i], at / cols, at % cols);
    }
  }
};

template <class F>
void fill_fragment(F& f, std::type_identity_t<typename F::element_type> value) {
  for (auto& x : f.x) x = value;
}

template <class Use, int M, int N, int K, class T, class Layout, class U>
void load_matrix_sync(fragment<Use, M, N, K, T, Layout>& f, const U* p, unsigned ld) {
  static_assert(!std::is_void_v<Layout>);
  f.each([&](auto& x, int row, int col) {
    x = p[std::is_same_v<Layout, row_major> ? row * static_cast<int>(ld) + col
                                            : col * static_cast<int>(ld) + row];
  });
  cuda_emulator::sync_warp(0xffffffffu);
}
template <int M, int N, int K, class T>
void load_matrix_sync(fragment<accumulator, M, N, K, T>& f, const T* p, unsigned ld, layout_t layout) {
  f.each([&](auto& x, int row, int col) {
    x = p[layout == mem_row_major ? row * static_cast<int>(ld) + col : col * static_cast<int>(ld) + row];
  });
  cuda_emulator::sync_warp(0xffffffffu);
}
template <int M, int N, int K, class T>
void store_matrix_sync(T* p, fragment<accumulator, M, N, K, T>& f, unsigned ld, layout_t layout) {
  cuda_emulator::sync_warp(0xffffffffu);
  f.each([&](auto& x, int row, int col) {
    p[layout == mem_row_major ? row * static_cast<int>(ld) + col : col * static_cast<int>(ld) + row] = x;
  });
  cuda_emulator::sync_warp(0xffffffffu);
}

// d = a b + c. Lanes hand their operands to one another through the warp's exchange memory, 64 bytes each.
template <int M, int N, int K, class T, class LA, class LB>
void mma_sync(fragment<accumulator, M, N, K, float>& d, fragment<matrix_a, M, N, K, T, LA>& a,
              fragment<matrix_b, M, N, K, T, LB>& b, fragment<accumulator, M, N, K, float>& c) {
  float all_a[M * K], all_b[K * N];
  const auto gather = [](auto& f, float* all) {
    static_assert(sizeof f.x <= 64);
    std::memcpy(cuda_emulator::exchange(cuda_emulator::lane()), f.x, sizeof f.x);
    cuda_emulator::sync_warp(0xffffffffu);
    for (int i = 0; i < f.rows * f.cols; ++i) {
      std::remove_reference_t<decltype(f.x[0])> x;
      std::memcpy(&x,
                  cuda_emulator::exchange(static_cast<unsigned>(i % 32)) +
                      static_cast<std::size_t>(i / 32) * sizeof x,
                  sizeof x);
      all[i] = emulated::operand(x);
    }
    cuda_emulator::sync_warp(0xffffffffu);
  };
  gather(a, all_a);
  gather(b, all_b);
  fragment<accumulator, M, N, K, float> sum = c;
  sum.each([&](float& x, int row, int col) {
    for (int k = 0; k < K; ++k) x += all_a[row * K + k] * all_b[k * N + col];
  });
  d = sum;
}

}  // namespace nvcuda::wmma
