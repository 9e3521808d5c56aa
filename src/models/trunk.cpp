#include "models/trunk.h"

#include <charconv>
#include <set>

namespace fr {
namespace {

// The number of layers: names "blocks.<n>.", n from 0 without gaps.
int count_layers(Sizes& sizes) {
  constexpr std::string_view prefix = "blocks.";
  std::set<int> found;
  for (const TensorView& t : sizes.file().tensors) {
    if (!t.name.starts_with(prefix)) continue;
    int layer = 0;
    const char* end = t.name.data() + t.name.size();
    const auto [after, error] = std::from_chars(t.name.data() + prefix.size(), end, layer);
    if (error == std::errc() && after != end && *after == '.' && layer >= 0) found.insert(layer);
  }
  const int n = static_cast<int>(found.size());
  for (int i = 0; i < n; ++i) sizes.require(found.contains(i), "layer " + std::to_string(i) + " is missing");
  return n;
}

// What a user may want to know about a file that runs.
std::vector<std::string> oddities(const Sizes& sizes, const ModelInfo& info) {
  std::vector<std::string> notes;
  const TensorView* emb = sizes.file().find("emb.weight");
  if (!sizes.has("blocks.0.ln0.weight") && !(emb != nullptr && emb->processed))
    notes.push_back("no ln0: the embedding is used without a layer norm");
  if (sizes.has("blocks.0.att.output.bias")) notes.push_back("the attention output has a bias");
  if (sizes.has("head.bias")) notes.push_back("the head has a bias");
  if (sizes.has("blocks.0.att.time_state")) {
    notes.push_back("carries a tuned initial state" +
                    std::string(info.version == "7" ? ", read untransposed" : ""));
  }
  std::set<DType> dtypes;
  for (const TensorView& t : sizes.file().tensors) {
    if (t.name.ends_with(".weight") && t.shape.size() == 2 && is_float_dtype(t.dtype)) dtypes.insert(t.dtype);
  }
  if (dtypes.size() > 1) notes.push_back("matrices of more than one number format");
  return notes;
}

}  // namespace

int Sizes::of(const std::string& name, std::size_t axis) {
  const TensorView* t = file_.find(name);
  require(t != nullptr, "tensor " + name + " is missing");
  if (t == nullptr) return 1;
  const bool usable = axis < t->shape.size() && t->shape[axis] >= 1 && t->shape[axis] <= (1 << 22);
  require(usable, "tensor " + name + " has the unusable shape " + t->shape_string());
  return usable ? static_cast<int>(t->shape[axis]) : 1;
}

void Sizes::require(bool condition, const std::string& what) {
  if (condition || !status_.ok()) return;
  status_ = file_error(what + " (" + file_.path + "): the file is incomplete or damaged, get the original");
}

Status Trunk::configure(const Checkpoint& file, const std::string& version) {
  Sizes sizes(file);
  info_.version = version;
  info_.n_vocab = sizes.of("emb.weight", 0);
  info_.n_embd = sizes.of("emb.weight", 1);
  info_.n_ffn = sizes.of("blocks.0.ffn.key.weight", 0);
  info_.n_layer = count_layers(sizes);
  has_ln0_ = sizes.has("blocks.0.ln0.weight");
  rescale_every_ = file.rescale_every;
  sizes.require(rescale_every_ >= 0, "x is halved every " + std::to_string(rescale_every_) + " layers");
  info_.notes = oddities(sizes, info_);
  FR_OK(sizes.status());
  configure_layers(sizes);
  return sizes.status();
}

void Trunk::set_heads(Sizes& sizes, int heads, int att) {
  sizes.require(att % heads == 0, "a time mix of width " + std::to_string(att) + " cannot have " +
                                      std::to_string(heads) + " heads, expected a multiple");
  info_.n_head = heads;
  info_.head_size = att / heads;
}

MatrixState Trunk::add_matrix_state(int layer) {
  const std::string block = "blocks." + std::to_string(layer) + ".";
  MatrixState s;
  s.att_prev = state_.add(block + "att.x_prev", layer, {info_.n_embd});
  s.kv = state_.add(block + "att.kv", layer, {info_.n_head, info_.head_size, info_.head_size});
  s.ffn_prev = state_.add(block + "ffn.x_prev", layer, {info_.n_embd});
  return s;
}

void Trunk::bind(Binder& b) {
  b.at_layer(-1, info_.n_layer);
  b.mat("emb", emb_, info_.n_vocab, info_.n_embd, MatRole::embedding);
  if (has_ln0_) b.norm("blocks.0.ln0", ln0_, info_.n_embd);
  for (int layer = 0; layer < info_.n_layer && b.ok(); ++layer) {
    b.at_layer(layer, info_.n_layer);
    bind_layer(b, layer);
  }
  b.at_layer(info_.n_layer, info_.n_layer);
  b.norm("ln_out", ln_out_, info_.n_embd);
  b.mat("head", head_, info_.n_vocab, info_.n_embd, MatRole::head);
}

// ln0 runs on the looked-up rows, so that the embedding stays in the file's mapping.
Stream Trunk::embed(Ops& op) const {
  Stream s;
  s.residual.x = op.embedding(emb_);
  if (has_ln0_) s.residual.x = add_norm(op, s.residual, ln0_);
  return s;
}

void Trunk::layers(Ops& op, Stream& stream, int begin, int end) const {
  for (int layer = begin; layer < end; ++layer) {
    run_layer(op, stream, layer);
    if (rescale_every_ == 0 || (layer + 1) % rescale_every_ != 0) continue;
    for (Tensor* part : {&stream.residual.x, &stream.residual.pending}) *part = op.affine(*part, 0.5f, 0.0f);
  }
}

Tensor Trunk::hidden(Ops& op, Stream& stream) const {
  Residual last{op.wanted(stream.residual.x), {}};
  if (stream.residual.pending) last.pending = op.wanted(stream.residual.pending);
  return add_norm(op, last, ln_out_);
}

void GatedChannelMix::bind(Binder& b, const ModelInfo& info, const std::string& mix_name,
                           Transform transform) {
  const int d = info.n_embd;
  b.norm("ln2", ln2, d);
  b.vec(mix_name + "k", mix[0], 1, d, transform);
  b.vec(mix_name + "r", mix[1], 1, d, transform);
  b.mat("ffn.key", key, info.n_ffn, d);
  b.mat("ffn.receptance", receptance, d, d);
  b.mat("ffn.value", value, d, info.n_ffn, MatRole::sparse_input);
}

void GatedChannelMix::run(Ops& op, Residual& residual) const {
  const auto [xk, xr] = norm_mix2(op, residual, ln2, previous, mix);
  residual.pending = channel_mix_gated(op, xk, xr, key, value, receptance);
}

}  // namespace fr
