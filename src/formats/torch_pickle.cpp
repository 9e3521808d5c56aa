#include "formats/torch_pickle.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "formats/reader.h"

namespace fr {
namespace {

using Kind = PickleValue::Kind;

constexpr std::size_t max_metadata_entries = 1024, max_metadata_length = 4096;

// What the globals in a pickle of weights stand for.
enum class Role { ordered_dict, tensor, tensor_v2, tensor_v3, parameter, untyped_storage, storage, dtype };
struct Global {
  std::string_view name;
  Role role;
  DType dtype = DType::u8;
};
constexpr Global global_table[] = {
    {"collections OrderedDict", Role::ordered_dict},  // first: see Pickle::Globals
    {"torch._utils _rebuild_tensor", Role::tensor},
    {"torch._utils _rebuild_tensor_v2", Role::tensor_v2},
    {"torch._utils _rebuild_tensor_v3", Role::tensor_v3},
    {"torch._utils _rebuild_parameter", Role::parameter},
    {"torch._utils _rebuild_parameter_with_state", Role::parameter},
    {"torch UntypedStorage", Role::untyped_storage},
    {"torch.storage UntypedStorage", Role::untyped_storage},
    {"torch FloatStorage", Role::storage, DType::f32},
    {"torch HalfStorage", Role::storage, DType::f16},
    {"torch BFloat16Storage", Role::storage, DType::bf16},
    {"torch DoubleStorage", Role::storage, DType::f64},
    {"torch LongStorage", Role::storage, DType::i64},
    {"torch IntStorage", Role::storage, DType::i32},
    {"torch ShortStorage", Role::storage, DType::i16},
    {"torch CharStorage", Role::storage, DType::i8},
    {"torch ByteStorage", Role::storage, DType::u8},
    {"torch BoolStorage", Role::storage, DType::boolean},
    {"torch float32", Role::dtype, DType::f32},
    {"torch float16", Role::dtype, DType::f16},
    {"torch bfloat16", Role::dtype, DType::bf16},
    {"torch float64", Role::dtype, DType::f64},
    {"torch int64", Role::dtype, DType::i64},
    {"torch int32", Role::dtype, DType::i32},
    {"torch int16", Role::dtype, DType::i16},
    {"torch int8", Role::dtype, DType::i8},
    {"torch uint8", Role::dtype, DType::u8},
    {"torch bool", Role::dtype, DType::boolean},
};
constexpr auto names_of_globals = [] {
  std::array<std::string_view, std::size(global_table)> names;
  for (std::size_t i = 0; i < names.size(); ++i) names[i] = global_table[i].name;
  return names;
}();

const Global& global_of(const PickleValue& value) {
  return global_table[static_cast<std::size_t>(value.integer)];
}

}  // namespace

// The id is ("storage", type, key, location, count[, view]).
std::optional<StorageId> storage_id(const Pickle& pickle, const PickleValue& value) {
  if (!value.is(Kind::persistent) || !pickle.items(value)[0].is(Kind::tuple)) return std::nullopt;
  const auto id = pickle.items(pickle.items(value)[0]);
  if (id.size() < 5 || !id[0].is(Kind::text) || id[0].text() != "storage" || !id[1].is(Kind::global) ||
      !id[2].is(Kind::text) || !id[4].is(Kind::integer) || id[4].integer < 0) {
    return std::nullopt;
  }
  StorageId s{id[2].text(), {}, id[4].integer, 0, id[4].integer};
  const Global& type = global_of(id[1]);
  if (type.role == Role::storage) {
    s.dtype = type.dtype;
  } else if (type.role != Role::untyped_storage) {
    return std::nullopt;
  }
  if (id.size() < 6 || id[5].is(Kind::none)) return s;
  // Legacy files: a range (key of the view, begin, count) of the storage.
  if (!id[5].is(Kind::tuple) || id[5].length != 3) return std::nullopt;
  const auto view = pickle.items(id[5]);
  if (!view[1].is(Kind::integer) || !view[2].is(Kind::integer)) return std::nullopt;
  s.view_begin = view[1].integer;
  s.view_count = view[2].integer;
  if (s.view_begin < 0 || s.view_count < 0 || s.view_begin > s.count ||
      s.view_count > s.count - s.view_begin) {
    return std::nullopt;
  }
  return s;
}

namespace {

// Turns the values of a pickle into tensors and metadata.
class Builder {
 public:
  Builder(const Pickle& pickle, const Storages& storages, std::size_t file_size, std::string_view path)
      : pickle_(pickle), storages_(storages), file_size_(file_size), path_(path) {
    out_.path = path;
    out_.format = "pth";
  }

