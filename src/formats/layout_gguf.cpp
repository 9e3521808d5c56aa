// llama.cpp's RWKV-6 and RWKV-7: names of its own, mixes fused into one tensor, low-rank matrices transposed,
// flat vectors; in RWKV-7, layer 0 has copies of a0..a2 under the names v0..v2. Table: formats/gguf_names.h.
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstring>

#include "formats/gguf.h"
#include "formats/gguf_names.h"
#include "formats/layout.h"
#include "formats/reader.h"

namespace fr {
namespace {

using gguf::Form;

Error wrong(const Checkpoint& file, const TensorView& t, const std::string& why) {
  return file_fault(file.path,
                    "tensor " + printable(t.name) + " has the impossible shape " + t.shape_string() + why);
}

// A number of the metadata, 0 when there is none.
std::int64_t number(const Checkpoint& file, const std::string& key) {
  const auto entry = file.metadata.find(key);
  std::int64_t value = 0;
  if (entry != file.metadata.end()) {
    std::from_chars(entry->second.data(), entry->second.data() + entry->second.size(), value);
  }
  return value;
}

// ---- models in several files

// "<stem>-00002-of-00005.gguf" for number 2, from the path of the first.
std::string shard_path(const std::string& first, std::int64_t number, std::int64_t count) {
  char ending[40];
  std::snprintf(ending, sizeof ending, "-%05d-of-%05d.gguf", static_cast<int>(number),
                static_cast<int>(count));
  constexpr std::size_t length = std::string_view("-00001-of-00005.gguf").size();
  return first.size() > length ? first.substr(0, first.size() - length) + ending : std::string();
}

// Appends the tensors of the files beside this one, the first of a split model.
Status join_shards(Checkpoint& file) {
  constexpr std::int64_t most_shards = 1000;
  constexpr std::string_view merge =
      "keep the files under their names in one folder, or join them with llama-gguf-split";
  const std::int64_t count = number(file, "split.count");
  if (count <= 1) return {};
  if (number(file, "split.no") != 0) {
    return file_fault(file.path, "this is a further file of a model that was split", "give the first one");
  }
  if (count > most_shards || file.path != shard_path(file.path, 1, count)) {
    return file_fault(file.path,
                      "this is one of " + std::to_string(count) + " files of a model, under another name",
                      merge);
  }
  for (std::int64_t i = 1; i < count; ++i) {
    const std::string path = shard_path(file.path, i + 1, count);
    FR_TRY(const auto mapped, MappedFile::open(path));
    if (!looks_like_gguf(mapped->bytes())) return file_fault(path, "this is no GGUF file");
    FR_TRY(Checkpoint shard, parse_gguf(mapped->bytes(), path));
    if (number(shard, "split.no") != i || number(shard, "split.count") != count) {
      return file_fault(path, "this is not file " + std::to_string(i + 1) + " of the model", merge);
    }
    if (file.tensors.size() + shard.tensors.size() > max_tensors) {
      return file_fault(file.path, "the files have more than " + std::to_string(max_tensors) + " tensors");
    }
    file.files.push_back(mapped);
    std::move(shard.tensors.begin(), shard.tensors.end(), std::back_inserter(file.tensors));
  }
  return {};
}

// ---- names and shapes

class Renamer {
 public:
  Renamer(Checkpoint& file, const gguf::Architecture& architecture)
      : file_(file),
        architecture_(architecture),
        head_size_(number(file, std::string(architecture.name) + ".wkv.head_size")) {}

  Status run() {
    for (TensorView& t : file_.tensors) FR_OK(rename(std::move(t)));
    file_.tensors = std::move(renamed_);
    file_.index();
    return {};
  }

 private:
  Status rename(TensorView t) {
    std::string_view name = t.name;
    std::string prefix;
    std::span<const gguf::TensorName> names = architecture_.global;
    if (name.starts_with("blk.")) {
      const std::size_t dot = std::min(name.find('.', 4), name.size() - 1);
      prefix = "blocks." + std::string(name.substr(4, dot - 3));
      name.remove_prefix(dot + 1);
      names = architecture_.layer;
      if (name == gguf::lerp_fused) return unfuse(t, prefix);
    }
    const auto found =
        std::find_if(names.begin(), names.end(), [&](const auto& n) { return n.file == name; });
    if (found != names.end()) {
      FR_OK(reshape(t, found->form));
      t.name = prefix + std::string(found->official);
    } else if (const char mix = single_mix(name); mix != 0) {  // files from before the mixes were fused
      FR_OK(reshape(t, Form::vector));
      t.name = prefix + std::string(architecture_.lerp) + mix;
    }  // what else there is, the model will not know
    renamed_.push_back(std::move(t));
    return {};
  }

