// One class with a handler for each of the 21 layer types, which share its state: why the file is long.
#include "backends/ncnn/graph.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <set>

#include "base/dtype.h"

namespace fr::ncnn_backend {
namespace {

constexpr std::int64_t most_numbers = std::int64_t{1} << 26;  // of one blob
constexpr std::int64_t most_state = std::int64_t{1} << 28;    // numbers of all state blobs
constexpr std::uint32_t tag_f16 = 0x01306B47, tag_int8 = 0x000D4B38;

// At most 2^31, so that no product overflows; 0 if a dimension is not positive.
std::int64_t count(const Dims& d) {
  std::int64_t n = 1;
  for (const int i : d) n = i > 0 ? std::min(n * i, std::int64_t{1} << 31) : 0;
  return n;
}

std::string dims_text(const Dims& d) {
  std::string text;
  for (const int i : d) text.append(text.empty() ? "[" : ", ").append(std::to_string(i));
  return text.append("]");
}

// "state_3_1" or, with `prefix`, "output_state_3_1".
bool state_name(std::string_view name, std::string_view prefix, int& layer, int& index) {
  if (!name.starts_with(prefix)) return false;
  name.remove_prefix(prefix.size());
  const char* end = name.data() + name.size();
  const auto first = std::from_chars(name.data(), end, layer);
  if (first.ec != std::errc() || first.ptr == end || *first.ptr != '_') return false;
  const auto second = std::from_chars(first.ptr + 1, end, index);
  return second.ec == std::errc() && second.ptr == end && layer >= 0 && layer < 10000 && index >= 0 &&
         index < 5;
}

std::map<std::string, std::string> read_facts(const std::string& name) {
  std::map<std::string, std::string> facts;
  constexpr std::string_view start = "faster_rwkv;";
  if (!name.starts_with(start)) return facts;
  std::string_view rest = std::string_view(name).substr(start.size());
  while (!rest.empty()) {
    const std::string_view word = rest.substr(0, rest.find(';'));
    rest.remove_prefix(std::min(rest.size(), word.size() + 1));
    const std::size_t equals = word.find('=');
    if (equals != std::string_view::npos) facts.emplace(word.substr(0, equals), word.substr(equals + 1));
  }
  return facts;
}

// The first faster-rwkv wrote x * x as an operation on one blob twice, which ncnn takes only once: a Split
// before it gives two.
std::vector<ParamLayer> with_squares_split(const std::vector<ParamLayer>& layers) {
  std::vector<ParamLayer> out;
  for (ParamLayer l : layers) {
    if (l.type == "BinaryOp" && l.inputs.size() == 2 && l.inputs[0] == l.inputs[1]) {
      ParamLayer split;
      split.type = "Split";
      split.name = l.name + "_split";
      split.inputs = {l.inputs[0]};
      split.outputs = {l.inputs[0] + "_0", l.inputs[0] + "_1"};
      l.inputs = split.outputs;
      out.push_back(std::move(split));
    }
    out.push_back(std::move(l));
  }
  return out;
}

class Builder {
 public:
  Builder(const std::vector<ParamLayer>& layers, std::span<const std::byte> weights, const std::string& path)
      : layers_(with_squares_split(layers)), weights_(weights), path_(path) {}

  Result<Graph> run() {
    g_.facts = read_facts(layers_[0].name);
    const bool looked_up =
        std::any_of(layers_.begin(), layers_.end(), [](const ParamLayer& l) { return l.type == "Embed"; });
    if (layers_[0].type == "MemoryData" && !looked_up) leading_rows();
    for (; next_ < layers_.size() && problem_.empty(); ++next_) {
      layer_ = &layers_[next_];
      layer();
    }
    if (problem_.empty() && position_ != weights_.size()) {
      layer_ = nullptr;
      fail("the weights are " + std::to_string(weights_.size()) + " bytes, the graph reads " +
           std::to_string(position_));
    }
    if (problem_.empty()) finish();
    if (!problem_.empty()) {
      const std::string where = layer_ != nullptr ? ", layer " + layer_->name.substr(0, 100) : "";
      return file_error(problem_ + " (" + path_ + where + "): " + what_to_do_);
    }
    g_.text = "7767517\n" + std::to_string(n_layers_) + " " + std::to_string(n_blobs_) + "\n" + body_;
    return std::move(g_);
  }

