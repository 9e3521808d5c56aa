// What the pickle of a PyTorch checkpoint means: tensors over storages, and plain values beside them. Both
// forms of .pth share this; they differ in where the storages are.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string_view>

#include "base/checkpoint.h"
#include "base/result.h"
#include "formats/pickle.h"

namespace fr {

inline constexpr std::string_view not_weights =
    "give a checkpoint that holds a dict of tensors, as official RWKV files do";

// The globals that PyTorch uses for tensors, parameters, storages and dtypes, and OrderedDict.
Pickle::Globals torch_globals();

struct StorageId {
  std::string_view key;
  std::optional<DType> dtype;  // none: untyped, counted in bytes
  std::int64_t count = 0;      // elements
  std::int64_t view_begin = 0, view_count = 0;

  std::size_t element_size() const { return dtype ? dtype_size(*dtype) : 1; }
};

// Reads a persistent id; nothing when it is no storage, or not described as PyTorch does.
std::optional<StorageId> storage_id(const Pickle& pickle, const PickleValue& value);

using Storages = std::map<std::string_view, std::span<const std::byte>>;  // by key

// Interprets the root of `pickle`; see parse_pth. Every element of every tensor lies inside its storage.
Result<Checkpoint> checkpoint_of(const Pickle& pickle, const Storages& storages, std::size_t file_size,
                                 std::string_view path);

}  // namespace fr
