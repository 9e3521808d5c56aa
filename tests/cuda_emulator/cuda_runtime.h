// A stand-in for the CUDA runtime, so that the kernels and the device of src/backends/cuda run on the
// processor, in tests, without a GPU. It is included in place of the toolkit's header when a host compiler
// compiles CUDA sources. A block's threads are fibers (emulator.cpp) that take turns at barriers and warp
// operations; blocks run one after the other. Work on a stream is queued and runs when somebody waits for it,
// so that missing waits show. Device memory is ordinary memory of exactly the size asked for, so that
// AddressSanitizer sees what is read or written beyond it. One thread of the process at a time.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>

// ---- the language ----
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__ static
#define __launch_bounds__(...)
#define __align__(n) alignas(n)

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct uint3 {
  unsigned x, y, z;
};

#define FR_VECTOR_TYPES(name, type, alignment2, alignment4)        \
  struct alignas(alignment2) name##2 {                             \
    type x, y;                                                     \
  };                                                               \
  struct alignas(alignment4) name##4 {                             \
    type x, y, z, w;                                               \
  };                                                               \
  inline name##2 make_##name##2(type x, type y) { return {x, y}; } \
  inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
FR_VECTOR_TYPES(float, float, 8, 16)
FR_VECTOR_TYPES(int, int, 8, 16)
FR_VECTOR_TYPES(uint, unsigned, 8, 16)
FR_VECTOR_TYPES(char, signed char, 2, 4)
FR_VECTOR_TYPES(uchar, unsigned char, 2, 4)
FR_VECTOR_TYPES(short, short, 4, 8)
FR_VECTOR_TYPES(ushort, unsigned short, 4, 8)
#undef FR_VECTOR_TYPES
struct alignas(16) double2 {
  double x, y;
};

namespace cuda_emulator {

inline constexpr int warp_size = 32;

void sync_block();
// Waits for the lanes of `mask` that still run; a lane outside the mask must not call it.
void sync_warp(unsigned mask);
unsigned lane();
unsigned active_lanes();                 // of the own warp: those that have not returned
unsigned char* exchange(unsigned lane);  // 64 bytes of the warp's for each lane
void* dynamic_shared();

template <class T>
T shuffle(unsigned mask, T value, unsigned from) {
  static_assert(sizeof(T) <= 64 && std::is_trivially_copyable_v<T>);
  std::memcpy(exchange(lane()), &value, sizeof value);
  sync_warp(mask);
  T result;
  std::memcpy(&result, exchange(from), sizeof result);
  sync_warp(mask);
  return result;
}
unsigned ballot(unsigned mask, bool predicate);

}  // namespace cuda_emulator

// Of the thread that runs.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
inline constexpr int warpSize = cuda_emulator::warp_size;

inline void __syncthreads() { cuda_emulator::sync_block(); }
inline void __syncwarp(unsigned mask = 0xffffffffu) { cuda_emulator::sync_warp(mask); }
inline void __threadfence() {}
inline void __threadfence_block() {}
inline unsigned __activemask() { return cuda_emulator::active_lanes(); }
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  return cuda_emulator::ballot(mask, predicate != 0);
}
inline int __any_sync(unsigned mask, int predicate) {
  return cuda_emulator::ballot(mask, predicate != 0) != 0;
}
inline int __all_sync(unsigned mask, int predicate) {
  return cuda_emulator::ballot(mask, predicate == 0) == 0;
}

