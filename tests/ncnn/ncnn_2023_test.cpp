// v4 files as the first faster-rwkv wrote them in 2023 (kernels/export-ncnn of that project): both input
// conventions, with and without .config; and its quantised files, which are refused.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>

#include "exported.h"

namespace fr::test {
namespace {

constexpr int width = 64, vocabulary = 40, layers = 2, ffn = 96;

// fp16 weights; the embedding holds multiples of 1/128 up to 127/128, which its int8 groups of 2023 hold
// exactly.
Checkpoint model() {
  RandomShape s;
  s.version = "4";
  s.n_layer = layers;
  s.n_embd = width;
  s.n_ffn = ffn;
  s.n_vocab = vocabulary;
  s.ln0 = false;  // its converter normalised the embedding
  Checkpoint file = need(random_checkpoint(s, {.dtype = DType::f16, .seed = 9}));
  TensorView* emb = const_cast<TensorView*>(file.find("emb.weight"));
  emb->processed = true;
  auto* numbers = reinterpret_cast<std::uint16_t*>(const_cast<std::byte*>(emb->data));
  for (int i = 0; i < vocabulary * width; ++i)
    numbers[i] = float_to_half(std::round(half_to_float(numbers[i]) * 127) / 128);
  return file;
}

class OldFile {
 public:
  explicit OldFile(const Checkpoint& file) : file_(file) {}

  void write(const std::string& prefix, int impl_version, bool config) {
    std::string x = impl_version == 2 ? lookup() : rows();
    for (int i = 0; i < layers; ++i) x = layer(i, x);
    output(matmul(layer_norm(x, "ln_out"), "head.weight"), "output");
    std::ofstream(prefix + ".param") << "7767517\n" << n_layers_ << " " << n_blobs_ << "\n" << body_;
    std::ofstream(prefix + ".bin", std::ios::binary)
        .write(bin_.data(), static_cast<std::streamsize>(bin_.size()));
    if (!config) return;
    std::ofstream(prefix + ".config")
        << "version: 4\nact_dtype: fp32\nweight_dtype: fp16\nhead_size: 0\nn_layer: " << layers
        << "\nn_embd: " << width << "\nn_att: " << width << "\nn_ffn: " << ffn << "\n"
        << (impl_version == 2 ? "ncnn_impl_version: 2\n" : "");
  }

 private:
  using Blobs = std::vector<std::string>;

  void line(const std::string& type, const Blobs& in, const Blobs& out, const std::string& params) {
    body_ += type + std::string(type.size() < 16 ? 16 - type.size() : 0, ' ') + " " +
             std::to_string(n_layers_++) + "    ";
    body_ += std::to_string(in.size()) + " " + std::to_string(out.size());
    for (const std::string& b : in) body_ += " " + b;
    for (const std::string& b : out) body_ += " " + b;
    body_ += params + "\n";
    n_blobs_ += out.size();
  }
  std::string op(const std::string& type, const Blobs& in, const std::string& params = "") {
    const std::string out = "blob" + std::to_string(n_blobs_);
    line(type, in, {out}, params);
    return out;
  }
  Blobs split(const std::string& x, int n) {
    Blobs out;
    for (int i = 0; i < n; ++i) out.push_back("blob" + std::to_string(n_blobs_) + "_" + std::to_string(i));
    line("Split", {x}, out, "");
    return out;
  }
  void output(const std::string& x, const std::string& name) { line("Split", {x}, {name}, ""); }

