// A driver library with two GPUs, loaded by doctor_test as libcuda.so.1 would be. FR_FAKE_CUDA_ERROR: cuInit
// returns it.
#include <cstddef>
#include <cstdio>
#include <cstdlib>

#define FAKE extern "C" __attribute__((visibility("default"))) int

FAKE cuInit(unsigned) {
  const char* error = std::getenv("FR_FAKE_CUDA_ERROR");
  return error == nullptr ? 0 : std::atoi(error);
}
FAKE cuDriverGetVersion(int* version) {
  *version = 12040;
  return 0;
}
FAKE cuDeviceGetCount(int* count) {
  *count = 2;
  return 0;
}
FAKE cuDeviceGet(int* device, int ordinal) {
  *device = 100 + ordinal;
  return 0;
}
FAKE cuDeviceGetName(char* name, int length, int device) {
  std::snprintf(name, static_cast<std::size_t>(length), "GPU %d", device);
  return 0;
}
FAKE cuDeviceTotalMem_v2(std::size_t* bytes, int) {
  *bytes = std::size_t{8} << 30;
  return 0;
}