 private:
  struct Blob {
    Dims dims;
    bool used = false;
  };
  using Handler = void (Builder::*)();
  struct Type {
    std::string_view name;
    std::string_view params;  // numbers of parameters that may occur
    int inputs, outputs;      // -1: one or more
    Handler handler;
  };

  void fail(const std::string& what,
            const std::string& what_to_do =
                "the files do not belong together or are damaged, export the model again") {
    if (problem_.empty()) problem_ = what, what_to_do_ = what_to_do;
  }
  bool require(bool condition, const std::string& what) {
    if (!condition) fail(what);
    return condition && problem_.empty();
  }

  static std::span<const Type> types();

  void layer() {
    const ParamLayer& l = *layer_;
    if (l.type.starts_with("GemvA32W")) {
      return fail("quantised weights of the first faster-rwkv's own ncnn",
                  "re-export the model: `frwkv export ncnn MODEL NAME --dtype int8` (or int4)");
    }
    const auto all = types();
    const auto type = std::find_if(all.begin(), all.end(), [&](const Type& t) { return t.name == l.type; });
    if (type == all.end()) {
      return fail("unknown layer type " + l.type.substr(0, 40),
                  "only models that faster-rwkv exported run, export it again");
    }
    for (const auto& [id, p] : l.params) {
      const std::string word = " " + std::to_string(id) + " ";
      if (!require(type->params.find(word) != std::string_view::npos,
                   "unknown parameter " + std::to_string(id)))
        return;
    }
    const auto fits = [](int expected, std::size_t n) {
      return expected < 0 ? n >= 1 : n == static_cast<std::size_t>(expected);
    };
    const bool scalar = l.type == "BinaryOp" && l.integer(1, 0) == 1;
    if (!require(fits(scalar ? 1 : type->inputs, l.inputs.size()) && fits(type->outputs, l.outputs.size()),
                 "wrong number of inputs or outputs")) {
      return;
    }
    in_.clear();
    for (const std::string& name : l.inputs) {
      const auto found = blobs_.find(name);
      if (!require(found != blobs_.end() && !found->second.used,
                   "blob " + name.substr(0, 100) + " is not there, or used twice"))
        return;
      found->second.used = true;
      in_.push_back(found->second.dims);
    }
    (this->*type->handler)();
  }

  // The outputs have these dimensions; the layer goes to ncnn as `l`.
  void emit(const ParamLayer& l, const std::vector<Dims>& outputs) {
    if (!problem_.empty() || !require(outputs.size() == l.outputs.size(), "wrong number of outputs")) return;
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      if (!require(count(outputs[i]) <= most_numbers, "a blob of " + dims_text(outputs[i]) + " numbers"))
        return;
      if (!require(blobs_.try_emplace(l.outputs[i], Blob{outputs[i]}).second,
                   "blob " + l.outputs[i] + " is there twice"))
        return;
    }
    body_ += param_line(l);
    ++n_layers_;
    n_blobs_ += outputs.size();
  }
  void emit(const Dims& output) { emit(*layer_, {output}); }
  void emit_ours(const std::string& type, std::size_t index, const Dims& output) {
    ParamLayer l = *layer_;
    l.type = type;
    l.params = {{0, Param{{static_cast<double>(index)}}}};
    emit(l, {output});
  }

