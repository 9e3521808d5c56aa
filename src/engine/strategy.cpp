#include "engine/strategy.h"

#include <algorithm>
#include <charconv>

#include "backends/backend.h"
#include "core/storage.h"

namespace fr {
namespace {

std::vector<std::string_view> words_of(std::string_view text) {
  std::vector<std::string_view> words;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t begin = text.find_first_not_of(" \t", i);
    if (begin == std::string_view::npos) break;
    i = std::min(text.find_first_of(" \t", begin), text.size());
    words.push_back(text.substr(begin, i - begin));
  }
  return words;
}

std::vector<std::string_view> parts_of(std::string_view text) {
  std::vector<std::string_view> parts;
  for (std::size_t at; (at = text.find("->")) != std::string_view::npos; text.remove_prefix(at + 2)) {
    parts.push_back(text.substr(0, at));
  }
  parts.push_back(text);
  return parts;
}

Error bad(std::string_view strategy, const std::string& what) {
  return usage_error(what + " (strategy \"" + std::string(strategy) +
                     "\"): use e.g. \"cpu fp16\" or \"cpu fp32 *8 -> cpu bf16\"");
}

// ChatRWKV's words name the arithmetic too (fp16i8, fp32i8, fp16i4); other programs name the blocks.
std::string_view without_arithmetic(std::string_view word) {
  for (const std::string_view arithmetic : {"fp16", "fp32", "bf16"}) {
    const std::string_view rest = word.starts_with(arithmetic) ? word.substr(arithmetic.size()) : word;
    if (rest == "i8" || rest == "q8_0") return storage_name(int8_weights);
    if (rest == "i4" || rest == "q4_k") return storage_name(int4_weights);
  }
  return word;
}

bool is_dtype(std::string_view word) {
  const std::string_view name = without_arithmetic(word);
  return name == "fp32" || name == "fp16" || name == "bf16" || name == "int8" || name == "int4";
}

Result<DType> parse_dtype(std::string_view word, std::string_view strategy, const Backend& backend) {
  std::string known;
  for (const DType t : backend.dtypes) {
    if (without_arithmetic(word) == storage_name(t)) return t;
    known.append(known.empty() ? "" : ", ").append(storage_name(t));
  }
  std::string what = "unknown number format \"";
  what.append(word).append("\", ").append(backend.name).append(" has ").append(known);
  return bad(strategy, what);
}

Result<int> parse_number(std::string_view word, std::string_view strategy, const char* what, int least) {
  int number = 0;
  const char* const last = word.data() + word.size();
  const auto [end, error] = std::from_chars(word.data(), last, number);
  if (error == std::errc{} && end == last && number >= least) return number;
  std::string problem = "\"";
  problem.append(word).append("\" is no ").append(what);
  return bad(strategy, problem);
}

// The first backend that this machine can use.
const Backend& fastest_backend() {
  const auto all = backends();
  const auto found = std::find_if(
      all.begin(), all.end(), [](const Backend& b) { return b.available == nullptr || b.available().ok(); });
  return found == all.end() ? all.back() : *found;
}

// One part between arrows: device [dtype] [*N]. count is -1 when the part takes the rest.
Status parse_part(std::string_view part, std::string_view strategy, DType automatic, Segment& segment,
                  int& count) {
  const std::vector<std::string_view> words = words_of(part);
  if (words.empty()) return bad(strategy, "an empty part");
  const std::string_view device = words[0].substr(0, words[0].find(':'));
  if (is_dtype(words[0])) {
    std::string what = "no device but the number format ";
    what.append(words[0]).append(", write \"cpu ").append(words[0]).append("\"");
    return bad(strategy, what);
  }
  FR_TRY(const Backend* backend, find_backend(device));
  if (const std::size_t colon = words[0].find(':'); colon != std::string_view::npos) {
    if (!backend->numbered) return bad(strategy, std::string(device) + " has no device numbers");
    FR_TRY(segment.index, parse_number(words[0].substr(colon + 1), strategy, "device number", 0));
  }
  segment.device = device;
  segment.dtype = automatic;
  segment.automatic = true;
  count = -1;
  for (std::size_t i = 1; i < words.size(); ++i) {
    const std::string_view word = words[i];
    if (!word.starts_with('*')) {
      if (i != 1) return bad(strategy, "unexpected word \"" + std::string(word) + "\"");
      if (word == "auto") continue;
      FR_TRY(segment.dtype, parse_dtype(word, strategy, *backend));
      segment.automatic = false;
      continue;
    }
    if (count >= 0) return bad(strategy, "two numbers of layers in one part");
    if (word.ends_with('+'))
      return bad(strategy, "layers streamed from the host (\"" + std::string(word) + "\") are not supported");
    FR_TRY(count, parse_number(word.substr(1), strategy, "number of layers", 1));
  }
  return {};
}

// The format that keeps the numbers of a file as nearly as strategies can.
DType nearest_storage(DType file_dtype) {
  switch (file_dtype) {
    case DType::f32:
    case DType::f16:
    case DType::bf16:
      return file_dtype;
    case DType::q2_k:
    case DType::q3_k:
    case DType::q4_0:
    case DType::q4_1:
    case DType::q4_k:
    case DType::iq4_nl:
      return int4_weights;
    default:  // 5 to 8 bits
      return int8_weights;
  }
}

}  // namespace

