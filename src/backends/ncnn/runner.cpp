// Opens an ncnn export: PREFIX.param and PREFIX.bin, PREFIX.seq.param and PREFIX.config if they are there.
#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <map>
#include <optional>

#include "backends/ncnn/device.h"
#include "base/cpu_info.h"
#include "core/storage.h"

namespace fr {
namespace ncnn_backend {
namespace {

using Facts = std::map<std::string, std::string>;

struct Files {
  std::shared_ptr<const MappedFile> param, sequence, weights;  // sequence: may be null
  Facts config;                                                // empty: there is none
};

bool exists(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

std::string prefix_of(const std::string& path) {
  for (const std::string_view ending : {".seq.param", ".param", ".bin", ".config"}) {
    if (path.ends_with(ending)) return path.substr(0, path.size() - ending.size());
  }
  return path;
}

std::string_view text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

// "key: value" lines.
Facts parse_config(std::string_view text) {
  Facts facts;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    const std::size_t colon = line.find(": ");
    if (colon == std::string_view::npos) continue;
    std::string value(line.substr(colon + 2));
    if (value.ends_with('\r')) value.pop_back();
    facts[std::string(line.substr(0, colon))] = std::move(value);
  }
  return facts;
}

Result<Files> open_files(const std::string& prefix) {
  Files f;
  if (!exists(prefix + ".param")) {
    return file_error("no ncnn graph (" + prefix +
                      ".param): give the name that `frwkv export ncnn MODEL NAME` wrote");
  }
  if (!exists(prefix + ".bin"))
    return file_error("the weights are missing (" + prefix + ".bin): copy them beside the .param");
  FR_TRY(f.param, MappedFile::open(prefix + ".param"));
  FR_TRY(f.weights, MappedFile::open(prefix + ".bin"));
  if (exists(prefix + ".seq.param")) {
    FR_TRY(f.sequence, MappedFile::open(prefix + ".seq.param"));
  }
  if (exists(prefix + ".config")) {
    FR_TRY(const auto config, MappedFile::open(prefix + ".config"));
    f.config = parse_config(text_of(*config));
  }
  return f;
}

Result<Graph> read_graph(const MappedFile& param, const MappedFile& weights) {
  FR_TRY(const std::vector<ParamLayer> layers, parse_param(text_of(param), param.path()));
  return make_graph(layers, weights.bytes(), param.path());
}

std::string find(const Facts& facts, const std::string& key) {
  const auto found = facts.find(key);
  return found == facts.end() ? "" : found->second;
}

int number(const Facts& facts, const std::string& key) {
  const std::string text = find(facts, key);
  int value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

Error contradiction(const std::string& what, const std::string& path) {
  return file_error(what + " (" + path +
                    "): the files do not belong together or are damaged, export the model again");
}

// The state blocks by their official names. Sizes come from the graph, which was checked; the version must
// fit.
Result<StateSpec> state_spec(const Graph& g, const std::string& version, const std::string& path) {
  const bool four = version == "4";
  static constexpr std::array names4{"att.x_prev", "att.aa", "att.bb", "att.pp", "ffn.x_prev"};
  static constexpr std::array names5{"att.x_prev", "att.kv", "ffn.x_prev"};
  const std::size_t per_layer = four ? names4.size() : names5.size();
  StateSpec spec;
  for (std::size_t i = 0; i < g.states.size(); ++i) {
    const StateBlob& s = g.states[i];
    const std::size_t index = i % per_layer;
    const bool matrix = !four && index == 1;
    const bool width = index == 0 || index == per_layer - 1;
    const bool fits = s.layer == static_cast<int>(i / per_layer) && s.index == static_cast<int>(index) &&
                      s.dims.size() == (matrix ? 3u : 1u) && (!matrix || s.dims[1] == s.dims[2]) &&
                      (!width || s.dims[0] == g.width());
    if (!fits)
      return contradiction("state " + s.in + " is not one of RWKV version " + version.substr(0, 20), path);
    std::string block = "blocks.";
    block.append(std::to_string(s.layer)).append(".");
    spec.add(block + (four ? names4[index] : names5[index]), s.layer, s.dims,
             four && index == 3 ? -1e30f : 0.0f);
  }
  if (g.states.size() % per_layer != 0) return contradiction("the last layer lacks states", path);
  return spec;
}

DType dtype_of(const Graph& g) {
  const auto any = [&](Numbers n) {
    return std::any_of(g.linears.begin(), g.linears.end(),
                       [&](const Linear& l) { return l.matrix.numbers == n; });
  };
  if (any(Numbers::block4)) return int4_weights;
  if (any(Numbers::block8)) return int8_weights;
  return any(Numbers::f16) ? DType::f16 : DType::f32;
}

// Width of the channel mix: that of the widest product but the head.
int ffn_width(const Graph& g) {
  int width = 0;
  for (std::size_t i = 0; i < g.linears.size(); ++i) {
    if (g.linears[i].matrix.in == g.width() && g.linears[i].matrix.out != g.vocabulary())
      width = std::max(width, g.linears[i].matrix.out);
  }
  return width;
}

std::string version_name(const std::string& text) {
  if (text.empty()) return "4";  // files before September 2023 say nothing
  return text == "5" ? "5.0" : text;
}

Result<ModelInfo> model_info(const Graph& g, const Facts& config, const std::string& path) {
  ModelInfo info;
  const bool ours = !g.facts.empty();
  if (ours && find(g.facts, "format") != "1")
    return file_error("the export is of another form, \"" + find(g.facts, "format").substr(0, 20) + "\" (" +
                      path + "): a newer program wrote it, export the model again with this one");
  info.version = version_name(find(ours ? g.facts : config, "version"));
  static constexpr std::array known{"4", "5.0", "5.1", "5.2", "6", "7"};
  if (std::find(known.begin(), known.end(), info.version) == known.end())
    return contradiction("unknown RWKV version " + info.version.substr(0, 20), path);
  info.n_layer = g.states.back().layer + 1;
  info.n_embd = g.width();
  info.n_vocab = g.vocabulary();
  info.n_ffn = ours ? number(g.facts, "ffn") : ffn_width(g);
  if (info.version != "4" && g.states.size() > 1 && g.states[1].dims.size() == 3) {
    info.n_head = g.states[1].dims[0];
    info.head_size = g.states[1].dims[2];
  }
  if (info.n_ffn <= 0) return contradiction("a channel mix of " + std::to_string(info.n_ffn), path);
  for (const auto& [key, value] : g.facts) {
    constexpr std::string_view rank = "rank_";
    if (key.starts_with(rank)) info.lora_ranks.emplace_back(key.substr(rank.size()), number(g.facts, key));
  }
  if (!ours)
    info.notes.push_back("exported by the first faster-rwkv: no sequence graph, prompts run token by token");
  return info;
}

std::int64_t parameters(const Graph& g) {
  const std::string said = find(g.facts, "parameters");
  std::int64_t n = 0;
  std::from_chars(said.data(), said.data() + said.size(), n);
  return n > 0 ? n : g.parameters;
}

// Of files that do not say whose they are: FNV-1a of the graph and of the ends of the weights.
std::string file_fingerprint(const Files& f) {
  std::uint64_t h = 0xcbf29ce484222325u;
  const auto add = [&](std::span<const std::byte> bytes) {
    for (const std::byte b : bytes) h = (h ^ std::to_integer<std::uint64_t>(b)) * 0x100000001b3u;
  };
  const auto weights = f.weights->bytes();
  const std::size_t part = std::min<std::size_t>(weights.size(), std::size_t{1} << 20);
  add(f.param->bytes());
  add(weights.first(part));
  add(weights.last(part));
  std::array<char, 16> digits;
  return {digits.data(), std::to_chars(digits.data(), digits.data() + digits.size(), h, 16).ptr};
}

std::vector<float> initial_state(const Graph& g, const StateSpec& spec) {
  std::vector<float> values(static_cast<std::size_t>(spec.size));
  for (std::size_t i = 0; i < spec.blocks.size(); ++i) {
    const StateBlock& b = spec.blocks[i];
    const auto to = values.begin() + b.offset;
    if (g.states[i].initial.empty()) {
      std::fill_n(to, b.size, b.initial);
    } else {
      std::copy(g.states[i].initial.begin(), g.states[i].initial.end(), to);
    }
  }
  return values;
}

// The two graphs must read the same weights for the same state.
Status check_sequence(const Graph& decode, const Graph& sequence, const std::string& path) {
  Facts a = decode.facts, b = sequence.facts;
  a.erase("tokens");
  b.erase("tokens");
  const bool same_states = std::equal(decode.states.begin(), decode.states.end(), sequence.states.begin(),
                                      sequence.states.end(), [](const StateBlob& x, const StateBlob& y) {
                                        return x.layer == y.layer && x.index == y.index && x.dims == y.dims;
                                      });
  if (a != b || !same_states || sequence.tokens() < 2 || sequence.vocabulary() != decode.vocabulary() ||
      sequence.width() != decode.width() || sequence.hidden_blob.empty() != decode.hidden_blob.empty()) {
    return contradiction("the graph for sequences is of another model", path);
  }
  return {};
}

Result<Exported> open(const std::string& path, const DeviceOptions& options) {
  const std::string prefix = prefix_of(path);
  FR_TRY(Files files, open_files(prefix));
  FR_TRY(Graph decode, read_graph(*files.param, *files.weights));
  if (decode.tokens() != 1) return contradiction("the graph takes more than one token", files.param->path());
  std::optional<Graph> sequence;
  if (files.sequence) {
    FR_TRY(sequence, read_graph(*files.sequence, *files.weights));
    FR_OK(check_sequence(decode, *sequence, files.sequence->path()));
  }
  Exported e;
  e.format = "ncnn";
  e.path = prefix;
  FR_TRY(e.info, model_info(decode, files.config, files.param->path()));
  FR_TRY(e.state, state_spec(decode, e.info.version, files.param->path()));
  e.dtype = dtype_of(decode);
  e.n_parameters = parameters(decode);
  e.fingerprint = find(decode.facts, "fingerprint");
  if (e.fingerprint.empty()) e.fingerprint = file_fingerprint(files);
  DeviceParts parts;
  parts.path = prefix;
  parts.dtype = e.dtype;
  parts.weights = files.weights;
  parts.initial = initial_state(decode, e.state);
  if (std::any_of(decode.states.begin(), decode.states.end(),
                  [](const StateBlob& s) { return !s.initial.empty(); }))
    e.initial_state = parts.initial;
  FR_TRY(parts.pool, ThreadPool::create(options.threads > 0 ? options.threads : available_cores()));
  FR_TRY(parts.decode, Net::create(std::move(decode), *parts.pool, files.param->path()));
  if (sequence) {
    FR_TRY(parts.sequence, Net::create(std::move(*sequence), *parts.pool, files.sequence->path()));
  }
  e.device = make_device(std::move(parts));
  e.files = {files.param, files.weights};
  if (files.sequence) e.files.push_back(files.sequence);
  return e;
}

}  // namespace
}  // namespace ncnn_backend

const GraphRunner& ncnn_runner() {
  static const GraphRunner runner{"ncnn", ncnn_backend::open};
  return runner;
}

}  // namespace fr
