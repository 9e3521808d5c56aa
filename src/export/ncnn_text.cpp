// The text of a lowered graph: names of blobs and layers, Split layers.
#include <array>
#include <span>

#include "export/ncnn_lower.h"

namespace fr {
namespace {

// Gives every use of a blob a name of its own, and says where Split layers are needed.
class Names {
 public:
  explicit Names(const NcnnGraph& g)
      : g_(g), uses_(g.blobs.size(), 0), taken_(g.blobs.size(), 0), out_(g.blobs.size()) {
    for (const NcnnLayer& l : g.layers) {
      for (const int b : l.inputs) ++uses_.at(at(b));
    }
    for (const auto& [name, b] : g.outputs) {
      ++uses_.at(at(b));
      out_.at(at(b)).push_back(name);
    }
  }
  bool split(int b) const { return uses_.at(at(b)) > 1; }
  std::string produced(int b) const {
    if (!g_.blobs.at(at(b)).empty()) return g_.blobs.at(at(b));
    return !split(b) && !out_.at(at(b)).empty() ? out_.at(at(b))[0]
                                                : std::string("b").append(std::to_string(b));
  }
  std::string consumed(int b) { return split(b) ? use(b, taken_.at(at(b))++) : produced(b); }
  // The names of all uses: those by layers first.
  std::vector<std::string> all_uses(int b) const {
    std::vector<std::string> names;
    for (int i = 0; i < uses_.at(at(b)); ++i) names.push_back(use(b, i));
    return names;
  }

 private:
  static std::size_t at(int b) { return static_cast<std::size_t>(b); }
  std::string use(int b, int i) const {
    const std::vector<std::string>& out = out_.at(at(b));
    const int inner = uses_.at(at(b)) - static_cast<int>(out.size());
    return i >= inner ? out.at(at(i - inner)) : produced(b) + "_" + std::to_string(i);
  }
  const NcnnGraph& g_;
  std::vector<int> uses_, taken_;
  std::vector<std::vector<std::string>> out_;
};

}  // namespace

Result<std::string> NcnnGraph::text() const {
  constexpr int most = 1000000;  // layers and blobs that ncnn loads
  Names names(*this);
  std::string body;
  int n_layers = 0, n_blobs = 0;
  const auto line = [&](const std::string& type, const std::string& name, std::span<const std::string> in,
                        std::span<const std::string> out, const std::string& params) {
    body += type + " " + name + " " + std::to_string(in.size()) + " " + std::to_string(out.size());
    for (const std::string& b : in) body += " " + b;
    for (const std::string& b : out) body += " " + b;
    body += params + "\n";
    ++n_layers;
    n_blobs += static_cast<int>(out.size());
  };
  for (const NcnnLayer& l : layers) {
    std::vector<std::string> in, out;
    for (const int b : l.inputs) in.push_back(names.consumed(b));
    for (const int b : l.outputs) out.push_back(names.produced(b));
    line(l.type, l.name, in, out, l.params);
    for (const int b : l.outputs) {
      if (names.split(b))
        line("Split", "split_" + std::to_string(b), std::array{names.produced(b)}, names.all_uses(b), "");
    }
    if (n_layers > most || n_blobs > most) {
      return usage_error("the graph needs more than " + std::to_string(most) +
                         " layers (ncnn export): ncnn does not load that, use a smaller chunk");
    }
  }
  return "7767517\n" + std::to_string(n_layers) + " " + std::to_string(n_blobs) + "\n" + body;
}

}  // namespace fr
