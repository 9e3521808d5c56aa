#include "formats/gguf_plan.h"

#include <algorithm>
#include <set>

#include "base/quant.h"
#include "formats/reader.h"
#include "formats/writer.h"

namespace fr::gguf {
namespace {

using Shape = std::vector<std::int64_t>;

Shape without_ones(Shape shape) {
  std::erase(shape, 1);
  return shape;
}

class Planner {
 public:
  Planner(const std::string& path, const Checkpoint& model, const GgufOptions& options)
      : path_(path), model_(model), options_(options) {}

  Result<Plan> run() {
    FR_OK(check_model());
    const auto has_layer = [&](int i) {
      return find("blocks." + std::to_string(i) + ".ln1.weight") != nullptr;
    };
    while (has_layer(plan_.n_layer)) ++plan_.n_layer;
    for (const TensorName& n : plan_.architecture->global) FR_OK(add(n, -1));
    for (int i = 0; i < std::max(plan_.n_layer, 1); ++i) FR_OK(add_layer(i));
    if (plan_.sizes['H'] * plan_.sizes['N'] != plan_.sizes['D']) {
      return fault("the heads are not as wide as the embedding, which llama.cpp expects");
    }
    FR_OK(check_rest());
    for (const auto& [what, names] : fallbacks_) {
      plan_.notes.push_back(std::to_string(names.size()) + " tensors " + what + " (" + names.front() +
                            (names.size() > 1 ? ", ...)" : ")"));
    }
    return std::move(plan_);
  }

 private:
  Error fault(const std::string& what, std::string_view what_to_do = "give the original model") const {
    return file_fault(model_.path, what, what_to_do);
  }
  Error refusal(const std::string& what, const std::string& what_to_do) const {
    return usage_error(what + " (" + model_.path + "): " + what_to_do);
  }
  const TensorView* find(const std::string& name) const { return model_.find(name); }

  bool any(std::string_view ending) const {
    return std::any_of(model_.tensors.begin(), model_.tensors.end(),
                       [&](const TensorView& t) { return t.name.ends_with(ending); });
  }

  Status check_model() {
    constexpr const char* other_format = "write .safetensors";
    const char* version = any(".att.r_k") ? "rwkv7" : any(".att.time_maa_x") ? "rwkv6" : nullptr;
    if (version == nullptr) {
      const bool older = any(".att.time_decay");
      return refusal(
          older ? "GGUF is for RWKV-6 and RWKV-7, this model is older" : "this is no RWKV-6 or RWKV-7",
          older ? other_format : "give an RWKV-6 or RWKV-7 model");
    }
    plan_.architecture = find_architecture(version);
    for (const TensorView& t : model_.tensors) {
      if (!t.processed) continue;
      const std::string what =
          t.name == "emb.weight" ? "ln0 is already in the embedding of this file"
                                 : "tensor " + printable(t.name) + " of this file was changed by a converter";
      return refusal(what + ", which llama.cpp does not expect", "convert the original model");
    }
    if (find("blocks.0.ln0.weight") == nullptr) {
      return refusal("the model has no ln0, and llama.cpp needs one", other_format);
    }
    if (options_.dtype && !is_float_dtype(*options_.dtype) && !can_quantise(*options_.dtype)) {
      return usage_error(std::string(dtype_name(*options_.dtype)) + " cannot be written (" + path_ +
                         "): choose fp32, fp16, bf16, q8_0, q4_0 or q4_k");
    }
    const bool v7 = plan_.architecture->name == "rwkv7";
    plan_.rescale_every = options_.rescale_every.value_or(v7 ? 0 : model_.rescale_every);
    if (plan_.rescale_every < 0 || (v7 && plan_.rescale_every > 0)) {
      return usage_error("layers cannot be rescaled every " + std::to_string(plan_.rescale_every) + " (" +
                         path_ + "): only RWKV-6 has this, and 0 is none");
    }
    return {};
  }

  Status add_layer(int layer) {
    const bool v7 = plan_.architecture->name == "rwkv7";
    const bool copies = v7 && layer == 0 && !has_own_values();
    for (const TensorName& n : plan_.architecture->layer) {
      if (v7 && layer == 0 && n.official.starts_with("att.v") && n.official.size() == 6) {
        FR_OK(add_first_value(n, copies));
      } else {
        FR_OK(add(n, layer));
      }
    }
    return add_lerps(layer);
  }

  // Layer 0 uses no v0, v1, v2; llama.cpp wants them there, of the low-rank size of a1, a2, and writes copies
  // of these. The file's own are kept where they fit.
  bool has_own_values() {
    for (const std::string i : {"0", "1", "2"}) {
      const TensorView *v = find("blocks.0.att.v" + i), *a = find("blocks.0.att.a" + i);
      if (v == nullptr || a == nullptr) return false;
      if (without_ones(v->shape) != without_ones(a->shape)) {
        plan_.notes.push_back(
            "v0, v1, v2 of layer 0, which no program uses, were left out: llama.cpp has no room");
        for (const char* name : {"v0", "v1", "v2"}) used_.insert(std::string("blocks.0.att.") + name);
        return false;
      }
    }
    return true;
  }
  Status add_first_value(const TensorName& n, bool copy) {
    std::string official(n.official), dims(n.dims);
    if (copy) official[4] = 'a';
    std::replace(dims.begin(), dims.end(), 'v', 'a');
    return add({official, n.file, dims, n.form, n.role}, 0);
  }