  // The next bytes of the .bin; null when there are not as many.
  const std::byte* take(std::size_t size) {
    if (!require(size <= weights_.size() - position_, "the weights end too early")) return nullptr;
    const std::byte* p = weights_.data() + position_;
    position_ += size;
    return p;
  }
  std::uint32_t take_tag() {
    std::uint32_t tag = ~0u;
    if (const std::byte* p = take(sizeof tag)) std::memcpy(&tag, p, sizeof tag);
    return tag;
  }
  // Tagged numbers, f32 or f16.
  const std::byte* take_numbers(std::int64_t n, Numbers& numbers) {
    const std::uint32_t tag = take_tag();
    if (!require(tag == 0 || tag == tag_f16, "weights in an unknown number format")) return nullptr;
    numbers = tag == 0 ? Numbers::f32 : Numbers::f16;
    g_.parameters += n;
    const auto size = static_cast<std::size_t>(n);
    return take(tag == 0 ? size * sizeof(float) : (size * sizeof(std::uint16_t) + 3) / 4 * 4);
  }
  const std::byte* take_floats(std::int64_t n) {
    g_.parameters += n;
    return take(static_cast<std::size_t>(n) * sizeof(float));
  }
  // To memory. Empty on errors.
  std::vector<float> read_floats(const std::byte* p, std::int64_t n, Numbers numbers) {
    std::vector<float> values;
    if (p == nullptr) return values;
    values.resize(static_cast<std::size_t>(n));
    read_row({.numbers = numbers, .out = 1, .in = static_cast<int>(n), .data = p}, 0, values);
    const bool finite = std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); });
    require(finite, "weights that are not finite");
    return values;
  }

  // w, h, c as parameters 0, 1, 2.
  Dims dims_of(const ParamLayer& l) {
    Dims d;
    for (int id = 2; id >= 0; --id) {
      const int n = l.integer(id, 0);
      if (n == 0 && d.empty()) continue;
      if (!require(n > 0 && n <= most_numbers, "wrong dimensions")) return {1};
      d.push_back(n);
    }
    require(!d.empty() && count(d) <= most_numbers, "wrong dimensions");
    return d.empty() ? Dims{1} : d;
  }

  // Files before October 2023 have no Embed layer: they begin with a MemoryData layer for every token.
  void leading_rows() {
    Table& t = g_.table;
    std::size_t first = 0, stride = 0;
    for (; next_ < layers_.size() && layers_[next_].type == "MemoryData"; ++next_) {
      layer_ = &layers_[next_];
      const Dims d = dims_of(*layer_);
      const std::size_t begin = position_;
      Numbers numbers = Numbers::f32;
      const std::byte* p =
          layer_->integer(21, 1) == 0 ? take_numbers(count(d), numbers) : take_floats(count(d));
      if (p == nullptr) return;
      if (next_ == 0) {
        t.matrix = {.numbers = numbers, .in = d.back(), .data = p};
        first = begin, stride = position_ - begin;
      }
      if (!require(d == Dims{t.matrix.in} && numbers == t.matrix.numbers && begin == first + next_ * stride,
                   "a row of the embedding unlike the others"))
        return;
    }
    t.matrix.out = static_cast<int>(next_);
    const std::size_t row =
        static_cast<std::size_t>(t.matrix.in) * (t.matrix.numbers == Numbers::f32 ? 4 : 2);
    t.row_gap = stride - row;
  }

  void input() {
    const std::string& name = layer_->outputs[0];
    const Dims d = dims_of(*layer_);
    if (name == "input_id") {
      if (require(d.size() == 1 && d[0] <= 4096, "input_id of " + dims_text(d)))
        tokens_ = d[0], blobs_[name] = {d};
      return;
    }
    if (name == "input") {
      if (!require(g_.table.matrix.data != nullptr && d == Dims{g_.table.matrix.in},
                   "an input that is no embedding"))
        return;
      g_.row_blob = name;
      g_.row_dims = d;
    } else {
      StateBlob s{0, 0, name, "output_" + name, d, {}};
      if (!require(state_name(name, "state_", s.layer, s.index), "unknown input " + name.substr(0, 100)))
        return;
      g_.states.push_back(std::move(s));
    }
    emit(d);
  }

  // Instead of the lookup ncnn gets its result.
  void embed() {
    const int width = layer_->integer(0, 0), rows = layer_->integer(1, 0), group = layer_->integer(4, 0);
    const std::int64_t size = std::int64_t{width} * rows;
    const bool sane = width > 0 && rows > 0 && size <= 0x7fffffff && layer_->integer(3, 0) == size &&
                      (group == 0 || (group == 64 && width % group == 0)) && layer_->inputs[0] == "input_id";
    if (!require(sane && g_.table.matrix.data == nullptr, "a wrong embedding")) return;
    Matrix& m = g_.table.matrix;
    m.out = rows;
    m.in = width;
    if (group == 0) {
      m.data = take_numbers(size, m.numbers);
    } else {
      require(take_tag() == tag_int8, "weights in an unknown number format");
      m.numbers = Numbers::group64;
      m.data = take((static_cast<std::size_t>(size) + 3) / 4 * 4);
      Numbers scales = Numbers::f32;
      g_.parameters += size - size / group;
      m.scales = take_numbers(size / group, scales);
      require(scales == Numbers::f16, "weights in an unknown number format");
    }
    g_.row_blob = layer_->outputs[0];
    g_.row_dims = {tokens_, width};
    ParamLayer l{"Input", layer_->name, {}, {g_.row_blob}, {}};
    l.params[0].values = {static_cast<double>(width)};
    l.params[1].values = {static_cast<double>(tokens_)};
    emit(l, {g_.row_dims});
  }

  void memory_data() {
    const Dims d = dims_of(*layer_);
    if (!problem_.empty()) return;
    const int load_type = layer_->integer(21, 1);
    require(load_type == 0 || load_type == 1, "unknown parameters");
    const std::int64_t before = g_.parameters;
    Numbers numbers = Numbers::f32;
    const std::byte* p = load_type == 0 ? take_numbers(count(d), numbers) : take_floats(count(d));
    std::vector<float> values = read_floats(p, count(d), numbers);
    int layer = 0, index = 0;
    if (state_name(layer_->outputs[0], "initial_state_", layer, index)) {
      g_.parameters = before;
      const auto s = std::find_if(g_.states.begin(), g_.states.end(),
                                  [&](const StateBlob& b) { return b.layer == layer && b.index == index; });
      if (require(s != g_.states.end() && s->dims == d, "an initial state without its state"))
        s->initial = std::move(values);
      return;
    }
    g_.constants.push_back({d, std::move(values)});
    emit_ours("fr_constant", g_.constants.size() - 1, d);
  }

  void split() { emit(*layer_, std::vector<Dims>(layer_->outputs.size(), in_[0])); }
  void same() { emit(in_[0]); }

  void unary() {
    const int code = layer_->integer(0, 0);
    require(code == 1 || code == 4 || code == 5 || code == 7, "unknown operation " + std::to_string(code));
    same();
  }

  void binary() {
    const int code = layer_->integer(0, 0), scalar = layer_->integer(1, 0);
    if (!require(((code >= 0 && code <= 4) || code == 7) && (scalar == 0 || scalar == 1),
                 "unknown operation " + std::to_string(code))) {
      return;
    }
    if (scalar == 1) return require(std::isfinite(layer_->real(2)), "its number is missing"), same();
    Dims d = in_[0];
    const Dims& b = in_[1];
    bool fits = d.size() == b.size();
    for (std::size_t i = 0; fits && i < d.size(); ++i) {
      fits = d[i] == b[i] || d[i] == 1 || b[i] == 1;
      d[i] = std::max(d[i], b[i]);
    }
    if (require(fits, "operands of " + dims_text(in_[0]) + " and " + dims_text(b))) emit(d);
  }

  void layer_norm() {
    const int size = layer_->integer(0, 0), affine = layer_->integer(2, 1);
    const float eps = layer_->real(1);
    if (!require(size == in_[0].back() && (affine == 0 || affine == 1) && eps > 0 && eps < 1,
                 "a wrong layer norm"))
      return;
    if (affine == 1) {
      const std::vector<float> values = read_floats(take_floats(2 * size), 2 * size, Numbers::f32);
      g_.norms.insert(g_.norms.end(), values.begin(), values.end());
    }
    same();
  }

  void reshape() {
    Dims d;
    for (int id = 2; id >= 0; --id) {
      if (!layer_->params.contains(id)) continue;
      int n = layer_->integer(id, -1);
      // 0: as in the input, whose missing dimensions are 1.
      const auto axis = static_cast<std::size_t>(id);
      if (n == 0) n = axis < in_[0].size() ? in_[0][in_[0].size() - 1 - axis] : 1;
      d.push_back(n);
    }
    const auto open = std::find(d.begin(), d.end(), -1);
    if (open != d.end()) {
      *open = 1;
      const std::int64_t rest = std::all_of(d.begin(), d.end(), [](int n) { return n > 0; }) ? count(d) : 0;
      *open = rest > 0 ? static_cast<int>(count(in_[0]) / rest) : 0;
    }
    const bool positive =
        !d.empty() && std::all_of(d.begin(), d.end(), [](int n) { return n > 0 && n <= most_numbers; });
    if (!require(positive && layer_->params.contains(0) && layer_->params.size() == d.size() &&
                     (d.size() < 3 || layer_->params.contains(1)) && count(d) == count(in_[0]),
                 "it cannot make " + dims_text(d) + " of " + dims_text(in_[0]))) {
      return;
    }
    ParamLayer l = *layer_;
    for (std::size_t i = 0; i < d.size(); ++i)
      l.params[static_cast<int>(i)] = Param{{static_cast<double>(d[d.size() - 1 - i])}};
    emit(l, {d});
  }

  void flatten() { emit({static_cast<int>(count(in_[0]))}); }

  void crop() {
    const std::vector<int> begin = layer_->integers(9), end = layer_->integers(10),
                           axis = layer_->integers(11);
    Dims d = in_[0];
    const bool one = begin.size() == 1 && end.size() == 1 && axis.size() == 1;
    if (!require(one && axis[0] >= 0 && axis[0] < static_cast<int>(d.size()) && begin[0] >= 0 &&
                     begin[0] < end[0] && end[0] <= d[static_cast<std::size_t>(axis[0])],
                 "it cannot be cut out of " + dims_text(d))) {
      return;
    }
    d[static_cast<std::size_t>(axis[0])] = end[0] - begin[0];
    emit(d);
  }

  void slice() {
    const std::vector<int> sizes = layer_->integers(0);
    const int axis = layer_->integer(1, 0);
    Dims d = in_[0];
    if (!require(axis >= 0 && axis < static_cast<int>(d.size()), "it has no axis " + std::to_string(axis)))
      return;
    std::vector<Dims> parts;
    std::int64_t sum = 0;
    int& part = d[static_cast<std::size_t>(axis)];
    const int whole = part;
    bool positive = true;
    for (const int n : sizes) {
      positive = positive && n > 0;
      part = n;
      sum += n;
      parts.push_back(d);
    }
    if (require(positive && sum == whole, "its parts do not make " + dims_text(in_[0]))) emit(*layer_, parts);
  }

  void concat() {
    Dims d = in_[0];
    require(layer_->integer(0, 0) == 0, "unknown axis");
    for (std::size_t i = 1; i < in_.size(); ++i) {
      const bool fits = in_[i].size() == d.size() && std::equal(d.begin() + 1, d.end(), in_[i].begin() + 1) &&
                        d[0] <= most_numbers;
      if (!require(fits, "parts of " + dims_text(in_[0]) + " and " + dims_text(in_[i]))) return;
      d[0] += in_[i][0];
    }
    emit(d);
  }

  void reduction() {
    const int code = layer_->integer(0, 0);
    if (!require((code == 0 || code == 8) && layer_->integer(1, 1) == 0 &&
                     layer_->integers(3) == std::vector<int>{-1} && layer_->integer(4, 0) == 1 &&
                     layer_->integer(5, 0) == 1,
                 "unknown parameters")) {
      return;
    }
    Dims d = in_[0];
    d.back() = 1;
    emit(d);
  }

  // {M, K} x {K, N}, or {N, K} when transposed, for one or several heads; {K} x {K, N}.
  void matmul() {
    const Dims &a = in_[0], &b = in_[1];
    const int transposed = layer_->integer(0, 0);
    const std::size_t rank = b.size();
    bool fits = (transposed == 0 || transposed == 1) && rank >= 2 &&
                (a.size() == rank || (a.size() == 1 && rank == 2)) && (rank == 2 || a[0] == b[0]);
    Dims d = a;
    if (fits) {
      fits = a.back() == (transposed == 1 ? b[rank - 1] : b[rank - 2]);
      d.back() = transposed == 1 ? b[rank - 2] : b[rank - 1];
    }
    if (require(fits, "factors of " + dims_text(a) + " and " + dims_text(b))) emit(d);
  }

  void add_linear(const Matrix& m, Activation activation) {
    Dims d = in_[0];
    if (!require(d.size() <= 2 && d.back() == m.in,
                 "an input of " + dims_text(d) + " for a matrix of " + dims_text({m.out, m.in})) ||
        m.data == nullptr) {
      return;
    }
    d.back() = m.out;
    g_.linears.push_back({m, activation});
    if (layer_->outputs[0] == "output" && activation == Activation::none) {
      g_.hidden_blob = layer_->inputs[0];
      g_.hidden_dims = in_[0];
      g_.head = g_.linears.size() - 1;
    }
    emit_ours("fr_linear", g_.linears.size() - 1, d);
  }

  void inner_product() {
    const int out = layer_->integer(0, 0), bias = layer_->integer(1, 0), size = layer_->integer(2, 0),
              code = layer_->integer(9, 0);
    if (!require(out > 0 && size > 0 && size % out == 0 && (bias == 0 || bias == 1) &&
                     (code == 0 || code == 1 || code == 4),
                 "wrong parameters")) {
      return;
    }
    Matrix m{.out = out, .in = size / out};
    m.data = take_numbers(size, m.numbers);
    if (bias == 1) m.bias = take_floats(out);
    add_linear(m, code == 1 ? Activation::relu : code == 4 ? Activation::sigmoid : Activation::none);
  }

  void gemm() {
    const ParamLayer& l = *layer_;
    Matrix m{.transposed = l.integer(3, 0) == 0, .out = l.integer(8, 0), .in = l.integer(9, 0)};
    const int format = l.integer(18, 0), bias = l.integer(10, 0);
    const std::int64_t size = std::int64_t{m.out} * m.in;
    const bool sane = l.integer(2, 0) == 0 && l.integer(4, 0) == 0 && l.integer(5, 0) == 1 &&
                      l.integer(6, 0) == 1 && l.integer(7, 0) == 0 && m.out > 0 && m.in > 0 &&
                      size <= 0x7fffffff && (bias == -1 || bias == 4) &&
                      (format == 0 || ((format == 800 || format == 400) && !m.transposed && m.in % 32 == 0));
    if (!require(sane, "wrong parameters")) return;
    const auto bytes = static_cast<std::size_t>(size);
    if (format == 0) {
      m.data = take_numbers(size, m.numbers);
    } else {
      m.numbers = format == 800 ? Numbers::block8 : Numbers::block4;
      m.data = take(format == 800 ? bytes : bytes / 2);
      g_.parameters += size;
    }
    if (bias == 4) {
      Numbers numbers = Numbers::f32;
      m.bias = take_numbers(m.out, numbers);
      require(numbers == Numbers::f32, "weights in an unknown number format");
    }
    if (format != 0) m.scales = take(bytes / 32 * sizeof(float));
    add_linear(m, Activation::none);
  }

  void finish() {
    layer_ = nullptr;
    const auto dims = [&](const std::string& name) {
      const auto found = blobs_.find(name);
      return found != blobs_.end() && !found->second.used ? found->second.dims : Dims{};
    };
    g_.output_blob = "output";
    g_.output_dims = dims("output");
    if (!require(!g_.row_blob.empty() && !g_.output_dims.empty() && g_.output_dims.size() <= 2 &&
                     !g_.states.empty(),
                 "it has no embedding, no states or no output")) {
      return;
    }
    const auto rows = [](const Dims& d) { return d.size() == 1 ? 1 : d[0]; };
    if (!require(rows(g_.output_dims) == g_.tokens() && g_.output_dims.back() == g_.table.matrix.out,
                 "an output of " + dims_text(g_.output_dims) + " for a vocabulary of " +
                     std::to_string(g_.table.matrix.out)))
      return;
    for (const StateBlob& s : g_.states) {
      if (!require(dims(s.out) == s.dims, "state " + s.in + " comes in as " + dims_text(s.dims) +
                                              " and goes out as " + dims_text(dims(s.out))))
        return;
    }
    std::int64_t state = 0;
    for (const StateBlob& s : g_.states) state += count(s.dims);
    require(state <= most_state, "a state of " + std::to_string(state) + " numbers");
    std::sort(g_.states.begin(), g_.states.end(), [](const StateBlob& a, const StateBlob& b) {
      return std::pair(a.layer, a.index) < std::pair(b.layer, b.index);
    });
  }

  const std::vector<ParamLayer> layers_;
  const std::span<const std::byte> weights_;
  const std::string& path_;
  Graph g_;
  std::size_t next_ = 0, position_ = 0, n_layers_ = 0, n_blobs_ = 0;
  const ParamLayer* layer_ = nullptr;
  std::vector<Dims> in_;  // of the layer's inputs
  std::map<std::string, Blob> blobs_;
  std::string body_, problem_, what_to_do_;
  int tokens_ = 1;
};

