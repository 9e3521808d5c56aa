#include "formats/rwkv_bin.h"

#include <algorithm>
#include <array>

#include "formats/reader.h"

namespace fr {
namespace {

constexpr std::uint32_t magic = 0x67676d66;
constexpr std::string_view cut_short = "the download or copy was cut short, fetch the file again";

// Numbers of formats in the file. Those without a dtype are not read.
struct Format {
  std::string_view name;
  std::optional<DType> dtype;
};
constexpr std::array<Format, 17> formats{{{"FP32", DType::f32},
                                          {"FP16", DType::f16},
                                          {"Q4_0", DType::q4_0},
                                          {"Q4_1", DType::q4_1},
                                          {"Q4_1_O", {}},
                                          {"Q4_2", {}},
                                          {"Q4_3", {}},
                                          {"Q5_0", DType::q5_0},
                                          {"Q5_1", DType::q5_1},
                                          {"Q8_0", DType::q8_0},
                                          {"Q8_1", {}},
                                          {"Q2_K", DType::q2_k},
                                          {"Q3_K", DType::q3_k},
                                          {"Q4_K", DType::q4_k},
                                          {"Q5_K", DType::q5_k},
                                          {"Q6_K", DType::q6_k},
                                          {"Q8_K", {}}}};

struct Header {
  std::uint32_t magic, version, n_vocab, n_embd, n_layer, format;
};

class Parser {
 public:
  Parser(std::span<const std::byte> bytes, std::string_view path) : bytes_(bytes), path_(path) {}

  Result<Checkpoint> parse() {
    FR_OK(read_header());
    Checkpoint checkpoint;
    checkpoint.path = path_;
    checkpoint.format = "rwkv.cpp";
    checkpoint.metadata["file_version"] = std::to_string(header_.version);
    checkpoint.metadata["data_type"] = formats[header_.format].name;
    while (at_ < bytes_.size()) {
      if (checkpoint.tensors.size() == max_tensors) {
        return file_fault(path_, "the file has more than " + std::to_string(max_tensors) + " tensors");
      }
      FR_TRY(TensorView t, read_tensor());
      checkpoint.tensors.push_back(std::move(t));
    }
    FR_OK(finish_checkpoint(checkpoint));
    FR_OK(check_sizes(checkpoint));
    return checkpoint;
  }

 private:
  Status read_header() {
    if (bytes_.size() < sizeof header_)
      return file_fault(path_, "the file is too short for an rwkv.cpp header", cut_short);
    header_ = load_le<Header>(bytes_.data());
    at_ = sizeof header_;
    if (header_.magic != magic) return file_fault(path_, "the file does not begin as rwkv.cpp files do");
    if (header_.version < 100 || header_.version > 101) {
      return file_fault(path_, "this is an rwkv.cpp file of version " + std::to_string(header_.version),
                        "this program reads versions 100 and 101; convert the original .pth again");
    }
    FR_TRY([[maybe_unused]] const DType known, dtype_of(header_.format, "the file"));
    return {};
  }

  Result<DType> dtype_of(std::uint32_t format, const std::string& what) const {
    if (format >= formats.size()) {
      return file_fault(path_, what + " has the unknown number format " + std::to_string(format));
    }
    const auto [name, dtype] = formats[format];
    if (!dtype) {
      return file_fault(path_,
                        what + " has the number format " + std::string(name) + ", which rwkv.cpp gave up",
                        "convert and quantise the original .pth again");
    }
    if (is_block_dtype(*dtype) && header_.version == 100) {
      return file_fault(path_,
                        what + " is quantised (" + std::string(name) +
                            ") by an rwkv.cpp of before 2023-05-27, in blocks of another form",
                        "convert and quantise the original .pth again");
    }
    return *dtype;
  }

  // The next `count` numbers of a tensor's header.
  Result<std::array<std::uint32_t, 3>> read_numbers(std::size_t count) {
    std::array<std::uint32_t, 3> numbers{};
    if (bytes_.size() - at_ < count * sizeof(std::uint32_t)) {
      return file_fault(path_, "the file ends inside the header of a tensor", cut_short);
    }
    for (std::size_t i = 0; i < count; ++i, at_ += sizeof(std::uint32_t)) {
      numbers[i] = load_le<std::uint32_t>(bytes_.data() + at_);
    }
    return numbers;
  }

  Result<TensorView> read_tensor() {
    FR_TRY(const auto head, read_numbers(3));
    const auto [rank, name_length, format] = head;
    if (rank < 1 || rank > 3 || name_length < 1 || name_length > max_name_length) {
      return file_fault(path_, "at byte " + std::to_string(at_) + " there is no header of a tensor");
    }
    FR_TRY(const auto sizes, read_numbers(rank));
    if (bytes_.size() - at_ < name_length)
      return file_fault(path_, "the file ends inside a tensor's name", cut_short);
    TensorView t;
    t.name.assign(reinterpret_cast<const char*>(bytes_.data()) + at_, name_length);
    at_ += name_length;
    FR_TRY(t.dtype, dtype_of(format, "tensor " + printable(t.name)));
    t.shape.assign(sizes.begin(), sizes.begin() + rank);
    std::reverse(t.shape.begin(), t.shape.end());  // the file begins with the size that varies fastest
    FR_OK(place(t));
    return t;
  }

  Status place(TensorView& t) {
    const std::string what = "tensor " + printable(t.name);
    const auto count = element_count(t.shape);
    if (!count || *count == 0 || t.shape.back() % block_size(t.dtype) != 0) {
      return file_fault(path_, what + " has the impossible shape " + t.shape_string() + " in " +
                                   std::string(dtype_name(t.dtype)));
    }
    const auto size =
        checked_mul(*count / block_size(t.dtype), static_cast<std::int64_t>(dtype_size(t.dtype)));
    if (!size || static_cast<std::uint64_t>(*size) > bytes_.size() - at_) {
      return file_fault(path_, what + " has its data outside the file", cut_short);
    }
    t.data = bytes_.data() + at_;
    t.stride = dense_strides(t.shape);
    at_ += static_cast<std::size_t>(*size);
    return {};
  }

  Status check_sizes(const Checkpoint& checkpoint) const {
    const TensorView* emb = checkpoint.find("emb.weight");
    const std::vector<std::int64_t> expected{header_.n_vocab, header_.n_embd};
    if (emb == nullptr || emb->shape == expected) return {};
    return file_fault(path_, "tensor \"emb.weight\" has shape " + emb->shape_string() +
                                 ", the header says [" + std::to_string(header_.n_vocab) + ", " +
                                 std::to_string(header_.n_embd) + "]");
  }

  std::span<const std::byte> bytes_;
  std::string path_;
  Header header_{};
  std::size_t at_ = 0;
};

}  // namespace

bool looks_like_rwkv_bin(std::span<const std::byte> bytes) {
  return bytes.size() >= sizeof magic && load_le<std::uint32_t>(bytes.data()) == magic;
}

Result<Checkpoint> parse_rwkv_bin(std::span<const std::byte> bytes, std::string_view path) {
  return Parser(bytes, path).parse();
}

}  // namespace fr