// Lanes fall into groups of `width`; a source outside the group gives the own value.
template <class T>
T __shfl_sync(unsigned mask, T value, int from, int width = 32) {
  const unsigned group = cuda_emulator::lane() & ~static_cast<unsigned>(width - 1);
  return cuda_emulator::shuffle(mask, value,
                                group | (static_cast<unsigned>(from) & static_cast<unsigned>(width - 1)));
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int other, int width = 32) {
  const unsigned lane = cuda_emulator::lane(), from = lane ^ static_cast<unsigned>(other);
  return cuda_emulator::shuffle(
      mask, value, from / static_cast<unsigned>(width) > lane / static_cast<unsigned>(width) ? lane : from);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const unsigned lane = cuda_emulator::lane(), from = lane + delta;
  return cuda_emulator::shuffle(
      mask, value, from / static_cast<unsigned>(width) != lane / static_cast<unsigned>(width) ? lane : from);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const unsigned lane = cuda_emulator::lane(), in_group = lane & static_cast<unsigned>(width - 1);
  return cuda_emulator::shuffle(mask, value, in_group < delta ? lane : lane - delta);
}

template <class T>
T atomicAdd(T* at, std::type_identity_t<T> value) {
  return std::exchange(*at, static_cast<T>(*at + value));
}
template <class T>
T atomicMax(T* at, std::type_identity_t<T> value) {
  return std::exchange(*at, *at < value ? value : *at);
}
template <class T>
T atomicMin(T* at, std::type_identity_t<T> value) {
  return std::exchange(*at, value < *at ? value : *at);
}
template <class T>
T atomicOr(T* at, std::type_identity_t<T> value) {
  return std::exchange(*at, *at | value);
}
template <class T>
T atomicExch(T* at, std::type_identity_t<T> value) {
  return std::exchange(*at, value);
}
template <class T>
T atomicCAS(T* at, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  return std::exchange(*at, *at == expected ? value : *at);
}

template <class T>
T __ldg(const T* p) {
  return *p;
}
template <class To, class From>
To fr_bits(From from) {
  To to;
  static_assert(sizeof to == sizeof from);
  std::memcpy(&to, &from, sizeof to);
  return to;
}
inline unsigned __float_as_uint(float x) { return fr_bits<unsigned>(x); }
inline int __float_as_int(float x) { return fr_bits<int>(x); }
inline float __uint_as_float(unsigned x) { return fr_bits<float>(x); }
inline float __int_as_float(int x) { return fr_bits<float>(x); }
inline long long __double_as_longlong(double x) { return fr_bits<long long>(x); }
inline double __longlong_as_double(long long x) { return fr_bits<double>(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x)); }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
template <class T>
requires std::is_arithmetic_v<T>
constexpr T min(T a, T b) { return b < a ? b : a; }
template <class T>
requires std::is_arithmetic_v<T>
constexpr T max(T a, T b) { return a < b ? b : a; }
inline void* emulated_dynamic_shared() { return cuda_emulator::dynamic_shared(); }

// ---- the runtime ----
#define CUDART_VERSION 13000
#define CUDART_CB
enum cudaError {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInitializationError = 3,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInsufficientDriver = 35,
  cudaErrorDevicesUnavailable = 46,
  cudaErrorInvalidDeviceFunction = 98,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorNoKernelImageForDevice = 209,
  cudaErrorECCUncorrectable = 214,
  cudaErrorUnsupportedPtxVersion = 222,
  cudaErrorIllegalAddress = 700,
  cudaErrorLaunchOutOfResources = 701,
  cudaErrorLaunchTimeout = 702,
  cudaErrorAssert = 710,
  cudaErrorMisalignedAddress = 716,
  cudaErrorNotReady = 600,
  cudaErrorLaunchFailure = 719,
  cudaErrorSystemDriverMismatch = 803,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorStreamCaptureInvalidated = 901,
  cudaErrorUnknown = 999,
};
using cudaError_t = cudaError;
const char* cudaGetErrorName(cudaError_t error);
const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaPeekAtLastError();

struct CUstream_st;
struct CUgraph_st;
struct CUgraphExec_st;
struct CUevent_st;
using cudaStream_t = CUstream_st*;
using cudaGraph_t = CUgraph_st*;
using cudaGraphExec_t = CUgraphExec_st*;
using cudaEvent_t = CUevent_st*;