  Result<Checkpoint> run() {
    if (!pickle_.root().is(Kind::dict)) return file_fault(path_, "the checkpoint is not a dict", not_weights);
    FR_OK(add_entries(pickle_.items(pickle_.root())));
    if (out_.tensors.empty()) FR_OK(add_wrapped());
    if (ignored_ > 0) {
      out_.notes.push_back("entries ignored because they are neither tensors nor plain values: " +
                           std::to_string(ignored_));
    }
    FR_OK(finish_checkpoint(out_));
    return std::move(out_);
  }

 private:
  Status add_entries(std::span<const PickleValue> items) {
    for (std::size_t i = 0; i + 1 < items.size(); i += 2) {
      const PickleValue &key = items[i], &value = items[i + 1];
      if (!key.is(Kind::text)) {
        ++ignored_;
      } else if (is_tensor(value)) {
        if (out_.tensors.size() == max_tensors) {
          return file_fault(path_, "the checkpoint has more than " + std::to_string(max_tensors) + " tensors",
                            not_weights);
        }
        FR_TRY(TensorView tensor, read_tensor(key.text(), value));
        out_.tensors.push_back(std::move(tensor));
      } else {
        add_metadata(key.text(), value);
      }
    }
    return {};
  }

  // Training checkpoints: the weights stand in one entry, beside the step, the optimizer and the like.
  Status add_wrapped() {
    const auto items = pickle_.items(pickle_.root());
    for (const std::string_view wrapper : {"state_dict", "model", "module"}) {
      for (std::size_t i = 0; i + 1 < items.size(); i += 2) {
        if (!items[i].is(Kind::text) || items[i].text() != wrapper || !items[i + 1].is(Kind::dict)) continue;
        FR_OK(add_entries(pickle_.items(items[i + 1])));
        if (out_.tensors.empty()) continue;
        out_.notes.push_back("the weights were taken from the entry " + printable(wrapper));
        --ignored_;
        return {};
      }
    }
    return {};
  }

  void add_metadata(std::string_view key, const PickleValue& value) {
    std::string text;
    switch (value.kind) {
      case Kind::boolean:
        text = value.integer ? "true" : "false";
        break;
      case Kind::integer:
        text = std::to_string(value.integer);
        break;
      case Kind::real: {
        char buffer[32];
        text.assign(buffer, std::to_chars(buffer, buffer + sizeof buffer, value.real).ptr);
        break;
      }
      case Kind::text:
        text = value.text().substr(0, max_metadata_length);
        break;
      default:
        ++ignored_;
        return;
    }
    if (key.size() > max_name_length || out_.metadata.size() == max_metadata_entries) {
      ++ignored_;
    } else {
      out_.metadata.insert_or_assign(std::string(key), std::move(text));
    }
  }

  Error fault(std::string_view name, const std::string& what,
              std::string_view what_to_do = damaged_file) const {
    return file_fault(path_, "tensor " + printable(name) + ": " + what, what_to_do);
  }

  bool is_tensor(const PickleValue& value) const {
    if (!value.is(Kind::call)) return false;
    const Role role = global_of(pickle_.items(value)[0]).role;
    return role == Role::tensor || role == Role::tensor_v2 || role == Role::tensor_v3 ||
           role == Role::parameter;
  }

