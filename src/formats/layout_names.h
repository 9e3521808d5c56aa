// What the layouts share: names of layers taken apart, and the few changes of a tensor, with errors instead
// of the preconditions of TensorView.
#pragma once
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/checkpoint.h"
#include "base/result.h"

namespace fr {

// "<prefix><layer>.<rest>".
struct LayerName {
  std::string_view layer;  // decimal digits
  std::string_view rest;
};
std::optional<LayerName> layer_name(std::string_view name, std::string_view prefix);

// Replaces the beginning of `name` by the first entry {old, new} that it starts with; false: by none.
using Renames = std::span<const std::pair<std::string_view, std::string_view>>;
bool rename_start(std::string& name, Renames renames);

// The last two axes swapped. Error: fewer than two.
Status swap_axes(TensorView& t, const std::string& path);
// As `shape`, of as many elements. Error: another number of elements, or a tensor with gaps.
Status reshape(TensorView& t, std::vector<std::int64_t> shape, const std::string& path);
// Sizes of 1 at the end dropped, the first axis kept: [H, N, 1] to [H, N]. Error: a tensor with gaps.
Status drop_last_ones(TensorView& t, const std::string& path);
// One tensor of six rows, "<stem>r", w, k, v, a, g, each [1, 1, D]. Error: other than six rows of one size.
Status split_mixes(const TensorView& t, const std::string& stem, std::vector<TensorView>& out,
                   const std::string& path);

// Hugging Face files lack the head when it is the embedding: adds it, unless config.json denies it.
void tie_head(Checkpoint& file);

}  // namespace fr
