// ChatRWKV's convert_model .pth, and .fr, which holds the same tensors. Source: RWKV.__init__ in
// rwkv_pip_package/src/rwkv/model.py of BlinkDL/ChatRWKV. What it does to the official file: ln0 into the
// embedding; time_decay -> -exp (v4) or exp(-exp) (v5), [H, N, 1]; time_first -> exp (v5), time_faaaa renamed
// time_first; matrices transposed; i8: X with X_mx, X_rx by column, X_my, X_ry by row; att.output and
// ffn.value of layer i divided by 2^(i / _rescale_layer) in every layer, whatever number format the layer
// has.
#include <algorithm>
#include <charconv>

#include "formats/layout.h"
#include "formats/reader.h"

namespace fr {
namespace {

// Substrings, as ChatRWKV tests them.
constexpr std::string_view transposed_names[] = {".key.weight",  ".value.weight",  ".receptance.weight",
                                                 ".gate.weight", ".output.weight", "head.weight"};
constexpr std::string_view scale_names[] = {"_my", "_mx", "_ry",
                                            "_rx"};  // least, range; each by row, by column

bool any_name(const Checkpoint& file, std::string_view part) {
  return std::any_of(file.tensors.begin(), file.tensors.end(),
                     [&](const TensorView& t) { return t.name.find(part) != t.name.npos; });
}

bool is_chatrwkv(const Checkpoint& file) {
  return file.find("emb.weight") != nullptr && (file.metadata.contains("_strategy") || file.format == "fr");
}

Error wrong(const Checkpoint& file, const TensorView& t, std::string_view what) {
  return file_fault(
      file.path, "tensor " + printable(t.name) + " has shape " + t.shape_string() + ", " + std::string(what));
}

// A .fr file does not say it: faster-rwkv halves x whenever its activations, so the matrices too, are fp16.
int rescale_of_fr(const Checkpoint& file) {
  const bool fp16 = std::any_of(file.tensors.begin(), file.tensors.end(), [](const TensorView& t) {
    const bool matrix = t.shape.size() == 2 && t.name.ends_with(".weight") && t.name != "emb.weight";
    return t.dtype == DType::f16 && (matrix || t.name.ends_with(".weight_rx"));
  });
  return fp16 ? 6 : 0;
}

Status set_rescale(Checkpoint& file) {
  if (file.format == "fr") {
    file.rescale_every = rescale_of_fr(file);
    return {};
  }
  const auto found = file.metadata.find("_rescale_layer");
  if (found == file.metadata.end()) {  // ChatRWKV's own rule, before it wrote the number down
    file.rescale_every = file.metadata["_strategy"].find("fp16") != std::string::npos ? 6 : 0;
    return {};
  }
  const std::string& text = found->second;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), file.rescale_every);
  if (error == std::errc{} && end == text.data() + text.size() && file.rescale_every >= 0) return {};
  return file_fault(file.path, "_rescale_layer is " + printable(text) + ", not a number of layers");
}

// Moves X_mx, X_rx, X_my, X_ry into X.
Status fold_scales(Checkpoint& file) {
  std::vector<std::string> folded;
  for (TensorView& t : file.tensors) {
    if (t.dtype != DType::u8) continue;
    if (t.shape.size() != 2 || t.shares_elements()) return wrong(file, t, "expected a matrix of bytes");
    auto scales = std::make_shared<ByteScales>();
    std::vector<float>* const parts[] = {&scales->least[0], &scales->least[1], &scales->range[0],
                                         &scales->range[1]};
    for (std::size_t i = 0; i < std::size(scale_names); ++i) {
      const std::string name = t.name + std::string(scale_names[i]);
      const TensorView* part = file.find(name);
      if (part == nullptr) return file_fault(file.path, "tensor " + printable(name) + " is missing");
      if (part->size() != t.shape[i % 2] || !is_float_dtype(part->dtype) || part->shares_elements()) {
        return wrong(file, *part, "which does not fit the matrix of shape " + t.shape_string());
      }
      parts[i]->resize(static_cast<std::size_t>(part->size()));
      part->read(0, *parts[i]);
      folded.push_back(name);
    }
    t.scales = std::move(scales);
  }
  std::sort(folded.begin(), folded.end());
  std::erase_if(file.tensors, [&](const TensorView& t) {
    return std::binary_search(folded.begin(), folded.end(), t.name);
  });
  return {};
}

Status to_official(Checkpoint& file) {
  FR_OK(set_rescale(file));
  FR_OK(fold_scales(file));
  const bool heads = any_name(file, ".att.ln_x."), raw_decay = any_name(file, ".att.time_maa_");
  for (TensorView& t : file.tensors) {
    const auto is = [&](std::string_view ending) { return t.name.ends_with(ending); };
    if (t.name == "emb.weight") t.processed = true;
    if (std::any_of(std::begin(transposed_names), std::end(transposed_names), is)) {
      if (t.shape.size() != 2) return wrong(file, t, "expected a matrix");
      t = t.transposed();
    }
    if (!is(".att.time_decay") && !is(".att.time_first")) continue;
    if (t.scales) return wrong(file, t, "but is stored as bytes");
    while (t.shape.size() > 1 && t.shape.back() == 1) {  // [H, N, 1], [H, 1, 1]
      t.shape.pop_back();
      t.stride.pop_back();
    }
    if (is("decay") && raw_decay) {  // v6: [1, 1, D]
      if (!t.contiguous()) return wrong(file, t, "and is not stored in rows");
      t = t.reshaped({1, 1, t.size()});
    } else if (is("decay")) {
      t.processed = true;
    } else if (heads) {
      t.name.replace(t.name.size() - 5, 5, "faaaa");
    }
  }
  return {};
}

}  // namespace

constinit const Layout layout_chatrwkv{"ChatRWKV", is_chatrwkv, to_official};

}  // namespace fr