  Result<TensorView> read_tensor(std::string_view name, PickleValue value) {
    Role role = global_of(pickle_.items(value)[0]).role;
    auto arguments = pickle_.items(pickle_.items(value)[1]);
    if (role == Role::parameter) {  // (tensor, requires_grad, hooks[, state])
      if (arguments.size() < 3 || !is_tensor(arguments[0]))
        return fault(name, "its parameter holds no tensor");
      value = arguments[0];
      role = global_of(pickle_.items(value)[0]).role;
      arguments = pickle_.items(pickle_.items(value)[1]);
    }
    // (storage, offset, shape, stride[, requires_grad, hooks[, v3: dtype][, math bits]])
    const std::size_t least = role == Role::tensor ? 4 : role == Role::tensor_v2 ? 6 : 7;
    if (role == Role::parameter || arguments.size() < least)
      return fault(name, "its description is incomplete");
    if (arguments.size() > least && !arguments[least].is(Kind::none) &&
        !(arguments[least].is(Kind::dict) && pickle_.items(arguments[least]).empty())) {
      return fault(name, "it is a lazily negated or conjugated view", "save a plain copy of the tensor");
    }
    const auto storage = storage_id(pickle_, arguments[0]);
    if (!storage) return fault(name, "its storage is not described as PyTorch does");
    TensorView tensor;
    tensor.name = name.substr(0, max_name_length + 1);
    if (role == Role::tensor_v3) {
      if (!arguments[6].is(Kind::global) || global_of(arguments[6]).role != Role::dtype) {
        return fault(name, "its dtype is not described as PyTorch does");
      }
      tensor.dtype = global_of(arguments[6]).dtype;
    } else if (storage->dtype) {
      tensor.dtype = *storage->dtype;
    } else {
      return fault(name, "its storage has no dtype");
    }
    FR_OK(read_integers(name, arguments[2], tensor.shape));
    FR_OK(read_integers(name, arguments[3], tensor.stride));
    if (!arguments[1].is(Kind::integer)) return fault(name, "its storage offset is not a number");
    FR_OK(place(tensor, *storage, arguments[1].integer));
    return tensor;
  }

  Status read_integers(std::string_view name, const PickleValue& value,
                       std::vector<std::int64_t>& out) const {
    if (!value.is(Kind::tuple) || value.length > max_rank) {
      return fault(name,
                   "its shape or stride is not a list of at most " + std::to_string(max_rank) + " numbers");
    }
    for (const PickleValue& item : pickle_.items(value)) {
      if (!item.is(Kind::integer) || item.integer < 0)
        return fault(name, "its shape or stride has a negative number");
      out.push_back(item.integer);
    }
    return {};
  }

  // Finds the bytes and checks that no element lies outside the storage.
  Status place(TensorView& tensor, const StorageId& id, std::int64_t offset) const {
    const auto found = storages_.find(id.key);
    if (found == storages_.end())
      return fault(tensor.name, "its storage " + printable(id.key) + " is not in the file");
    const auto storage = found->second;
    const auto unit = static_cast<std::int64_t>(id.element_size());
    if (checked_mul(id.count, unit) != static_cast<std::int64_t>(storage.size())) {
      return fault(tensor.name, "its storage " + printable(id.key) + " should have " +
                                    std::to_string(id.count) + " elements of " + std::to_string(unit) +
                                    " bytes and has " + std::to_string(storage.size()) + " bytes");
    }
    const auto view = storage.subspan(static_cast<std::size_t>(id.view_begin * unit),
                                      static_cast<std::size_t>(id.view_count * unit));
    const auto width = static_cast<std::int64_t>(dtype_size(tensor.dtype));
    const auto room = static_cast<std::int64_t>(view.size()) / width;
    if (tensor.shape.size() != tensor.stride.size())
      return fault(tensor.name, "its shape and stride differ in rank");
    const auto count = element_count(tensor.shape);
    std::optional<std::int64_t> last = offset;
    for (std::size_t d = 0; d < tensor.shape.size() && last; ++d) {
      const auto step = checked_mul(std::max<std::int64_t>(tensor.shape[d], 1) - 1, tensor.stride[d]);
      last = step ? checked_add(*last, *step) : std::nullopt;
    }
    if (!count || !last || offset < 0 || (*count > 0 && *last >= room)) {
      return fault(tensor.name, "shape " + tensor.shape_string() + " at offset " + std::to_string(offset) +
                                    " reaches outside its storage of " + std::to_string(room) + " elements");
    }
    // Strides of 0 repeat elements: a few bytes must not stand for terabytes.
    const auto bytes = checked_mul(*count, width);
    if (!bytes || *bytes > static_cast<std::int64_t>(file_size_)) {
      return fault(tensor.name, "shape " + tensor.shape_string() + " describes more data than the file has");
    }
    tensor.data = view.data() + (*count > 0 ? offset * width : 0);
    return {};
  }

  const Pickle& pickle_;
  const Storages& storages_;
  std::size_t file_size_;
  std::string_view path_;
  Checkpoint out_;
  std::size_t ignored_ = 0;
};

}  // namespace

Pickle::Globals torch_globals() { return names_of_globals; }

Result<Checkpoint> checkpoint_of(const Pickle& pickle, const Storages& storages, std::size_t file_size,
                                 std::string_view path) {
  return Builder(pickle, storages, file_size, path).run();
}

}  // namespace fr
