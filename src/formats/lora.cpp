#include "formats/lora.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "formats/formats.h"
#include "formats/reader.h"

namespace fr {
namespace {

constexpr std::string_view wrong_adapter = "give the adapter that was trained on this model";

// What the adapter_config.json that the peft library writes beside an adapter says of the merge.
struct Config {
  std::optional<double> alpha;
  bool rank_stabilised = false;  // alpha / sqrt(rank) instead of alpha / rank
};

Result<Config> read_config(const std::string& adapter) {
  const std::string path = std::filesystem::path(adapter).replace_filename("adapter_config.json").string();
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) return Config{};
  std::ifstream file(path);
  const std::string text(std::istreambuf_iterator<char>(file), {});
  const auto shallow = [](int depth, auto, auto&) { return depth < 16; };
  constexpr std::size_t most = 1 << 20;
  const nlohmann::json json = nlohmann::json::parse(text.size() > most ? "" : text, shallow, false);
  if (!json.is_object()) return file_fault(path, "this is no JSON object");
  Config config;
  if (json.contains("lora_alpha") && json["lora_alpha"].is_number())
    config.alpha = json["lora_alpha"].get<double>();
  const auto set = [&](const char* key) {
    return json.contains(key) && json[key] != false && !json[key].is_null() && !json[key].empty();
  };
  config.rank_stabilised = set("use_rslora");
  for (const char* key : {"alpha_pattern", "fan_in_fan_out", "use_dora", "lora_bias"}) {
    if (set(key)) {
      return file_fault(path, std::string(key) + " is set, which this program does not merge",
                        "merge the adapter with the program that trained it");
    }
  }
  return config;
}

// The sizes without those that are 1: files write vectors as [D] and as [1, 1, D].
std::vector<std::int64_t> without_ones(std::vector<std::int64_t> shape) {
  std::erase(shape, 1);
  return shape;
}

struct Pair {
  const TensorView *a = nullptr, *b = nullptr;
};

struct Adapter {
  std::map<std::string, Pair> pairs;                         // by the matrix they change
  std::vector<std::pair<std::string, TensorView>> replaced;  // by the tensor they replace
};

std::string without(std::string_view name, std::string_view prefix) {
  return std::string(name.starts_with(prefix) ? name.substr(prefix.size()) : name);
}

Result<Adapter> sort_tensors(const Checkpoint& file) {
  Adapter adapter;
  for (const TensorView& t : file.tensors) {
    const std::string name = without(t.name, "base_model.model.");
    if (name.find(".bone") != name.npos || name.find("init_lora") != name.npos) {
      return file_fault(file.path, "tensor " + printable(t.name) + " belongs to a Bone or PiSSA adapter",
                        "merge it with the program that trained it");
    }
    if (!is_float_dtype(t.dtype) || t.shares_elements()) {
      return file_fault(file.path,
                        "tensor " + printable(t.name) + " does not hold fp32, fp16 or bf16 numbers",
                        wrong_adapter);
    }
    const std::size_t at = name.find(".lora_");
    if (at == name.npos) {
      adapter.replaced.emplace_back(name, t);
      continue;
    }
    const std::string_view part = std::string_view(name).substr(at + 6);
    const bool a = part == "A" || part == "A.weight" || part == "A.default.weight";
    const bool b = part == "B" || part == "B.weight" || part == "B.default.weight";
    if ((!a && !b) || t.shape.size() != 2) {
      return file_fault(file.path, "tensor " + printable(t.name) + " is no part of a LoRA adapter",
                        wrong_adapter);
    }
    Pair& pair = adapter.pairs[name.substr(0, at) + ".weight"];
    (a ? pair.a : pair.b) = &t;
  }
  if (adapter.pairs.empty() && adapter.replaced.empty()) {
    return file_fault(file.path, "the file holds no adapter", wrong_adapter);
  }
  return adapter;
}

std::vector<float> numbers_of(const TensorView& view) {
  std::vector<float> numbers(static_cast<std::size_t>(view.size()));
  view.read(0, numbers);
  return numbers;
}

TensorView* find(Checkpoint& model, const std::string& name) {
  const TensorView* t = model.find(name);
  return t == nullptr ? nullptr : &model.tensors[static_cast<std::size_t>(t - model.tensors.data())];
}

Result<std::shared_ptr<const LowRankDelta>> make_delta(const Checkpoint& file, const std::string& name,
                                                       const Pair& pair, const TensorView* matrix,
                                                       double alpha, bool rank_stabilised) {
  const auto wrong = [&](const std::string& what) { return file_fault(file.path, what, wrong_adapter); };
  if (pair.a == nullptr || pair.b == nullptr) {
    return wrong("lora_" + std::string(pair.a ? "B" : "A") + " of " + printable(name) + " is missing");
  }
  if (matrix == nullptr) return wrong("the model has no matrix " + printable(name));
  const std::int64_t rank = pair.a->shape[0];
  const std::vector<std::int64_t> product{pair.b->shape[0], pair.a->shape[1]};
  if (rank < 1 || pair.b->shape[1] != rank || matrix->shape != product) {
    return wrong("the factors of " + printable(name) + " are " + pair.b->shape_string() + " and " +
                 pair.a->shape_string() + ", the matrix is " + matrix->shape_string());
  }
  auto delta = std::make_shared<LowRankDelta>();
  delta->rank = static_cast<std::size_t>(rank);
  const auto r = static_cast<double>(rank);
  delta->scale = static_cast<float>(alpha / (rank_stabilised ? std::sqrt(r) : r));
  delta->factor[0] = numbers_of(*pair.b);
  delta->factor[1] = numbers_of(pair.a->transposed());
  return std::shared_ptr<const LowRankDelta>(std::move(delta));
}

}  // namespace