  // The letter in "time_mix_lerp_w.weight", if it is one of the fused mixes.
  char single_mix(std::string_view name) const {
    constexpr std::string_view begin = "time_mix_lerp_", end = ".weight";
    if (name.size() != begin.size() + 1 + end.size() || !name.starts_with(begin) || !name.ends_with(end))
      return 0;
    const char letter = name[begin.size()];
    return architecture_.lerp_order.find(letter) != std::string_view::npos ? letter : '\0';
  }

  Status reshape(TensorView& t, Form form) const {
    switch (form) {
      case Form::same:
        return {};
      case Form::vector:
        t = t.reshaped({1, 1, t.size()});
        return {};
      case Form::transposed:
        if (t.shape.size() < 2) return wrong(file_, t, ", expected a matrix");
        t = t.transposed();
        return {};
      case Form::flat:
        if (head_size_ <= 0 || t.size() % head_size_ != 0) {
          return wrong(file_, t, " for heads of " + std::to_string(head_size_));
        }
        t = t.reshaped({t.size() / head_size_, head_size_});
        return {};
    }
    return {};
  }

  // [6, 1, 1, D] into six [1, 1, D].
  Status unfuse(const TensorView& t, const std::string& prefix) {
    const auto count = static_cast<std::int64_t>(architecture_.lerp_order.size());
    const std::int64_t width = t.size() / count;
    if (architecture_.name == "rwkv7" && !t.shape.empty() && t.shape[0] == count - 1) {
      return file_fault(file_.path, "this is an RWKV-7 without gates (ARWKV), which is not supported",
                        "give a plain RWKV-7 model");
    }
    if (t.size() != width * count || width % block_size(t.dtype) != 0) {
      return wrong(file_, t, ", expected " + std::to_string(count) + " mixes");
    }
    const TensorView rows = t.reshaped({count, width});
    for (std::int64_t i = 0; i < count; ++i) {
      TensorView& mix = renamed_.emplace_back(rows.rows(i, i + 1).reshaped({1, 1, width}));
      mix.name =
          prefix + std::string(architecture_.lerp) + architecture_.lerp_order[static_cast<std::size_t>(i)];
    }
    return {};
  }

  Checkpoint& file_;
  const gguf::Architecture& architecture_;
  std::int64_t head_size_;
  std::vector<TensorView> renamed_;
};

// ---- what is in the file for llama.cpp's sake

bool same_numbers(const TensorView* a, const TensorView* b) {
  return a != nullptr && b != nullptr && a->dtype == b->dtype && a->shape == b->shape &&
         a->bytes().size() == b->bytes().size() &&
         std::memcmp(a->bytes().data(), b->bytes().data(), a->bytes().size()) == 0;
}

void drop_copies(Checkpoint& file) {
  for (const char* i : {"0", "1", "2"}) {
    const std::string a = std::string("blocks.0.att.a") + i, v = std::string("blocks.0.att.v") + i;
    if (!same_numbers(file.find(a), file.find(v))) return;
  }
  std::erase_if(file.tensors, [](const TensorView& t) {
    return t.name == "blocks.0.att.v0" || t.name == "blocks.0.att.v1" || t.name == "blocks.0.att.v2";
  });
}

bool is_gguf(const Checkpoint& file) { return file.format == "gguf"; }

Status to_official(Checkpoint& file) {
  FR_OK(join_shards(file));
  const auto name = file.metadata.find("general.architecture");
  const auto* architecture = name == file.metadata.end() ? nullptr : gguf::find_architecture(name->second);
  if (architecture == nullptr) {  // parse_gguf lets further files of a split model pass
    return file_fault(file.path, "this is a further file of a model that was split", "give the first one");
  }
  FR_OK(Renamer(file, *architecture).run());
  drop_copies(file);
  if (architecture->name == "rwkv6") {
    const std::int64_t every = number(file, "rwkv6.rescale_every_n_layers");
    if (every < 0 || every > 1'000'000) {
      return file_fault(file.path, "rwkv6.rescale_every_n_layers is " + std::to_string(every));
    }
    file.rescale_every = static_cast<int>(every);
  }
  return {};
}

}  // namespace

constinit const Layout layout_gguf{"llama.cpp", is_gguf, to_official};

}  // namespace fr
