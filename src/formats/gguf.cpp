#include "formats/gguf.h"

#include <algorithm>
#include <cstdio>
#include <limits>
#include <numeric>
#include <set>

#include "formats/gguf_names.h"
#include "formats/gguf_types.h"
#include "formats/reader.h"

namespace fr {
namespace {

using gguf::Value;

constexpr std::uint64_t most_keys = 65536;
constexpr std::uint64_t longest_key = 65535;  // of the specification
constexpr std::uint64_t most_tokens = std::uint64_t{1} << 21;
constexpr std::uint64_t most_alignment = std::uint64_t{1} << 20;
constexpr int deepest_array = 8;

// Takes values off the front of a file. Every length is compared with what is left before it is used.
class Cursor {
 public:
  Cursor(std::span<const std::byte> bytes, std::string_view path) : bytes_(bytes), path_(path) {}

  std::uint64_t left() const { return bytes_.size() - at_; }
  std::uint64_t at() const { return at_; }
  Error cut_short() const {
    return file_fault(path_, "the file ends inside its GGUF header, at byte " + std::to_string(at_),
                      "the download or copy was cut short, fetch the file again");
  }

  template <class T>
  Result<T> number() {
    if (left() < sizeof(T)) return cut_short();
    const T value = load_le<T>(bytes_.data() + at_);
    at_ += sizeof(T);
    return value;
  }
  Status skip(std::uint64_t size) {
    if (left() < size) return cut_short();
    at_ += size;
    return {};
  }
  Result<std::string_view> text() {
    FR_TRY(const auto length, number<std::uint64_t>());
    const auto* begin = reinterpret_cast<const char*>(bytes_.data() + at_);
    FR_OK(skip(length));
    return std::string_view(begin, length);
  }

 private:
  std::span<const std::byte> bytes_;
  std::string_view path_;
  std::uint64_t at_ = 0;
};

std::string text_of(double number, int digits) {
  char text[32];
  std::snprintf(text, sizeof text, "%.*g", digits, number);
  return text;
}

class Parser {
 public:
  Parser(std::span<const std::byte> bytes, std::string_view path)
      : bytes_(bytes), path_(path), in_(bytes, path) {}

  Result<Checkpoint> run() {
    file_.path = path_;
    file_.format = "gguf";
    FR_OK(read_version());
    FR_TRY(const auto tensors, in_.number<std::uint64_t>());
    FR_TRY(const auto keys, in_.number<std::uint64_t>());
    if (tensors > max_tensors) return fault("the header claims " + std::to_string(tensors) + " tensors");
    if (keys > most_keys) return fault("the header claims " + std::to_string(keys) + " metadata entries");
    for (std::uint64_t i = 0; i < keys; ++i) FR_OK(read_entry());
    FR_OK(check_architecture());
    FR_OK(read_alignment());
    file_.tensors.reserve(tensors);
    offsets_.reserve(tensors);
    for (std::uint64_t i = 0; i < tensors; ++i) FR_OK(read_tensor());
    FR_OK(place_tensors());
    FR_OK(finish_checkpoint(file_));
    return std::move(file_);
  }

 private:
  Error fault(const std::string& what, std::string_view what_to_do = damaged_file) const {
    return file_fault(path_, what, what_to_do);
  }

  Status read_version() {
    FR_OK(in_.skip(gguf::magic.size()));
    FR_TRY(const auto version, in_.number<std::uint32_t>());
    if (version == 2 || version == gguf::version) return {};
    constexpr std::string_view convert_again = "convert the model again with a newer llama.cpp";
    if (version != 0 && (version & 0xffff) == 0) {
      return fault("this is a big-endian GGUF file", "give the usual, little-endian one");
    }
    return fault("this is a GGUF file of version " + std::to_string(version) + ", known are 2 and 3",
                 version == 1 ? convert_again : damaged_file);
  }

  Status read_entry() {
    FR_TRY(key_, in_.text());
    if (key_.empty() || key_.size() > longest_key) return fault("a metadata key has an impossible length");
    if (!keys_.insert(key_).second) return fault("the metadata has " + printable(key_) + " twice");
    FR_TRY(const Value type, read_type());
    if (type == Value::array) return read_array(0);
    FR_TRY(std::string text, read_scalar(type));
    file_.metadata.emplace(key_, std::move(text));
    return {};
  }

