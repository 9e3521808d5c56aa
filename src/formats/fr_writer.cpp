#include "formats/fr_writer.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <functional>
#include <iterator>

#include "base/atomic_file.h"
#include "base/msgpack.h"
#include "formats/reader.h"
#include "formats/writer.h"

namespace fr {
namespace {

using Floats = std::span<float>;

constexpr int rescale_every = 6;  // of faster-rwkv
constexpr std::int64_t piece_numbers = 1 << 18;
constexpr std::string_view version_names[] = {"4", "5", "5.1", "5.2"};

// A tensor of the file: numbers of `view`, then `process` on them.
struct Entry {
  TensorView view;  // in the file's shape
  DType dtype = DType::f32;
  std::function<void(Floats)> process = {};
};

int layer_of(std::string_view name) {
  constexpr std::string_view prefix = "blocks.";
  int layer = 0;
  if (name.starts_with(prefix))
    std::from_chars(name.data() + prefix.size(), name.data() + name.size(), layer);
  return layer;
}

Status append_numbers(std::string& out, std::span<const float> numbers, DType dtype,
                      const std::string& name) {
  const std::size_t begin = out.size();
  out.resize(begin + numbers.size() * dtype_size(dtype));
  if (dtype == DType::f32) {
    std::memcpy(out.data() + begin, numbers.data(), numbers.size_bytes());
    return {};
  }
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    const std::uint16_t h = float_to_half(numbers[i]);
    if (std::isfinite(numbers[i]) && (h & 0x7c00u) == 0x7c00u) {
      return usage_error("tensor " + printable(name) + " holds " + std::to_string(numbers[i]) +
                         ", which fp16 cannot hold (writing .fr): write fp32");
    }
    std::memcpy(out.data() + begin + 2 * i, &h, 2);
  }
  return {};
}

void pack_tensor_head(std::string& out, DType dtype, std::uint64_t bytes) {
  pack_map(out, 3);
  pack_text(out, "dtype");
  pack_text(out, dtype == DType::f16 ? "torch.float16" : "torch.float32");
  pack_text(out, "data");
  pack_bytes_head(out, bytes);
}
void pack_shape(std::string& out, std::span<const std::int64_t> shape) {
  pack_text(out, "shape");
  pack_array(out, shape.size());
  for (const std::int64_t d : shape) pack_integer(out, static_cast<std::uint64_t>(d));
}

class Writer {
 public:
  Writer(const std::string& path, const Checkpoint& model, const FrOptions& options)
      : path_(path), model_(model), options_(options) {}

  Result<WriteReport> run() {
    FR_OK(recognise());
    for (const TensorView& t : model_.tensors) {
      if (t.name == "emb.weight" || t.name.starts_with("blocks.0.ln0.")) continue;
      FR_TRY(Entry e, entry(t));
      if (is_matrix(t.name) && e.dtype == DType::f16) fp16_ = true;
      entries_.push_back(std::move(e));
    }
    for (Entry& e : entries_) rescale(e);
    const TensorView& emb = *find("emb.weight");
    report_.add(dtype_of(emb), stored_bytes(emb, dtype_of(emb)));
    for (const Entry& e : entries_) report_.add(e.dtype, stored_bytes(e.view, e.dtype));
    if (options_.dry_run) return std::move(report_);
    FR_TRY(AtomicFile out, AtomicFile::create(path_));
    FR_OK(write(out));
    FR_OK(out.commit());
    return std::move(report_);
  }

 private:
  Error refuse(const std::string& what, const std::string& advice) const {
    return usage_error(what + " (" + model_.path + "): " + advice);
  }
  const TensorView* find(std::string_view name) const { return model_.find(name); }
  bool any_name(std::string_view part) const {
    return std::any_of(model_.tensors.begin(), model_.tensors.end(),
                       [&](const TensorView& t) { return t.name.find(part) != t.name.npos; });
  }
  static bool is_matrix(std::string_view name) {
    for (const std::string_view end : {".key.weight", ".value.weight", ".receptance.weight", ".gate.weight",
                                       ".output.weight", "head.weight"}) {
      if (name.ends_with(end)) return true;
    }
    return false;
  }

