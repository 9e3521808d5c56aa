// What the writers of model files share: one tensor's numbers into a file, in any number format, in pieces,
// so that converting needs memory for a piece and not for a tensor.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/atomic_file.h"
#include "base/checkpoint.h"
#include "base/log.h"
#include "base/result.h"

namespace fr {

// A tensor on its way into a file: the numbers of `view`, to be stored as `dtype`.
struct StoredTensor {
  TensorView view;
  DType dtype;
};

// What a writer wrote, or would have.
struct WriteReport {
  std::map<std::string, std::size_t> dtypes;  // number format -> tensors of the file
  std::uint64_t bytes = 0;                    // of their numbers
  std::vector<std::string> notes;             // what is not as asked, or worth knowing

  void add(DType dtype, std::uint64_t size) {
    ++dtypes[std::string(dtype_name(dtype))];
    bytes += size;
  }
};

// Bytes of `view`'s numbers stored as `dtype`.
std::uint64_t stored_bytes(const TensorView& view, DType dtype);

// Appends the numbers of `view` in row-major order as `dtype`: bit by bit where it has them so already, else
// converted (fp32, fp16, bf16; block formats of can_quantise, whose rows must be whole blocks). Pages of
// `source` that were read are given back. Error: a number that the format cannot hold (infinite in fp16, not
// finite in blocks), with the tensor's name.
Status write_tensor(AtomicFile& out, const TensorView& view, DType dtype, const Checkpoint& source);

// Tells `progress` (which may be empty) how many of the bytes are written. Error: it said stop.
Status report_writing(const Progress& progress, std::string_view path, std::uint64_t done,
                      std::uint64_t total);

}  // namespace fr