Result<LoraReport> add_lora(Checkpoint& model, const std::string& path, std::optional<double> alpha) {
  for (const TensorView& t : model.tensors) {
    if (t.processed || model.rescale_every != 0) {
      return file_fault(model.path, "an adapter cannot be added to a converted model",
                        "give the original .pth");
    }
  }
  FR_TRY(const Checkpoint file, open_checkpoint(path));
  FR_TRY(const Adapter adapter, sort_tensors(file));
  FR_TRY(const Config config, read_config(path));
  if (!alpha) alpha = config.alpha;
  if (!alpha && !adapter.pairs.empty()) {
    return usage_error("the alpha of the adapter is not known (" + path + "): give it as --lora FILE:ALPHA");
  }
  LoraReport report;
  report.alpha = alpha.value_or(0);
  if (!(std::abs(report.alpha) <= 1e6)) {
    return usage_error("an alpha of " + std::to_string(report.alpha) + " (" + path +
                       "): give that of the training");
  }
  for (const auto& [name, tensor] : adapter.replaced) {  // first: a matrix may be replaced and changed
    TensorView* old = find(model, name);
    if (old == nullptr || without_ones(old->shape) != without_ones(tensor.shape)) {
      return file_fault(
          path,
          "tensor " + printable(name) + " " + tensor.shape_string() +
              (old == nullptr ? " is not one of the model's" : ", the model's is " + old->shape_string()),
          wrong_adapter);
    }
    const auto shape = old->shape;
    *old = tensor;
    old->name = name;
    if (old->contiguous()) *old = old->reshaped(shape);
    ++report.replaced;
  }
  for (const auto& [name, pair] : adapter.pairs) {
    TensorView* matrix = find(model, name);
    FR_TRY(auto delta, make_delta(file, name, pair, matrix, *alpha, config.rank_stabilised));
    report.rank = delta->rank;
    matrix->delta = std::move(delta);
    ++report.merged;
  }
  model.files.insert(model.files.end(), file.files.begin(), file.files.end());
  return report;
}

}  // namespace fr