  // Version and sizes.
  Status recognise() {
    const std::string advice = "write safetensors instead";
    if (any_name(".att.r_k")) return refuse(".fr files cannot hold RWKV-7 models", advice);
    if (any_name(".att.time_maa_")) return refuse(".fr files cannot hold RWKV-6 models", advice);
    const TensorView *emb = find("emb.weight"), *decay = find("blocks.0.att.time_decay"),
                     *key = find("blocks.0.att.key.weight"), *ffn = find("blocks.0.ffn.key.weight");
    for (const TensorView* t : {emb, key, ffn}) {
      if (t == nullptr || t->shape.size() != 2 || decay == nullptr || decay->shape.empty()) {
        return refuse("this is no RWKV-4 or RWKV-5 model", "give one");
      }
    }
    if (!emb->processed && (find("blocks.0.ln0.weight") == nullptr || find("blocks.0.ln0.bias") == nullptr)) {
      return refuse(".fr files cannot hold a model without ln0", advice);
    }
    const bool per_channel = decay->size() != decay->shape[0];
    version_ = !any_name(".att.ln_x.") ? 0 : !any_name(".att.gate.") ? 1 : per_channel ? 3 : 2;
    n_head_ = decay->shape[0];
    n_embd_ = emb->shape[1];
    n_att_ = key->shape[0];
    n_ffn_ = ffn->shape[0];
    for (const TensorView& t : model_.tensors) {
      n_layer_ = std::max(n_layer_, std::int64_t{layer_of(t.name)} + 1);
      if (!t.readable() || t.shares_elements()) {
        return refuse("tensor " + printable(t.name) + " has no weights that .fr could hold",
                      "give the original model");
      }
    }
    return {};
  }

  // What a converted model has already is kept.
  DType dtype_of(const TensorView& t) const {
    if (options_.dtype) return *options_.dtype;
    if (!find("emb.weight")->processed) return DType::f16;
    if (t.dtype == DType::f16 || t.dtype == DType::f32) return t.dtype;
    const TensorView* norm = find("ln_out.weight");
    return norm != nullptr && norm->dtype == DType::f32 ? DType::f32 : DType::f16;
  }

  Result<Entry> entry(const TensorView& t) {
    const auto is = [&](std::string_view end) { return t.name.ends_with(end); };
    Entry e{t, dtype_of(t)};
    if (is_matrix(t.name)) {
      if (t.shape.size() != 2)
        return refuse("tensor " + printable(t.name) + " is no matrix", "give the original model");
      e.view = t.transposed();
    } else if (t.name.find(".time_") != t.name.npos) {
      if (!t.contiguous() || t.scales)
        return refuse("tensor " + printable(t.name) + " is not stored in rows", "give the original model");
      std::vector<std::int64_t> shape;
      std::copy_if(t.shape.begin(), t.shape.end(), std::back_inserter(shape),
                   [](std::int64_t d) { return d != 1; });
      e.view = t.reshaped(shape.empty() ? std::vector<std::int64_t>{1} : shape);
    }
    const bool bonus = is(".att.time_first") || is(".att.time_faaaa");
    if (bonus || is(".att.time_decay")) {
      e.dtype = DType::f32;
      if (bonus) e.view.name.replace(t.name.rfind('.'), t.name.npos, ".time_first");
      FR_OK(process_heads(e, t, bonus));
    }
    if (t.name.find(".att.ln_x.") != t.name.npos) e.dtype = DType::f32;
    if (is(".time_state") || (is(".bias") && t.name.find(".ln") == t.name.npos && t.name != "ln_out.bias")) {
      report_.notes.push_back("faster-rwkv does not read tensor " + printable(t.name));
    }
    return e;
  }

  // time_decay and time_first: [D] in v4; [H, 1, 1] in v5.0 and v5.1, [H, N, 1] in v5.2.
  Status process_heads(Entry& e, const TensorView& t, bool bonus) const {
    if (version_ > 0) {
      if (n_head_ == 0 || t.size() % n_head_ != 0) {
        return refuse(
            "tensor " + printable(t.name) + " has shape " + t.shape_string() + ", not one row for each head",
            "give the original model");
      }
      e.view = e.view.reshaped({n_head_, t.size() / n_head_, 1});
    }
    // One number for each channel is never a logarithm, whatever its name.
    const bool raw = version_ == 0 || t.name.ends_with("faaaa") || t.size() > n_head_;
    if (t.processed || (bonus && raw)) return {};
    const bool v4 = version_ == 0;
    e.process = [v4, bonus](Floats numbers) {
      for (float& x : numbers) x = bonus ? std::exp(x) : v4 ? -std::exp(x) : std::exp(-std::exp(x));
    };
    return {};
  }

  void rescale(Entry& e) {
    if (!e.view.name.ends_with(".att.output.weight") && !e.view.name.ends_with(".ffn.value.weight")) return;
    const int layer = layer_of(e.view.name);
    const int had = model_.rescale_every > 0 ? layer / model_.rescale_every : 0;
    const int wanted = fp16_ ? layer / rescale_every : 0;
    if (had == wanted) return;
    const float factor = std::ldexp(1.0f, had - wanted);
    e.process = [factor](Floats numbers) {
      for (float& x : numbers) x *= factor;
    };
  }

