#include "cuda_emulator/emulator.h"

#include <chrono>
#include <cstdio>
#include <map>
#include <memory>
#include <new>
#include <unordered_set>
#include <utility>
#include <vector>

#include "cuda_emulator/grid.h"

using Work = std::function<void()>;

struct CUgraph_st {
  std::vector<Work> work;
};
struct CUgraphExec_st {
  std::vector<Work> work;
};
struct CUstream_st {
  std::vector<Work> queue;
  std::unique_ptr<CUgraph_st> capture;
};
struct CUevent_st {
  std::chrono::steady_clock::time_point time;
};

namespace cuda_emulator {

namespace {

constexpr std::size_t most_shared = std::size_t{227} << 10, usual_shared = std::size_t{48} << 10;

struct Failure {
  std::string function;
  cudaError_t error = cudaSuccess;
  int after = 0;
  bool sticky = false;
};

struct Gpu {
  Settings settings;
  Counts counts;
  std::vector<Failure> failures;
  cudaError_t lost = cudaSuccess;  // a sticky error
  cudaError_t last = cudaSuccess;
  int device = 0;
  std::map<void*, std::size_t> device_memory, host_memory;
  std::map<const void*, int> shared_limits;  // of kernels
  std::unordered_set<CUstream_st*> streams;
  CUstream_st default_stream;
};
Gpu& gpu() {
  static Gpu g;
  return g;
}

cudaError_t note(cudaError_t error) {
  if (error != cudaSuccess) gpu().last = error;
  return error;
}

// The error that a call of `function` meets before it does anything.
cudaError_t check(const std::string& function) {
  Gpu& g = gpu();
  if (g.lost != cudaSuccess) return note(g.lost);
  for (auto f = g.failures.begin(); f != g.failures.end(); ++f) {
    if (!f->function.empty() && f->function != function) continue;
    if (f->after-- > 0) continue;
    const Failure failure = *f;
    g.failures.erase(f);
    if (failure.sticky) g.lost = failure.error;
    return note(failure.error);
  }
  return cudaSuccess;
}

// The same, and whether there is a driver and a device at all.
cudaError_t check_device(const std::string& function) {
  const Settings& s = gpu().settings;
  if (s.driver == 0 || s.driver < CUDART_VERSION / 1000 * 1000) return note(cudaErrorInsufficientDriver);
  if (s.devices == 0) return note(cudaErrorNoDevice);
  return check(function);
}

CUstream_st& stream_of(cudaStream_t stream) { return stream == nullptr ? gpu().default_stream : *stream; }

void drain(CUstream_st& stream) {
  std::vector<Work> queue;
  queue.swap(stream.queue);
  for (const Work& work : queue) work();
}

void drain_all() {
  drain(gpu().default_stream);
  for (CUstream_st* stream : gpu().streams) drain(*stream);
}

bool capturing() {
  for (const CUstream_st* stream : gpu().streams) {
    if (stream->capture) return true;
  }
  return false;
}

void enqueue(cudaStream_t stream, Work work) {
  CUstream_st& s = stream_of(stream);
  (s.capture ? s.capture->work : s.queue).push_back(std::move(work));
}

}  // namespace

Settings& settings() { return gpu().settings; }
const Counts& counts() { return gpu().counts; }

void reset() {
  drain_all();
  gpu().settings = {};
  gpu().failures.clear();
  gpu().lost = gpu().last = cudaSuccess;
}

void fail(const std::string& function, cudaError_t error, int after, bool sticky) {
  gpu().failures.push_back({function, error, after, sticky});
}

}  // namespace cuda_emulator

using namespace cuda_emulator;

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInsufficientDriver:
      return "cudaErrorInsufficientDriver";
    case cudaErrorNoDevice:
      return "cudaErrorNoDevice";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorNoKernelImageForDevice:
      return "cudaErrorNoKernelImageForDevice";
    case cudaErrorIllegalAddress:
      return "cudaErrorIllegalAddress";
    case cudaErrorLaunchFailure:
      return "cudaErrorLaunchFailure";
    default:
      return "cudaErrorUnknown";
  }
}
const char* cudaGetErrorString(cudaError_t error) { return cudaGetErrorName(error); }
cudaError_t cudaGetLastError() {
  return gpu().lost != cudaSuccess ? gpu().lost : std::exchange(gpu().last, cudaSuccess);
}
cudaError_t cudaPeekAtLastError() { return gpu().lost != cudaSuccess ? gpu().lost : gpu().last; }