  Result<Value> read_type() {
    FR_TRY(const auto type, in_.number<std::uint32_t>());
    if (type < gguf::value_types) return static_cast<Value>(type);
    return fault("metadata entry " + printable(key_) + " has the unknown type " + std::to_string(type));
  }

  template <class T>
  Result<std::string> integer() {
    FR_TRY(const T value, in_.number<T>());
    return std::to_string(value);
  }
  Result<std::string> read_scalar(Value type) {
    switch (type) {
      case Value::u8:
        return integer<std::uint8_t>();
      case Value::i8:
        return integer<std::int8_t>();
      case Value::u16:
        return integer<std::uint16_t>();
      case Value::i16:
        return integer<std::int16_t>();
      case Value::u32:
        return integer<std::uint32_t>();
      case Value::i32:
        return integer<std::int32_t>();
      case Value::u64:
        return integer<std::uint64_t>();
      case Value::i64:
        return integer<std::int64_t>();
      case Value::boolean: {
        FR_TRY(const auto value, in_.number<std::uint8_t>());
        return std::string(value != 0 ? "true" : "false");
      }
      case Value::f32: {
        FR_TRY(const auto value, in_.number<float>());
        return text_of(double{value}, std::numeric_limits<float>::max_digits10);
      }
      case Value::f64: {
        FR_TRY(const auto value, in_.number<double>());
        return text_of(value, std::numeric_limits<double>::max_digits10);
      }
      default:
        break;
    }
    FR_CHECK(type == Value::string);
    FR_TRY(const std::string_view text, in_.text());
    return std::string(text);
  }

  Status read_array(int depth) {
    if (depth == deepest_array) return fault("metadata entry " + printable(key_) + " is nested too deeply");
    FR_TRY(const Value type, read_type());
    FR_TRY(const auto count, in_.number<std::uint64_t>());
    const std::uint64_t least = type == Value::string ? 8 : type == Value::array ? 12 : value_size(type);
    if (count > in_.left() / least) return in_.cut_short();
    if (type == Value::array) {
      for (std::uint64_t i = 0; i < count; ++i) FR_OK(read_array(depth + 1));
      return {};
    }
    if (type != Value::string) return in_.skip(count * least);
    const bool tokens = depth == 0 && key_ == gguf::key_tokens;
    if (tokens && count > most_tokens)
      return fault("the vocabulary has " + std::to_string(count) + " tokens");
    if (tokens) file_.tokens.reserve(count);
    for (std::uint64_t i = 0; i < count; ++i) {
      FR_TRY(const std::string_view text, in_.text());
      if (tokens) file_.tokens.push_back(text);
    }
    return {};
  }
  static std::uint64_t value_size(Value type) { return gguf::value_sizes[static_cast<std::size_t>(type)]; }

  // Before the tensors, so that a LLaMA is called a LLaMA, whatever its number format. Further files of a
  // split model need not say what it is.
  Status check_architecture() const {
    const auto name = file_.metadata.find(gguf::key_architecture);
    constexpr const char* give_rwkv = "give an RWKV-6 or RWKV-7 model";
    if (name == file_.metadata.end()) {
      if (file_.metadata.contains("split.no")) return {};
      return fault("this GGUF file does not say what model it is", give_rwkv);
    }
    if (gguf::find_architecture(name->second) != nullptr) return {};
    return fault("this is a GGUF file of architecture " + printable(name->second) + ", not RWKV", give_rwkv);
  }

  Status read_alignment() {
    const auto entry = file_.metadata.find("general.alignment");
    if (entry == file_.metadata.end()) return {};
    const std::string& text = entry->second;
    const bool number = !text.empty() && text.size() < 8 && text.find_first_not_of("0123456789") == text.npos;
    alignment_ = number ? std::stoul(text) : 0;
    if (std::has_single_bit(alignment_) && alignment_ <= most_alignment) return {};
    return fault("general.alignment is " + printable(text) + ", not a power of two");
  }