struct cudaDeviceProp {
  char name[256];
  std::size_t totalGlobalMem;
  std::size_t sharedMemPerBlock, sharedMemPerBlockOptin, sharedMemPerMultiprocessor;
  int major, minor, multiProcessorCount, l2CacheSize, warpSize, maxThreadsPerBlock;
};
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrL2CacheSize = 38,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
};
cudaError_t cudaDriverGetVersion(int* version);
cudaError_t cudaRuntimeGetVersion(int* version);
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaDeviceSynchronize();

cudaError_t fr_emulated_malloc(void** p, std::size_t bytes);
template <class T>
cudaError_t cudaMalloc(T** p, std::size_t bytes) {
  return fr_emulated_malloc(reinterpret_cast<void**>(p), bytes);
}
cudaError_t cudaFree(void* p);
enum {
  cudaHostAllocDefault = 0,
  cudaHostAllocPortable = 1,
  cudaHostAllocMapped = 2,
  cudaHostAllocWriteCombined = 4
};
cudaError_t fr_emulated_malloc_host(void** p, std::size_t bytes);
template <class T>
cudaError_t cudaMallocHost(T** p, std::size_t bytes, unsigned = 0) {
  return fr_emulated_malloc_host(reinterpret_cast<void**>(p), bytes);
}
template <class T>
cudaError_t cudaHostAlloc(T** p, std::size_t bytes, unsigned) {
  return fr_emulated_malloc_host(reinterpret_cast<void**>(p), bytes);
}
cudaError_t cudaFreeHost(void* p);
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total);
enum cudaMemcpyKind {
  cudaMemcpyHostToHost = 0,
  cudaMemcpyHostToDevice = 1,
  cudaMemcpyDeviceToHost = 2,
  cudaMemcpyDeviceToDevice = 3,
  cudaMemcpyDefault = 4
};
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind);
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream = nullptr);
cudaError_t cudaMemset(void* to, int value, std::size_t bytes);
cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream = nullptr);

enum { cudaStreamDefault = 0, cudaStreamNonBlocking = 1 };
cudaError_t cudaStreamCreate(cudaStream_t* stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
enum cudaStreamCaptureMode {
  cudaStreamCaptureModeGlobal = 0,
  cudaStreamCaptureModeThreadLocal = 1,
  cudaStreamCaptureModeRelaxed = 2
};
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long flags = 0);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);

enum { cudaEventDefault = 0, cudaEventDisableTiming = 2 };
cudaError_t cudaEventCreate(cudaEvent_t* event);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream = nullptr);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from, cudaEvent_t to);

enum cudaFuncAttribute {
  cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
  cudaFuncAttributePreferredSharedMemoryCarveout = 9
};
cudaError_t fr_emulated_attribute(const void* function, cudaFuncAttribute attribute, int value);
template <class T>
cudaError_t cudaFuncSetAttribute(T* function, cudaFuncAttribute attribute, int value) {
  return fr_emulated_attribute(reinterpret_cast<const void*>(function), attribute, value);
}
struct cudaFuncAttributes {
  int numRegs, maxThreadsPerBlock;
  std::size_t sharedSizeBytes;
};
cudaError_t fr_emulated_get_attributes(cudaFuncAttributes* attributes);
template <class T>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, T*) {
  return fr_emulated_get_attributes(attributes);
}

struct cudaLaunchAttribute {
  int id = 0;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  std::size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
  cudaLaunchAttribute* attrs = nullptr;
  unsigned numAttrs = 0;
};
cudaError_t fr_emulated_launch(const cudaLaunchConfig_t& config, const void* function,
                               std::function<void()> body);
template <class... P, class... A>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(P...), A&&... arguments) {
  std::tuple<std::decay_t<P>...> copies(std::forward<A>(arguments)...);
  return fr_emulated_launch(*config, reinterpret_cast<const void*>(kernel),
                            [kernel, copies] { std::apply(kernel, copies); });
}
