// The names of BlinkDL's small RWKV-7 with a ROSA branch beside the attention ("reverse the digits"): rwkv1,
// rosa1, ffn1, ln1a, ... with layers counted from 1. Runs when the branch's values are zero, so that of it
// only the bias of its output is left.
#include <algorithm>
#include <charconv>
#include <vector>

#include "formats/layout.h"
#include "formats/reader.h"

namespace fr {
namespace {

bool recognises(const Checkpoint& file) {
  return file.find("e.weight") != nullptr && file.find("rwkv1.r_k") != nullptr &&
         file.find("o.weight") != nullptr;
}

struct Rule {
  std::string_view from, to;  // "ln" + layer + "a." -> "blocks." + layer + ".ln1."
};
constexpr Rule outside[] = {{"e.", "emb."}, {"lno.", "ln_out."}, {"o.", "head."}};
constexpr Rule inside[] = {{"rwkv#.", "att."}, {"ffn#.", "ffn."}, {"ln#a.", "ln1."},
                           {"ln#b.", "ln2."},  {"ln#c.", ""},     {"rosa#.o.bias", "att.output.bias"},
                           {"rosa#.", ""}};

// The layer, from 1, where `name` begins as `pattern` with a number for '#'; 0 where it does not. length: of
// that part.
int match(std::string_view name, std::string_view pattern, std::size_t& length) {
  const std::size_t number = pattern.find('#');
  if (!name.starts_with(pattern.substr(0, number))) return 0;
  int layer = 0;
  const auto [end, error] = std::from_chars(name.data() + number, name.data() + name.size(), layer);
  const std::string_view rest(end, static_cast<std::size_t>(name.data() + name.size() - end));
  if (error != std::errc{} || layer < 1 || !rest.starts_with(pattern.substr(number + 1))) return 0;
  length = name.size() - rest.size() + pattern.size() - number - 1;
  return layer;
}

// The official name; empty for what is left out; the same for what is not known.
std::string official(const std::string& name) {
  for (const Rule& rule : outside) {
    if (name.starts_with(rule.from)) return std::string(rule.to) + name.substr(rule.from.size());
  }
  for (const Rule& rule : inside) {
    std::size_t length = 0;
    const int layer = match(name, rule.from, length);
    if (layer == 0) continue;
    if (rule.to.empty()) return "";
    return "blocks." + std::to_string(layer - 1) + "." + std::string(rule.to) + name.substr(length);
  }
  return name;
}

bool is_zero(const TensorView& t) {
  constexpr std::int64_t most = 1 << 20;
  if (!t.readable() || t.size() > most) return false;
  std::vector<float> numbers(static_cast<std::size_t>(t.size()));
  t.read(0, numbers);
  return std::all_of(numbers.begin(), numbers.end(), [](float x) { return x == 0; });
}

Status apply(Checkpoint& file) {
  std::vector<TensorView> tensors;
  for (TensorView& t : file.tensors) {
    if (t.name.find(".rosa_qkv.emb") != t.name.npos && !is_zero(t)) {
      return file_fault(file.path,
                        "tensor " + printable(t.name) + " belongs to a ROSA branch that is in use (RWKV-8)",
                        "use a plain RWKV-4 to RWKV-7 model");
    }
    t.name = official(t.name);
    if (!t.name.empty()) tensors.push_back(std::move(t));
  }
  file.tensors = std::move(tensors);
  file.notes.emplace_back("a ROSA branch whose values are zero: only the bias of its output is used");
  return {};
}

}  // namespace

constinit const Layout layout_rosa{"RWKV-7 with an idle ROSA branch", recognises, apply};

}  // namespace fr