cudaError_t cudaDriverGetVersion(int* version) {
  *version = gpu().settings.driver;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
  *count = 0;
  if (const cudaError_t e = check_device("cudaGetDeviceCount"); e != cudaSuccess) return e;
  *count = gpu().settings.devices;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  if (const cudaError_t e = check_device("cudaSetDevice"); e != cudaSuccess) return e;
  if (device < 0 || device >= gpu().settings.devices) return note(cudaErrorInvalidDevice);
  gpu().device = device;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = gpu().device;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int device) {
  if (const cudaError_t e = check_device("cudaGetDeviceProperties"); e != cudaSuccess) return e;
  if (device < 0 || device >= gpu().settings.devices) return note(cudaErrorInvalidDevice);
  *p = {};
  std::snprintf(p->name, sizeof p->name, "Emulated GPU");
  p->totalGlobalMem = gpu().settings.memory;
  p->sharedMemPerBlock = usual_shared;
  p->sharedMemPerBlockOptin = p->sharedMemPerMultiprocessor = most_shared;
  p->major = gpu().settings.major;
  p->minor = gpu().settings.minor;
  p->multiProcessorCount = 4;
  p->l2CacheSize = 1 << 20;
  p->warpSize = warp_size;
  p->maxThreadsPerBlock = 1024;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp p;
  if (const cudaError_t e = cudaGetDeviceProperties(&p, device); e != cudaSuccess) return e;
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = p.multiProcessorCount;
      break;
    case cudaDevAttrL2CacheSize:
      *value = p.l2CacheSize;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = p.major;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = p.minor;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(most_shared);
      break;
  }
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  if (const cudaError_t e = check("cudaDeviceSynchronize"); e != cudaSuccess) return e;
  drain_all();
  return cudaSuccess;
}

cudaError_t fr_emulated_malloc(void** p, std::size_t bytes) {
  Gpu& g = gpu();
  *p = nullptr;
  if (const cudaError_t e = check_device("cudaMalloc"); e != cudaSuccess) return e;
  if (capturing()) return note(cudaErrorStreamCaptureUnsupported);
  if (bytes > g.settings.memory - std::min(g.settings.memory, g.counts.allocated))
    return note(cudaErrorMemoryAllocation);
  if (bytes == 0) return cudaSuccess;
  *p = ::operator new (bytes, std::align_val_t{256});
  std::memset(*p, 0xff, bytes);  // NaN
  g.device_memory[*p] = bytes;
  g.counts.allocated += bytes;
  ++g.counts.allocations;
  return cudaSuccess;
}
cudaError_t cudaFree(void* p) {
  if (p == nullptr) return cudaSuccess;
  drain_all();
  const auto found = gpu().device_memory.find(p);
  if (found == gpu().device_memory.end()) return note(cudaErrorInvalidValue);
  gpu().counts.allocated -= found->second;
  gpu().device_memory.erase(found);
  ::operator delete (p, std::align_val_t{256});
  return gpu().lost;
}
cudaError_t fr_emulated_malloc_host(void** p, std::size_t bytes) {
  *p = nullptr;
  if (const cudaError_t e = check_device("cudaMallocHost"); e != cudaSuccess) return e;
  *p = ::operator new (bytes, std::align_val_t{256});
  std::memset(*p, 0xff, bytes);
  gpu().host_memory[*p] = bytes;
  ++gpu().counts.host_allocations;
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* p) {
  if (p == nullptr) return cudaSuccess;
  drain_all();
  if (gpu().host_memory.erase(p) == 0) return note(cudaErrorInvalidValue);
  ::operator delete (p, std::align_val_t{256});
  return gpu().lost;
}
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  *free = *total = 0;
  if (const cudaError_t e = check_device("cudaMemGetInfo"); e != cudaSuccess) return e;
  *total = gpu().settings.memory;
  *free = *total - std::min(*total, gpu().counts.allocated);
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind) {
  if (const cudaError_t e = check("cudaMemcpy"); e != cudaSuccess) return e;
  if (capturing()) return note(cudaErrorStreamCaptureUnsupported);
  drain_all();
  std::memmove(to, from, bytes);
  return cudaSuccess;
}
// As on a GPU, memory that is not pinned is read or written before the call returns.
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  if (const cudaError_t e = check("cudaMemcpyAsync"); e != cudaSuccess) return e;
  const auto pinned = [](const void* p) {
    const auto& all = gpu().host_memory;
    auto after = all.upper_bound(const_cast<void*>(p));
    if (after == all.begin()) return false;
    --after;
    return static_cast<const char*>(p) < static_cast<const char*>(after->first) + after->second;
  };
  const bool pageable =
      (kind == cudaMemcpyHostToDevice && !pinned(from)) || (kind == cudaMemcpyDeviceToHost && !pinned(to));
  if (pageable && stream_of(stream).capture) return note(cudaErrorStreamCaptureUnsupported);
  enqueue(stream, [=] { std::memmove(to, from, bytes); });
  if (pageable) drain(stream_of(stream));
  return cudaSuccess;
}
cudaError_t cudaMemset(void* to, int value, std::size_t bytes) {
  if (const cudaError_t e = check("cudaMemset"); e != cudaSuccess) return e;
  drain_all();
  std::memset(to, value, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream) {
  if (const cudaError_t e = check("cudaMemsetAsync"); e != cudaSuccess) return e;
  enqueue(stream, [=] { std::memset(to, value, bytes); });
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = nullptr;
  if (const cudaError_t e = check_device("cudaStreamCreate"); e != cudaSuccess) return e;
  *stream = new CUstream_st;
  gpu().streams.insert(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, 0); }
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  if (gpu().streams.erase(stream) == 0) return note(cudaErrorInvalidValue);
  drain(*stream);
  delete stream;
  return gpu().lost;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (const cudaError_t e = check("cudaStreamSynchronize"); e != cudaSuccess) return e;
  if (stream_of(stream).capture) return note(cudaErrorStreamCaptureUnsupported);
  drain(stream_of(stream));
  return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (const cudaError_t e = check("cudaStreamBeginCapture"); e != cudaSuccess) return e;
  if (stream == nullptr || stream->capture) return note(cudaErrorStreamCaptureUnsupported);
  stream->capture = std::make_unique<CUgraph_st>();
  ++gpu().counts.captures;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  if (stream == nullptr || !stream->capture) return note(cudaErrorStreamCaptureInvalidated);
  std::unique_ptr<CUgraph_st> captured = std::move(stream->capture);
  if (const cudaError_t e = check("cudaStreamEndCapture"); e != cudaSuccess) return e;
  *graph = captured.release();
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  *exec = nullptr;
  if (const cudaError_t e = check("cudaGraphInstantiate"); e != cudaSuccess) return e;
  *exec = new CUgraphExec_st{graph->work};
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  if (const cudaError_t e = check("cudaGraphLaunch"); e != cudaSuccess) return e;
  ++gpu().counts.graph_launches;
  for (const Work& work : exec->work) enqueue(stream, work);
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return gpu().lost;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  drain_all();
  delete exec;
  return gpu().lost;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  if (const cudaError_t e = check_device("cudaEventCreate"); e != cudaSuccess) return e;
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  drain_all();
  delete event;
  return gpu().lost;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (const cudaError_t e = check("cudaEventRecord"); e != cudaSuccess) return e;
  enqueue(stream, [event] { event->time = std::chrono::steady_clock::now(); });
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t) {
  if (const cudaError_t e = check("cudaEventSynchronize"); e != cudaSuccess) return e;
  drain_all();
  return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from, cudaEvent_t to) {
  *milliseconds = std::chrono::duration<float, std::milli>(to->time - from->time).count();
  return cudaSuccess;
}

