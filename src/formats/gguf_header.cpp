#include "formats/gguf_header.h"

#include <algorithm>

#include "base/result.h"

namespace fr::gguf {

void Header::begin(std::string_view key, Value type) {
  ++entries_;
  text(key);
  put(static_cast<std::uint32_t>(type));
}

void Header::begin_array(std::string_view key, Value type, std::uint64_t count) {
  begin(key, Value::array);
  put(static_cast<std::uint32_t>(type));
  put(count);
}

void Header::text(std::string_view text) {
  put(std::uint64_t{text.size()});
  metadata_.append(text);
}

void Header::add(std::string_view key, std::span<const std::string> values) {
  begin_array(key, Value::string, values.size());
  for (const std::string& value : values) text(value);
}

void Header::add(std::string_view key, std::span<const std::int32_t> values) {
  begin_array(key, Value::i32, values.size());
  for (const std::int32_t value : values) put(value);
}

void Header::add_tensor(std::string_view name, std::span<const std::int64_t> shape, DType dtype,
                        std::uint64_t offset) {
  const auto* type = std::find_if(std::begin(tensor_types), std::end(tensor_types),
                                  [&](const TensorType& t) { return t.dtype == dtype; });
  FR_CHECK(type != std::end(tensor_types) && shape.size() <= most_dims);
  ++tensor_count_;
  put(tensors_, std::uint64_t{name.size()});
  tensors_.append(name);
  put(tensors_, static_cast<std::uint32_t>(shape.size()));
  for (std::size_t d = shape.size(); d-- > 0;) put(tensors_, shape[d]);
  put(tensors_, type->number);
  put(tensors_, offset);
}

std::string Header::bytes() const {
  std::string out(magic);
  put(out, version);
  put(out, tensor_count_);
  put(out, entries_);
  out += metadata_;
  out += tensors_;
  out.append(padding(out.size()), '\0');
  return out;
}

}  // namespace fr::gguf
