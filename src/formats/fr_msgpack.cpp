#include "formats/fr_msgpack.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "base/msgpack.h"
#include "formats/reader.h"

namespace fr {
namespace {

using Kind = MsgpackCursor::Kind;

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

struct TypeName {
  std::string_view name;
  DType dtype;
};
constexpr TypeName type_names[] = {
    {"torch.float16", DType::f16}, {"torch.float32", DType::f32},   {"torch.uint8", DType::u8},
    {"torch.int8", DType::i8},     {"torch.bfloat16", DType::bf16}, {"torch.float64", DType::f64},
};

constexpr std::string_view sizes[] = {"n_layer", "n_embd", "n_att", "n_ffn", "n_head"};

class Parser {
 public:
  Parser(std::span<const std::byte> bytes, std::string_view path) : path_(path), cursor_(text_of(bytes)) {
    out_.path = path;
    out_.format = "fr";
  }

  Result<Checkpoint> run() {
    FR_OK(cursor_.next() == Kind::array ? state() : model());
    if (cursor_.remaining() > 0) {
      return fault(std::to_string(cursor_.remaining()) +
                   " bytes follow after the end of the file's contents");
    }
    FR_OK(finish_checkpoint(out_));
    FR_OK(check_sizes());
    return std::move(out_);
  }

 private:
  Error fault(const std::string& what) const { return file_fault(path_, what); }
  Error incomplete(const std::string& what) const {
    return fault("no complete " + what + " at byte " + std::to_string(cursor_.offset()) + " of the .fr file");
  }

  Status model() {
    const auto pairs = cursor_.map();
    if (!pairs) return incomplete("map");
    bool embedding_seen = false, weights_seen = false;
    for (std::uint64_t i = 0; i < *pairs; ++i) {
      const auto key = cursor_.text();
      if (!key) return incomplete("name of an entry");
      if (*key == "embd_weights") {
        FR_OK(embedding());
        embedding_seen = true;
      } else if (*key == "weights") {
        FR_OK(weights());
        weights_seen = true;
      } else {
        FR_OK(other(*key));
      }
    }
    if (embedding_seen && weights_seen) return {};
    if (tokenizer_) {
      return file_fault(path_, "this is a tokenizer vocabulary", "give the .fr or .pth file of the model");
    }
    return file_fault(path_, "the msgpack file has no embd_weights and weights",
                      "give a .fr file, as faster-rwkv's convert_weight.py wrote them");
  }

  Status other(std::string_view key) {
    if (key == "type" || key == "idx2word") tokenizer_ = true;
    if (key == "version" && (cursor_.next() == Kind::text || cursor_.next() == Kind::bytes)) {
      const auto version = cursor_.text();
      if (!version || version->size() > 16) return incomplete("version");
      out_.metadata["version"] = *version;
      return {};
    }
    if (std::find(std::begin(sizes), std::end(sizes), key) != std::end(sizes)) {
      const auto size = cursor_.integer();
      if (!size) return incomplete(std::string(key));
      out_.metadata[std::string(key)] = std::to_string(*size);
      return {};
    }
    return cursor_.skip() ? Status{} : Status{incomplete("value of " + printable(key))};
  }

  Status weights() {
    const auto pairs = cursor_.map();
    if (!pairs) return incomplete("map of weights");
    if (*pairs > max_tensors) return fault("it claims " + std::to_string(*pairs) + " tensors");
    for (std::uint64_t i = 0; i < *pairs; ++i) {
      const auto name = cursor_.text();
      if (!name || name->size() > max_name_length) return incomplete("name of a tensor");
      FR_TRY(TensorView t, tensor(*name));
      out_.tensors.push_back(std::move(t));
    }
    return {};
  }

  // {"dtype": "torch.float16", "data": bytes, "shape": [..]} in any order.
  Result<TensorView> tensor(std::string_view name) {
    const auto pairs = cursor_.map();
    std::optional<std::string_view> dtype, data;
    TensorView t;
    bool has_shape = false;
    for (std::uint64_t i = 0; pairs && i < *pairs; ++i) {
      const auto key = cursor_.text();
      if (!key) return incomplete("tensor " + printable(name));
      if (*key == "dtype") {
        dtype = cursor_.text();
      } else if (*key == "data") {
        data = cursor_.text();
      } else if (*key == "shape") {
        has_shape = shape(t);
      } else if (!cursor_.skip()) {
        return incomplete("tensor " + printable(name));
      }
    }
    if (!dtype || !data || !has_shape) return incomplete("tensor " + printable(name));
    const auto* type = std::find_if(std::begin(type_names), std::end(type_names),
                                    [&](const TypeName& n) { return n.name == *dtype; });
    if (type == std::end(type_names)) {
      return file_fault(path_, "tensor " + printable(name) + " has the number format " + printable(*dtype),
                        "give a .fr file of fp16 or fp32 numbers");
    }
    t.name = name;
    t.dtype = type->dtype;
    t.data = reinterpret_cast<const std::byte*>(data->data());
    const auto count = element_count(t.shape);
    const auto bytes =
        count ? checked_mul(*count, static_cast<std::int64_t>(dtype_size(t.dtype))) : std::nullopt;
    if (!bytes || static_cast<std::uint64_t>(*bytes) != data->size()) {
      return fault("tensor " + printable(name) + " of shape " + t.shape_string() + " has " +
                   std::to_string(data->size()) + " bytes");
    }
    t.stride = dense_strides(t.shape);
    return t;
  }