  template <class T>
  void put(const T& value) {
    bin_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  std::vector<float> read(const std::string& name) const {
    const TensorView* t = file_.find(name);
    std::vector<float> values(static_cast<std::size_t>(t->size()));
    t->read(0, values);
    return values;
  }
  void put_half(float x) { put(float_to_half(x)); }

  // October 2023 and later: token ids, int8 rows with a scale for every 64 numbers.
  // A constant that nobody reads stands before the inputs.
  std::string lookup() {
    memory_data(std::vector<float>(64, 1.0f), true);
    line("Input", {}, {"input_id"}, " 0=1");
    states();
    const std::string x = op("Embed", {"input_id"}, " 0=64 1=40 3=2560 4=64");
    put(std::uint32_t{0x000D4B38});
    for (const float v : read("emb.weight")) put(static_cast<std::int8_t>(v * 128));
    put(std::uint32_t{0x01306B47});
    for (int i = 0; i < vocabulary; ++i) put_half(1.0f / 128);
    return op("Reshape", {x}, " 0=-1");
  }
  // Before: a layer for every row, and the row as input.
  std::string rows() {
    const std::vector<float> all = read("emb.weight");
    for (int i = 0; i < vocabulary; ++i)
      memory_data({all.begin() + i * width, all.begin() + (i + 1) * width}, true);
    line("Input", {}, {"input"}, " 0=64");
    states();
    return "input";
  }
  void states() {
    for (int i = 0; i < layers; ++i) {
      for (int j = 0; j < 5; ++j) line("Input", {}, {state(i, j)}, " 0=64");
    }
  }
  static std::string state(int i, int j) { return "state_" + std::to_string(i) + "_" + std::to_string(j); }

  std::string memory_data(const std::vector<float>& values, bool half) {
    const std::string x = op("MemoryData", {}, " 0=" + std::to_string(values.size()) + " 21=0");
    put(std::uint32_t{half ? 0x01306B47u : 0u});
    for (const float v : values) half ? put_half(v) : put(v);
    return x;
  }
  std::string matmul(const std::string& x, const std::string& name) {
    const TensorView* t = file_.find(name);
    const std::vector<float> w = read(name);  // [out][in]; the file holds [in][out]
    const auto out = static_cast<std::size_t>(t->shape[0]), in = static_cast<std::size_t>(t->shape[1]);
    put(std::uint32_t{0x01306B47});
    for (std::size_t k = 0; k < in; ++k) {
      for (std::size_t n = 0; n < out; ++n) put_half(w[n * in + k]);
    }
    const std::string row = op("Reshape", {x}, " 0=0 1=1");
    const std::string y = op(
        "Gemm", {row}, " 4=0 5=1 6=1 7=0 8=" + std::to_string(out) + " 9=" + std::to_string(in) + " 10=-1");
    return op("Reshape", {y}, " 0=-1");
  }
  std::string layer_norm(const std::string& x, const std::string& name) {
    const std::string y = op("LayerNorm", {x}, " 0=64 1=1.000000e-05 2=1");
    for (const char* part : {".weight", ".bias"}) {
      for (const float v : read(name + part)) put(v);
    }
    return y;
  }
  std::string binary(int code, const std::string& a, const std::string& b) {
    return op("BinaryOp", {a, b}, " 0=" + std::to_string(code));
  }
  std::string add(const std::string& a, const std::string& b) { return binary(0, a, b); }
  std::string mul(const std::string& a, const std::string& b) { return binary(2, a, b); }

  // xx m + sx (1 - m)
  std::string mix(const std::string& xx, const std::string& sx, const std::string& name) {
    const Blobs m = split(memory_data(read(name), true), 2);
    const std::string left = mul(xx, m[0]);
    return add(left, mul(sx, op("BinaryOp", {m[1]}, " 0=7 1=1 2=1.000000e+00")));
  }

  std::string layer(int i, const std::string& input) {
    const std::string block = "blocks." + std::to_string(i) + ".", att = block + "att.";
    const Blobs x = split(input, 2), xx = split(layer_norm(x[0], block + "ln1"), 4),
                sx = split(state(i, 0), 3);
    const std::string kx = mix(xx[0], sx[0], att + "time_mix_k"), vx = mix(xx[1], sx[1], att + "time_mix_v"),
                      rx = mix(xx[2], sx[2], att + "time_mix_r");
    const std::string r = op("Sigmoid", {matmul(rx, att + "receptance.weight")});
    const Blobs k = split(matmul(kx, att + "key.weight"), 3), v = split(matmul(vx, att + "value.weight"), 2);
    const Blobs ww = split(add(memory_data(read(att + "time_first"), false), k[0]), 2),
                pp = split(state(i, 3), 3);
    const Blobs p = split(binary(4, pp[0], ww[0]), 2);
    const Blobs e1 = split(op("Exp", {binary(1, pp[1], p[0])}), 2),
                e2 = split(op("Exp", {binary(1, ww[1], p[1])}), 2);
    const Blobs aa = split(state(i, 1), 2), bb = split(state(i, 2), 2);
    const std::string above = add(mul(e1[0], aa[0]), mul(e2[0], v[0]));
    const std::string wkv = binary(3, above, add(mul(e1[1], bb[0]), e2[1]));
    std::vector<float> decay = read(att + "time_decay");
    for (float& d : decay) d = -std::exp(d);
    const Blobs faded = split(add(memory_data(decay, false), pp[2]), 2);
    const Blobs q = split(binary(4, faded[0], k[1]), 3);
    const Blobs f1 = split(op("Exp", {binary(1, faded[1], q[0])}), 2),
                f2 = split(op("Exp", {binary(1, k[2], q[1])}), 2);
    const std::string out = matmul(mul(r, wkv), att + "output.weight");
    const std::string next = add(x[1], out);
    output(xx[3], "output_" + state(i, 0));
    output(add(mul(f1[0], aa[1]), mul(f2[0], v[1])), "output_" + state(i, 1));
    output(add(mul(f1[1], bb[1]), f2[1]), "output_" + state(i, 2));
    output(q[2], "output_" + state(i, 3));
    return channel_mix(i, next);
  }

  std::string channel_mix(int i, const std::string& input) {
    const std::string block = "blocks." + std::to_string(i) + ".", name = block + "ffn.";
    const Blobs x = split(input, 2), xx = split(layer_norm(x[0], block + "ln2"), 3),
                sx = split(state(i, 4), 2);
    const std::string kx = mix(xx[0], sx[0], name + "time_mix_k"),
                      rx = mix(xx[1], sx[1], name + "time_mix_r");
    const std::string r = op("Sigmoid", {matmul(rx, name + "receptance.weight")});
    const std::string k = op("ReLU", {matmul(kx, name + "key.weight")});
    const std::string out = mul(r, matmul(mul(k, k), name + "value.weight"));  // one blob, twice
    output(xx[2], "output_" + state(i, 4));
    return add(x[1], out);
  }

  const Checkpoint& file_;
  std::string body_, bin_;
  std::size_t n_layers_ = 0, n_blobs_ = 0;
};

TEST(Ncnn2023, FilesOfTheFirstProjectRun) {
  std::vector<std::int32_t> tokens;
  for (int i = 0; i < 60; ++i) tokens.push_back((i * i + 3) % vocabulary);
  DeviceRunner reference(model(), {});
  reference.reserve(1);
  const std::vector<float> expected = reference.step(whole(tokens)), state = reference.export_state(0);
  const Checkpoint file = model();
  for (const int version : {1, 2}) {
    for (const bool config : {true, false}) {
      SCOPED_TRACE("version " + std::to_string(version) + (config ? " with" : " without") + " .config");
      Folder folder;
      OldFile(file).write(folder.prefix(), version, config);
      ExportedRunner runner(folder.prefix());
      EXPECT_EQ(runner.info().version, "4");
      EXPECT_EQ(runner.info().n_ffn, ffn);
      EXPECT_EQ(runner.exported().dtype, DType::f16);
      EXPECT_FALSE(runner.exported().fingerprint.empty());
      runner.reserve(1);
      const std::vector<float> found = runner.step(whole(tokens));
      ASSERT_EQ(found.size(), expected.size());
      EXPECT_LE(relative_l2(found, expected), 5e-5);
      EXPECT_LE(relative_l2(runner.export_state(0), state), 5e-5);
    }
  }
}

TEST(Ncnn2023, ItsQuantisedFilesAreRefusedByName) {
  Folder folder;
  std::ofstream(folder.prefix() + ".param")
      << "7767517\n3 3\nInput 0 0 1 input_id 0=1\nInput 1 0 1 state_0_0 0=64\n"
         "GemvA32W4 2 1 1 state_0_0 x 0=64 1=64 11=8 22=16\n";
  std::ofstream(folder.prefix() + ".bin") << std::string(4096, 'x');
  const Result<Exported> result = find_runner("ncnn")->open(folder.prefix(), {});
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.error().message.find("re-export"), std::string::npos) << result.error().message;
}

}  // namespace
}  // namespace fr::test
