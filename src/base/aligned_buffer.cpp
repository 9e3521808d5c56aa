#include "base/aligned_buffer.h"

#include <sys/mman.h>

#include <cstdlib>

namespace fr {
namespace {

constexpr std::size_t huge_page = std::size_t{2} << 20;
constexpr std::size_t most = std::size_t{1} << 39;  // more is a mistake

std::string megabytes(std::size_t bytes) { return std::to_string((bytes + (1u << 20) - 1) >> 20) + " MB"; }

}  // namespace

AlignedBuffer::~AlignedBuffer() { std::free(data_); }

Result<AlignedBuffer> AlignedBuffer::allocate(std::size_t bytes, const std::string& what) {
  AlignedBuffer buffer;
  if (bytes == 0) return buffer;
  const std::size_t unit = bytes >= 2 * huge_page ? huge_page : alignment;
  void* data = nullptr;
  if (bytes > most || ::posix_memalign(&data, unit, (bytes + unit - 1) / unit * unit) != 0) {
    return runtime_error("not enough memory for " + megabytes(bytes) + " (" + what +
                         "): free memory or ask for less");
  }
#ifdef MADV_HUGEPAGE
  if (unit == huge_page) ::madvise(data, bytes, MADV_HUGEPAGE);
#endif
  buffer.data_ = static_cast<std::byte*>(data);
  buffer.size_ = bytes;
  return buffer;
}

}  // namespace fr