  bool shape(TensorView& t) {
    const auto rank = cursor_.array();
    if (!rank || *rank > max_rank) return false;
    t.shape.clear();
    for (std::uint64_t d = 0; d < *rank; ++d) {
      const auto size = cursor_.integer();
      if (!size || *size < 0) return false;
      t.shape.push_back(*size);
    }
    return true;
  }

  // Rows of one encoding are equally far apart: one view.
  Status embedding() {
    const auto rows = cursor_.array();
    if (!rows || *rows == 0) return incomplete("list of the rows of the embedding");
    TensorView table;
    std::int64_t step = 0;
    for (std::uint64_t i = 0; i < *rows; ++i) {
      FR_TRY(const TensorView row, tensor("emb.weight"));
      if (i == 0) table = row;
      if (i == 1) step = row.data - table.data;
      const bool like_first = row.shape == table.shape && row.dtype == table.dtype &&
                              row.data - table.data == static_cast<std::int64_t>(i) * step;
      if (row.shape.size() != 1 || row.size() == 0 || !like_first) {
        return fault("row " + std::to_string(i) + " of the embedding is not like the first one");
      }
    }
    const std::int64_t columns = table.shape[0];
    table.shape = {static_cast<std::int64_t>(*rows), columns};
    table.stride = dense_strides(table.shape);
    if (*rows > 1) table.row_gap = step - columns * static_cast<std::int64_t>(dtype_size(table.dtype));
    out_.tensors.push_back(std::move(table));
    return {};
  }

  // v4: 5 tensors for each layer, v5: 3.
  Status state() {
    constexpr std::array v4 = {"att.x_prev", "att.aa", "att.bb", "att.pp", "ffn.x_prev"};
    constexpr std::array v5 = {"att.x_prev", "att.kv", "ffn.x_prev"};
    const auto layers = cursor_.array();
    if (!layers || *layers * v4.size() > max_tensors) return incomplete("list of layers");
    for (std::uint64_t layer = 0; layer < *layers; ++layer) {
      const auto parts = cursor_.array();
      if (!parts || (*parts != v4.size() && *parts != v5.size())) return incomplete("state of a layer");
      for (std::uint64_t i = 0; i < *parts; ++i) {
        const char* part = *parts == v4.size() ? v4[i] : v5[i];
        FR_TRY(TensorView t, tensor("blocks." + std::to_string(layer) + "." + part));
        out_.tensors.push_back(std::move(t));
      }
    }
    return {};
  }

  // What the file says beside the shapes, and where it must agree with them.
  Status check_sizes() const {
    struct Claim {
      std::string_view size, tensor;
      std::size_t axis;
    };
    constexpr Claim claims[] = {{"n_embd", "emb.weight", 1},
                                {"n_att", "blocks.0.att.key.weight", 1},
                                {"n_ffn", "blocks.0.ffn.key.weight", 1}};
    for (const Claim& c : claims) {
      const TensorView* t = out_.find(c.tensor);
      if (t != nullptr && t->shape.size() > c.axis) FR_OK(check_size(c.size, t->shape[c.axis]));
    }
    int layers = 0;
    while (out_.find("blocks." + std::to_string(layers) + ".ln1.weight") != nullptr) ++layers;
    return check_size("n_layer", layers);
  }

  Status check_size(std::string_view size, std::int64_t found) const {
    const auto claimed = out_.metadata.find(std::string(size));
    if (claimed == out_.metadata.end() || claimed->second == std::to_string(found)) return {};
    return fault(std::string(size) + " is " + claimed->second + ", but the tensors say " +
                 std::to_string(found));
  }

  std::string_view path_;
  MsgpackCursor cursor_;
  Checkpoint out_;
  bool tokenizer_ = false;
};

}  // namespace

bool looks_like_fr(std::span<const std::byte> bytes) {
  MsgpackCursor cursor(text_of(bytes));
  if (cursor.next() == Kind::array) {  // [[{...}, ...], ...]
    return cursor.array() && cursor.array() && cursor.next() == Kind::map;
  }
  if (cursor.next() != Kind::map) return false;
  const std::size_t head = bytes[0] == std::byte{0xde} ? 3 : bytes[0] == std::byte{0xdf} ? 5 : 1;
  MsgpackCursor first(
      text_of(bytes).substr(std::min(head, bytes.size())));  // of a map of words, even a cut one
  const auto key = first.next() == Kind::text ? first.text() : std::nullopt;
  return key && !key->empty() && key->find_first_not_of("abcdefghijklmnopqrstuvwxyz_0123456789") == key->npos;
}

Result<Checkpoint> parse_fr(std::span<const std::byte> bytes, std::string_view path) {
  return Parser(bytes, path).run();
}

}  // namespace fr
