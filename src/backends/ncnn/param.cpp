#include "backends/ncnn/param.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <climits>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>

namespace fr::ncnn_backend {
namespace {

constexpr int most_layers = 1000000, most_values = 4096;
constexpr std::size_t most_name = 255;  // bytes that ncnn reads

class Words {
 public:
  explicit Words(std::string_view line) : rest_(line) {}
  // Empty at the end.
  std::string_view next() {
    constexpr std::string_view blank = " \t\r";
    const std::size_t begin = rest_.find_first_not_of(blank);
    if (begin == std::string_view::npos) return {};
    rest_.remove_prefix(begin);
    const std::string_view word = rest_.substr(0, rest_.find_first_of(blank));
    rest_.remove_prefix(word.size());
    return word;
  }
  std::optional<int> integer() {
    const std::string_view word = next();
    int value = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
    if (error != std::errc() || end != word.data() + word.size() || word.empty()) return std::nullopt;
    return value;
  }

 private:
  std::string_view rest_;
};

// "3", "1e-05", "-23303=1,-1" after its "=".
bool parse_values(std::string_view text, std::vector<double>& values) {
  while (true) {
    const std::string_view word = text.substr(0, text.find(','));
    double value = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
    if (error != std::errc() || end != word.data() + word.size() || !std::isfinite(value)) return false;
    values.push_back(value);
    if (word.size() == text.size()) return true;
    if (values.size() > most_values) return false;
    text.remove_prefix(word.size() + 1);
  }
}

bool parse_parameter(std::string_view word, std::map<int, Param>& params) {
  constexpr int array_ids = -23300;  // -23300 - id: an array, its length first
  const std::size_t equals = word.find('=');
  int id = 0;
  if (equals == std::string_view::npos) return false;
  const auto [end, error] = std::from_chars(word.data(), word.data() + equals, id);
  if (error != std::errc() || end != word.data() + equals) return false;
  Param p;
  if (!parse_values(word.substr(equals + 1), p.values)) return false;
  p.array = id <= array_ids;
  p.real = word.find_first_of(".eE", equals) != std::string_view::npos;
  for (const double v : p.values) {
    if (!p.real && std::fabs(v) > INT_MAX) return false;
  }
  if (p.array) {
    id = array_ids - id;
    if (p.values[0] != static_cast<double>(p.values.size() - 1)) return false;
    p.values.erase(p.values.begin());
  } else if (p.values.size() != 1) {
    return false;
  }
  return id >= 0 && id < 32 && params.emplace(id, std::move(p)).second;
}

// ncnn ends a word at any blank, ours at blank, tab and carriage return: no other may be inside.
bool usable(std::string_view name) {
  return !name.empty() && name.size() <= most_name &&
         std::none_of(name.begin(), name.end(), [](char c) { return static_cast<unsigned char>(c) < 0x21; });
}

bool parse_names(Words& words, int count, std::vector<std::string>& names) {
  for (int i = 0; i < count; ++i) {
    const std::string_view word = words.next();
    if (!usable(word)) return false;
    names.emplace_back(word);
  }
  return true;
}

bool parse_layer(std::string_view line, ParamLayer& layer) {
  Words words(line);
  const std::string_view type = words.next(), name = words.next();
  const auto n_inputs = words.integer(), n_outputs = words.integer();
  if (!usable(type) || !usable(name)) return false;
  if (!n_inputs || !n_outputs || *n_inputs < 0 || *n_outputs < 0) return false;
  layer.type = type;
  layer.name = name;
  if (!parse_names(words, *n_inputs, layer.inputs) || !parse_names(words, *n_outputs, layer.outputs))
    return false;
  for (std::string_view word = words.next(); !word.empty(); word = words.next()) {
    if (!parse_parameter(word, layer.params)) return false;
  }
  return true;
}

std::string number(const Param& p, std::size_t i) {
  std::array<char, 48> text;
  char *const begin = text.data(), *const end = begin + text.size();
  return {begin, p.real ? std::to_chars(begin, end, p.values[i], std::chars_format::scientific).ptr
                        : std::to_chars(begin, end, static_cast<std::int64_t>(p.values[i])).ptr};
}

// The number if it is one that ncnn reads as an int.
int integer_of(const Param& p, std::size_t i) {
  const double v = i < p.values.size() ? p.values[i] : 0.5;
  return !p.real && v == std::floor(v) && std::fabs(v) <= INT_MAX ? static_cast<int>(v) : INT_MIN;
}

}  // namespace

int ParamLayer::integer(int id, int otherwise) const {
  const auto found = params.find(id);
  if (found == params.end()) return otherwise;
  return found->second.array ? INT_MIN : integer_of(found->second, 0);
}

float ParamLayer::real(int id) const {
  const auto found = params.find(id);
  const bool usable = found != params.end() && !found->second.array && found->second.real;
  return usable ? static_cast<float>(found->second.values[0]) : std::numeric_limits<float>::quiet_NaN();
}

std::vector<int> ParamLayer::integers(int id) const {
  std::vector<int> values;
  const auto found = params.find(id);
  if (found == params.end() || !found->second.array) return values;
  for (std::size_t i = 0; i < found->second.values.size(); ++i)
    values.push_back(integer_of(found->second, i));
  return values;
}

Result<std::vector<ParamLayer>> parse_param(std::string_view text, const std::string& path) {
  const auto damaged = [&](const std::string& what) {
    return file_error(what + " (" + path +
                      "): the file is no ncnn graph or is damaged, export the model again");
  };
  std::size_t position = 0;
  const auto next_line = [&]() {
    const std::string_view line = text.substr(position, text.find('\n', position) - position);
    position = std::min(text.size(), position + line.size() + 1);
    return line;
  };
  Words magic(next_line());
  if (magic.integer() != 7767517) return damaged("it does not start with 7767517");
  Words counts(next_line());
  const auto n_layers = counts.integer(), n_blobs = counts.integer();
  if (!n_layers || !n_blobs || *n_layers < 1 || *n_layers > most_layers || *n_blobs < 1 ||
      *n_blobs > most_layers)
    return damaged("the numbers of layers and blobs are missing or absurd");

  std::vector<ParamLayer> layers;
  std::size_t blobs = 0;
  while (position < text.size()) {
    const std::string_view line = next_line();
    if (Words(line).next().empty()) continue;
    ParamLayer layer;
    if (!parse_layer(line, layer))
      return damaged("layer " + std::to_string(layers.size()) + " cannot be read");
    blobs += layer.outputs.size();
    layers.push_back(std::move(layer));
    if (layers.size() > static_cast<std::size_t>(*n_layers)) break;
  }
  if (layers.size() != static_cast<std::size_t>(*n_layers) || blobs != static_cast<std::size_t>(*n_blobs)) {
    return damaged("it has " + std::to_string(layers.size()) + " layers and " + std::to_string(blobs) +
                   " blobs, but says " + std::to_string(*n_layers) + " and " + std::to_string(*n_blobs));
  }
  return layers;
}

std::string param_line(const ParamLayer& layer) {
  std::string line = layer.type;
  line.append(" ").append(layer.name);
  line.append(" ").append(std::to_string(layer.inputs.size()));
  line.append(" ").append(std::to_string(layer.outputs.size()));
  for (const std::string& blob : layer.inputs) line.append(" ").append(blob);
  for (const std::string& blob : layer.outputs) line.append(" ").append(blob);
  for (const auto& [id, p] : layer.params) {
    line.append(" ").append(std::to_string(p.array ? -23300 - id : id)).append("=");
    if (p.array) line.append(std::to_string(p.values.size()));
    for (std::size_t i = 0; i < p.values.size(); ++i) {
      if (p.array || i > 0) line.append(",");
      line.append(number(p, i));
    }
  }
  return line.append("\n");
}

}  // namespace fr::ncnn_backend