  Status read_tensor() {
    TensorView t;
    FR_TRY(const std::string_view name, in_.text());
    if (name.size() > max_name_length) return fault("tensor name " + printable(name) + " is too long");
    t.name = name;
    FR_TRY(const auto rank, in_.number<std::uint32_t>());
    if (rank > gguf::most_dims) return fault(named(t) + " has " + std::to_string(rank) + " dimensions");
    t.shape.resize(rank);
    for (std::size_t d = rank;
         d-- > 0;) {  // the file begins with the dimension whose elements are neighbours
      FR_TRY(t.shape[d], in_.number<std::int64_t>());
      if (t.shape[d] < 0) return fault(named(t) + " has a negative size");
    }
    FR_TRY(t.dtype, read_tensor_type(t));
    FR_TRY(const auto offset, in_.number<std::uint64_t>());
    file_.tensors.push_back(std::move(t));
    offsets_.push_back(offset);
    return {};
  }

  Result<DType> read_tensor_type(const TensorView& t) {
    FR_TRY(const auto number, in_.number<std::uint32_t>());
    const auto* type = std::find_if(std::begin(gguf::tensor_types), std::end(gguf::tensor_types),
                                    [&](const gguf::TensorType& known) { return known.number == number; });
    if (type == std::end(gguf::tensor_types)) {
      return fault(named(t) + " has the unknown number format " + std::to_string(number));
    }
    if (type->dtype) return *type->dtype;
    return fault(named(t) + " is stored as " + std::string(type->name) + ", which is not supported",
                 "give a file of F16, BF16, Q8_0, Q6_K, Q5_K_M, Q4_K_M or the like");
  }

  // Every tensor lies inside the data, aligned, and on no other.
  Status place_tensors() {
    const std::uint64_t begin = (in_.at() + alignment_ - 1) / alignment_ * alignment_;
    const std::uint64_t size = begin < bytes_.size() ? bytes_.size() - begin : 0;
    std::vector<std::uint64_t> ends(offsets_.size());
    for (std::size_t i = 0; i < offsets_.size(); ++i) {
      TensorView& t = file_.tensors[i];
      FR_TRY(const std::uint64_t length, byte_count(t));
      if (offsets_[i] % alignment_ != 0)
        return fault(named(t) + " does not begin at a multiple of the alignment");
      if (offsets_[i] > size || length > size - offsets_[i]) {
        return fault(named(t) + " has its data outside the file",
                     "the download or copy was cut short, fetch the file again");
      }
      ends[i] = offsets_[i] + length;
      t.data = bytes_.data() + (length > 0 ? begin + offsets_[i] : 0);
      t.stride = dense_strides(t.shape);
    }
    std::vector<std::uint32_t> order(offsets_.size());
    std::iota(order.begin(), order.end(), 0u);
    std::sort(order.begin(), order.end(), [&](auto a, auto b) {
      return std::pair(offsets_[a], ends[a]) < std::pair(offsets_[b], ends[b]);
    });
    for (std::size_t i = 1; i < order.size(); ++i) {
      if (offsets_[order[i]] < ends[order[i - 1]]) {
        return fault(named(file_.tensors[order[i]]) + " overlaps the data of another");
      }
    }
    return {};
  }

  Result<std::uint64_t> byte_count(const TensorView& t) const {
    const auto count = element_count(t.shape);
    const std::int64_t block = block_size(t.dtype), row = t.shape.empty() ? 1 : t.shape.back();
    if (row % block != 0) {
      return fault(named(t) + " has rows of " + std::to_string(row) +
                   " numbers, which are no whole blocks of " + std::string(dtype_name(t.dtype)));
    }
    const auto bytes =
        count ? checked_mul(*count / block, static_cast<std::int64_t>(dtype_size(t.dtype))) : std::nullopt;
    if (!bytes) return fault(named(t) + " has the impossible shape " + t.shape_string());
    return static_cast<std::uint64_t>(*bytes);
  }

  static std::string named(const TensorView& t) { return "tensor " + printable(t.name); }

  std::span<const std::byte> bytes_;
  std::string_view path_;
  Cursor in_;
  Checkpoint file_;
  std::string_view key_;  // of the metadata entry that is read
  std::set<std::string_view> keys_;
  std::uint64_t alignment_ = gguf::default_alignment;
  std::vector<std::uint64_t> offsets_;  // by tensor
};

}  // namespace

bool looks_like_gguf(std::span<const std::byte> bytes) {
  return bytes.size() >= gguf::magic.size() &&
         std::string_view(reinterpret_cast<const char*>(bytes.data()), gguf::magic.size()) == gguf::magic;
}

Result<Checkpoint> parse_gguf(std::span<const std::byte> bytes, std::string_view path) {
  return Parser(bytes, path).run();
}

}  // namespace fr
