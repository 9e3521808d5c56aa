#include "engine/strategy.h"

#include <algorithm>
#include <charconv>

#include "backends/backend.h"

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

Result<DType> parse_dtype(std::string_view word, std::string_view strategy, const Backend& backend,
                          DType file_dtype) {
  const bool quantised =
      word == "int8" || word == "int4" || word == "i8" || word.ends_with("i8") || word.ends_with("i4");
  if (quantised) {
    return usage_error("int8 and int4 weights are not in this version (strategy \"" + std::string(strategy) +
                       "\"): use fp16, bf16 or fp32");
  }
  if (word == "auto") return file_dtype;
  for (const DType t : backend.dtypes) {
    if (word == dtype_name(t)) return t;
  }
  std::string known;
  for (const DType t : backend.dtypes) known += (known.empty() ? "" : ", ") + std::string(dtype_name(t));
  return bad(strategy, "unknown number format \"" + std::string(word) + "\", " + std::string(backend.name) +
                           " has " + known);
}

// One part between arrows: device [dtype] [*N]. count is -1 when the part takes the rest.
Status parse_part(std::string_view part, std::string_view strategy, DType file_dtype, Segment& segment,
                  int& count) {
  const std::vector<std::string_view> words = words_of(part);
  if (words.empty()) return bad(strategy, "an empty part");
  const std::string_view device = words[0].substr(0, words[0].find(':'));
  FR_TRY(const Backend* backend, find_backend(device));
  if (words[0].find(':') != std::string_view::npos)
    return bad(strategy, std::string(device) + " has no device numbers");
  segment.device = device;
  segment.dtype = file_dtype;
  count = -1;
  for (std::size_t i = 1; i < words.size(); ++i) {
    const std::string_view word = words[i];
    if (!word.starts_with('*')) {
      if (i != 1) return bad(strategy, "unexpected word \"" + std::string(word) + "\"");
      FR_TRY(segment.dtype, parse_dtype(word, strategy, *backend, file_dtype));
      continue;
    }
    if (word.ends_with('+'))
      return bad(strategy, "layers streamed from the host (\"" + std::string(word) + "\") are not supported");
    const char* const last = word.data() + word.size();
    const auto [end, error] = std::from_chars(word.data() + 1, last, count);
    if (error != std::errc{} || end != last || count < 1) {
      return bad(strategy, "\"" + std::string(word) + "\" is no number of layers");
    }
  }
  return {};
}

}  // namespace

Result<std::vector<Segment>> parse_strategy(std::string_view text, DType file_dtype, int n_layer) {
  std::vector<Segment> segments;
  if (words_of(text).empty()) {
    segments.push_back({std::string(backends().front().name), file_dtype, 0, n_layer});
    return segments;
  }
  const std::vector<std::string_view> parts = parts_of(text);
  int begin = 0;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    Segment segment;
    int count = -1;
    FR_OK(parse_part(parts[i], text, file_dtype, segment, count));
    const bool last = i + 1 == parts.size();
    if (!last && count < 0) return bad(text, "only the last part may leave out \"*N\"");
    if (begin >= n_layer) break;  // ChatRWKV accepts strategies written for a deeper model
    segment.begin = begin;
    segment.end = last ? n_layer : std::min(begin + count, n_layer);
    if (last && count >= 0 && begin + count < n_layer) {
      return bad(text,
                 "it places " + std::to_string(begin + count) + " of " + std::to_string(n_layer) + " layers");
    }
    begin = segment.end;
    segments.push_back(std::move(segment));
  }
  return segments;
}

std::string strategy_string(const std::vector<Segment>& segments) {
  std::string s;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const Segment& g = segments[i];
    s += (i ? " -> " : "") + g.device + " " + std::string(dtype_name(g.dtype));
    if (i + 1 < segments.size()) s += " *" + std::to_string(g.end - g.begin);
  }
  return s;
}

}  // namespace fr