  // One tensor; layer -1: not of a layer.
  Status add(const TensorName& n, int layer) {
    const std::string number = std::to_string(layer) + ".";
    FR_TRY(const TensorView* view, need((layer < 0 ? "" : "blocks." + number) + std::string(n.official)));
    FR_OK(check_shape(*view, n));
    PlannedTensor t;
    t.name = (layer < 0 ? "" : "blk." + number) + std::string(n.file);
    const TensorView stored = n.form == Form::transposed ? view->transposed() : *view;
    t.shape = n.form == Form::transposed ? stored.shape : shape_of(n.dims);
    if (n.form == Form::flat) t.shape = {view->size()};
    const auto halvings = [&](int every) { return every > 0 ? layer / every : 0; };
    if (n.official == "att.output.weight" || n.official == "ffn.value.weight") {
      t.exponent = halvings(model_.rescale_every) - halvings(plan_.rescale_every);
    }
    t.dtype = stored_dtype(t, stored, n.role);
    t.parts.push_back(stored);
    plan_.tensors.push_back(std::move(t));
    return {};
  }

  Status add_lerps(int layer) {
    PlannedTensor t;
    t.name = "blk." + std::to_string(layer) + "." + std::string(lerp_fused);
    const Architecture& a = *plan_.architecture;
    t.shape = {static_cast<std::int64_t>(a.lerp_order.size()), 1, 1, plan_.sizes['D']};
    for (const char mix : a.lerp_order) {
      FR_TRY(const TensorView* view,
             need("blocks." + std::to_string(layer) + "." + std::string(a.lerp) + mix));
      FR_OK(check_shape(*view, {"", "", "D", Form::vector, Role::exact}));
      t.parts.push_back(*view);
    }
    plan_.tensors.push_back(std::move(t));
    return {};
  }

  Result<const TensorView*> need(const std::string& name) {
    const TensorView* t = find(name);
    if (t == nullptr) return fault("tensor " + printable(name) + " is missing");
    if (!t->readable() || t->shares_elements())
      return fault("tensor " + printable(name) + " holds no weights");
    used_.insert(t->name);
    return t;
  }

  Shape shape_of(std::string_view dims) {
    Shape shape;
    for (const char c : dims) {
      shape.push_back(c == 'M' ? 5 * plan_.sizes['m'] : c >= '0' && c <= '9' ? c - '0' : plan_.sizes[c]);
    }
    return shape;
  }

  // Sizes that are not known yet are learnt from the tensor.
  Status check_shape(const TensorView& t, const TensorName& n) {
    const bool exact = n.role == Role::matrix || n.role == Role::table || n.form == Form::transposed;
    const Shape found = exact || n.dims.size() == t.shape.size() ? t.shape : without_ones(t.shape);
    for (std::size_t i = 0; i < n.dims.size() && found.size() == n.dims.size(); ++i) {
      const char c = n.dims[i];
      const bool letter = c != 'M' && (c < '0' || c > '9');
      if (letter && found[i] > 0) plan_.sizes.emplace(c, found[i]);
    }
    const Shape expected = shape_of(n.dims);
    if (exact ? t.shape == expected : without_ones(t.shape) == without_ones(expected)) return {};
    const bool rank = std::any_of(n.dims.begin(), n.dims.end(), [](char c) { return c >= 'a' && c <= 'z'; });
    const std::string what = "tensor " + printable(t.name) + " is " + t.shape_string() + ", expected " +
                             TensorView{"", DType::f32, expected, {}}.shape_string();
    return rank ? refusal(what + ": llama.cpp needs equal low-rank sizes in all layers", "write .safetensors")
                : fault(what);
  }

  DType stored_dtype(const PlannedTensor& t, const TensorView& view, Role role) {
    if (role == Role::exact) return DType::f32;
    DType dtype = options_.dtype.value_or(view.scales ? DType::f16 : view.dtype);
    const bool copied = dtype == view.dtype && view.contiguous() && t.exponent == 0 && !view.delta;
    if (!is_block_dtype(dtype) || (copied && !options_.dtype)) return dtype;
    if (role == Role::factor) return DType::f16;
    if (!can_quantise(dtype)) {  // of the source, and changed on the way
      fallbacks_["change on the way, cannot be stored as " + std::string(dtype_name(dtype)) +
                 " again and become q8_0"]
          .push_back(t.name);
      dtype = DType::q8_0;
    }
    if (role == Role::table && (dtype == DType::q4_0 || dtype == DType::q4_k)) dtype = DType::q8_0;
    const std::int64_t row = t.shape.back();
    if (row % block_size(dtype) == 0) return dtype;
    const DType instead = row % block_size(DType::q8_0) == 0 ? DType::q8_0 : DType::f16;
    fallbacks_["have rows that are no whole blocks of " + std::string(dtype_name(dtype)) +
               " and are stored as " + std::string(dtype_name(instead))]
        .push_back(t.name);
    return instead;
  }

  // Every tensor has a place, or is a tuned state.
  Status check_rest() {
    bool states = false;
    for (const TensorView& t : model_.tensors) {
      if (used_.contains(t.name)) continue;
      if (!t.name.ends_with(".att.time_state")) {
        return refusal("llama.cpp has no place for tensor " + printable(t.name), "write .safetensors");
      }
      states = true;
    }
    if (states) plan_.notes.push_back("the tuned initial state was left out: llama.cpp has no place for it");
    return {};
  }

  const std::string& path_;
  const Checkpoint& model_;
  const GgufOptions& options_;
  Plan plan_;
  std::set<std::string> used_;
  std::map<std::string, std::vector<std::string>> fallbacks_;
};

}  // namespace

std::uint64_t PlannedTensor::bytes() const {
  std::uint64_t sum = 0;
  for (const TensorView& part : parts) sum += stored_bytes(part, dtype);
  return sum;
}

Result<Plan> make_plan(const std::string& path, const Checkpoint& model, const GgufOptions& options) {
  return Planner(path, model, options).run();
}

}  // namespace fr::gguf