cudaError_t fr_emulated_attribute(const void* function, cudaFuncAttribute attribute, int value) {
  if (const cudaError_t e = check_device("cudaFuncSetAttribute"); e != cudaSuccess) return e;
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  if (value < 0 || static_cast<std::size_t>(value) > most_shared) return note(cudaErrorInvalidValue);
  gpu().shared_limits[function] = value;
  return cudaSuccess;
}
cudaError_t fr_emulated_get_attributes(cudaFuncAttributes* attributes) {
  *attributes = {};
  if (const cudaError_t e = check_device("cudaFuncGetAttributes"); e != cudaSuccess) return e;
  return gpu().settings.kernel_images ? cudaSuccess : note(cudaErrorNoKernelImageForDevice);
}

cudaError_t fr_emulated_launch(const cudaLaunchConfig_t& c, const void* function, Work body) {
  Gpu& g = gpu();
  if (const cudaError_t e = check_device("launch"); e != cudaSuccess) return e;
  if (!g.settings.kernel_images) return note(cudaErrorNoKernelImageForDevice);
  const std::uint64_t threads = std::uint64_t{c.blockDim.x} * c.blockDim.y * c.blockDim.z;
  const bool fits = threads >= 1 && threads <= 1024 && c.blockDim.z <= 64 && c.gridDim.x >= 1 &&
                    c.gridDim.y >= 1 && c.gridDim.z >= 1 && c.gridDim.x <= 0x7fffffff &&
                    c.gridDim.y <= 65535 && c.gridDim.z <= 65535;
  if (!fits) return note(cudaErrorInvalidConfiguration);
  const auto limit = g.shared_limits.find(function);
  if (c.dynamicSmemBytes >
      (limit == g.shared_limits.end() ? usual_shared : static_cast<std::size_t>(limit->second)))
    return note(cudaErrorInvalidValue);
  enqueue(c.stream, [grid = c.gridDim, block = c.blockDim, shared = c.dynamicSmemBytes,
                     body = std::move(body)] { run_grid(grid, block, shared, body); });
  ++g.counts.launches;
  return cudaSuccess;
}