std::span<const Builder::Type> Builder::types() {
  using B = Builder;
  static const std::array all{
      Type{"BinaryOp", " 0 1 2 ", 2, 1, &B::binary},
      Type{"Concat", " 0 ", -1, 1, &B::concat},
      Type{"Crop", " 9 10 11 ", 1, 1, &B::crop},
      Type{"Embed", " 0 1 3 4 ", 1, 1, &B::embed},
      Type{"Exp", "", 1, 1, &B::same},
      Type{"Flatten", "", 1, 1, &B::flatten},
      Type{"Gemm", " 2 3 4 5 6 7 8 9 10 18 ", 1, 1, &B::gemm},
      Type{"InnerProduct", " 0 1 2 9 ", 1, 1, &B::inner_product},
      Type{"Input", " 0 1 2 ", 0, 1, &B::input},
      Type{"LayerNorm", " 0 1 2 ", 1, 1, &B::layer_norm},
      Type{"MatMul", " 0 ", 2, 1, &B::matmul},
      Type{"MemoryData", " 0 1 2 21 ", 0, 1, &B::memory_data},
      Type{"ReLU", "", 1, 1, &B::same},
      Type{"Reduction", " 0 1 3 4 5 ", 1, 1, &B::reduction},
      Type{"Reshape", " 0 1 2 ", 1, 1, &B::reshape},
      Type{"Sigmoid", "", 1, 1, &B::same},
      Type{"Slice", " 0 1 ", 1, -1, &B::slice},
      Type{"Split", "", 1, -1, &B::split},
      Type{"Swish", "", 1, 1, &B::same},
      Type{"TanH", "", 1, 1, &B::same},
      Type{"UnaryOp", " 0 ", 1, 1, &B::unary},
  };
  return all;
}

}  // namespace

void Table::read(int row, std::span<float> out) const {
  if (row_gap == 0) return read_row(matrix, row, out);
  Matrix one = matrix;
  one.data += static_cast<std::size_t>(row) *
              (static_cast<std::size_t>(matrix.in) * (matrix.numbers == Numbers::f32 ? 4 : 2) + row_gap);
  read_row(one, 0, out);
}

Result<Graph> make_graph(const std::vector<ParamLayer>& layers, std::span<const std::byte> weights,
                         const std::string& path) {
  return Builder(layers, weights, path).run();
}

}  // namespace fr::ncnn_backend