  Status write(AtomicFile& out) {
    for (const TensorView& t : model_.tensors) bytes_total_ += t.bytes().size();
    std::string head;
    pack_map(head, version_ > 0 ? 8 : 7);
    pack_text(head, "embd_weights");
    FR_OK(out.write(std::as_bytes(std::span(head))));
    FR_OK(write_embedding(out));
    head.clear();
    pack_text(head, "weights");
    pack_map(head, entries_.size());
    FR_OK(out.write(std::as_bytes(std::span(head))));
    for (const Entry& e : entries_) FR_OK(write_entry(out, e));
    head.clear();
    const auto size = [&](std::string_view name, std::int64_t value) {
      pack_text(head, name);
      pack_integer(head, static_cast<std::uint64_t>(value));
    };
    if (version_ > 0) size("n_head", n_head_);
    pack_text(head, "version");
    pack_text(head, version_names[version_]);
    size("n_layer", n_layer_);
    size("n_embd", n_embd_);
    size("n_att", n_att_);
    size("n_ffn", n_ffn_);
    return out.write(std::as_bytes(std::span(head)));
  }

  // Row by row, each a tensor; ln0 is in them.
  Status write_embedding(AtomicFile& out) {
    const TensorView& emb = *find("emb.weight");
    const DType dtype = dtype_of(emb);
    std::vector<float> row(static_cast<std::size_t>(n_embd_)), weight(row.size()), bias(row.size());
    if (!emb.processed) {
      for (const auto& [name, values] :
           {std::pair("blocks.0.ln0.weight", &weight), {"blocks.0.ln0.bias", &bias}}) {
        if (find(name)->size() != n_embd_)
          return refuse("tensor " + std::string(name) + " does not fit", "give the original model");
        find(name)->read(0, *values);
      }
    }
    std::string piece;
    pack_array(piece, static_cast<std::uint64_t>(emb.shape[0]));
    for (std::int64_t i = 0; i < emb.shape[0]; ++i) {
      emb.read(i * n_embd_, row);
      if (!emb.processed) normalise(row, weight, bias);
      pack_tensor_head(piece, dtype, row.size() * dtype_size(dtype));
      FR_OK(append_numbers(piece, row, dtype, emb.name));
      pack_shape(piece, std::span(&n_embd_, 1));
      if (piece.size() < (std::size_t{1} << 20) && i + 1 < emb.shape[0]) continue;
      FR_OK(out.write(std::as_bytes(std::span(piece))));
      piece.clear();
    }
    return advance(emb);
  }

  // LayerNorm with epsilon 1e-5.
  static void normalise(Floats row, std::span<const float> weight, std::span<const float> bias) {
    double sum = 0, squares = 0;
    for (const float x : row) sum += x;
    const double mean = sum / static_cast<double>(row.size());
    for (const float x : row) squares += (x - mean) * (x - mean);
    const double scale = 1 / std::sqrt(squares / static_cast<double>(row.size()) + 1e-5);
    for (std::size_t i = 0; i < row.size(); ++i) {
      row[i] = static_cast<float>((row[i] - mean) * scale * weight[i] + bias[i]);
    }
  }

  Status write_entry(AtomicFile& out, const Entry& e) {
    const std::int64_t n = e.view.size();
    const std::uint64_t bytes = stored_bytes(e.view, e.dtype);
    if (bytes > 0xffffffffu) {
      return refuse("tensor " + printable(e.view.name) + " is larger than the 4 GiB that msgpack allows",
                    "write fp16 or safetensors");
    }
    std::string piece;
    pack_text(piece, e.view.name);
    pack_tensor_head(piece, e.dtype, bytes);
    std::vector<float> numbers;
    for (std::int64_t at = 0; at < n; at += piece_numbers) {
      numbers.resize(static_cast<std::size_t>(std::min(piece_numbers, n - at)));
      e.view.read(at, numbers);
      if (e.process) e.process(numbers);
      FR_OK(append_numbers(piece, numbers, e.dtype, e.view.name));
      FR_OK(out.write(std::as_bytes(std::span(piece))));
      piece.clear();
    }
    pack_shape(piece, e.view.shape);
    FR_OK(out.write(std::as_bytes(std::span(piece))));
    return advance(e.view);
  }

  Status advance(const TensorView& t) {
    model_.release(t.bytes());
    bytes_done_ = std::min(bytes_done_ + t.bytes().size(), bytes_total_);
    return report_writing(options_.progress, path_, bytes_done_, bytes_total_);
  }

  const std::string& path_;
  const Checkpoint& model_;
  const FrOptions& options_;
  std::size_t version_ = 0;  // index in version_names
  std::int64_t n_layer_ = 0, n_head_ = 0, n_embd_ = 0, n_att_ = 0, n_ffn_ = 0;
  bool fp16_ = false;  // there is a matrix of fp16
  std::vector<Entry> entries_;
  std::uint64_t bytes_done_ = 0, bytes_total_ = 0;
  WriteReport report_;
};

}  // namespace

Result<WriteReport> write_fr(const std::string& path, const Checkpoint& model, const FrOptions& options) {
  if (options.dtype && *options.dtype != DType::f16 && *options.dtype != DType::f32) {
    return usage_error(".fr files cannot hold " + std::string(dtype_name(*options.dtype)) + " (" + path +
                       "): choose fp16 or fp32");
  }
  return Writer(path, model, options).run();
}

}  // namespace fr