DType automatic_dtype(DType file_dtype, std::int64_t weights, std::int64_t memory) {
  const auto fits = [&](DType t) {
    const double bytes = static_cast<double>(weights) * static_cast<double>(dtype_size(t)) /
                         static_cast<double>(block_size(t));
    return bytes <= 0.7 * static_cast<double>(memory);
  };
  const DType nearest = nearest_storage(file_dtype);
  if (fits(nearest) || nearest == int4_weights) return nearest;
  return fits(int8_weights) ? int8_weights : int4_weights;
}

Result<std::vector<Segment>> parse_strategy(std::string_view text, DType automatic, int n_layer) {
  std::vector<Segment> segments;
  if (words_of(text).empty()) {
    segments.push_back({std::string(fastest_backend().name), automatic, 0, n_layer, true});
    return segments;
  }
  const std::vector<std::string_view> parts = parts_of(text);
  int begin = 0;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    Segment segment;
    int count = -1;
    FR_OK(parse_part(parts[i], text, automatic, segment, count));
    const bool last = i + 1 == parts.size();
    if (!last && count < 0) return bad(text, "only the last part may leave out \"*N\"");
    if (begin >= n_layer) break;  // ChatRWKV accepts strategies written for a deeper model
    segment.begin = begin;
    const int placed = count < 0 || count > n_layer - begin ? n_layer : begin + count;
    if (last && placed < n_layer) {
      return bad(text, "it places " + std::to_string(placed) + " of " + std::to_string(n_layer) + " layers");
    }
    segment.end = placed;
    begin = segment.end;
    segments.push_back(std::move(segment));
  }
  return segments;
}

Status check_exported_strategy(std::string_view strategy, std::string_view kind, DType dtype,
                               const std::string& path) {
  const std::vector<std::string_view> words = words_of(strategy);
  const bool device = words.empty() || words[0] == kind;
  const bool numbers =
      words.size() < 2 || words[1] == "auto" || without_arithmetic(words[1]) == storage_name(dtype);
  if (device && numbers && words.size() <= 2) return {};
  std::string has(kind), what = "the strategy \"";
  has.append(" ").append(storage_name(dtype));
  what.append(strategy).append("\" does not fit this export (").append(path).append("): use \"").append(has);
  return usage_error(what + "\", or export the model again with another --dtype");
}

std::string strategy_string(const std::vector<Segment>& segments) {
  std::string s;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const Segment& g = segments[i];
    s.append(i ? " -> " : "").append(g.device);
    if (g.index > 0) s.append(":").append(std::to_string(g.index));
    s.append(" ").append(storage_name(g.dtype));
    if (i + 1 < segments.size()) s += " *" + std::to_string(g.end - g.begin);
  }
  return s;
}

}  // namespace fr
