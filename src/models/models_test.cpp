#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "models/model.h"
#include "models/random_checkpoint.h"

namespace fr {
namespace {

constexpr const char* versions[] = {"4", "5.0", "5.1", "5.2", "6", "7"};

RandomShape small(const std::string& version) {
  RandomShape s;
  s.version = version;
  s.n_embd = 12;
  s.head_size = 4;
  s.n_ffn = 20;
  s.n_vocab = 9;
  s.rank_mix = 2;
  s.rank_w = 3;
  s.rank_a = 5;
  s.rank_v = 1;
  s.rank_g = 6;
  return s;
}

Checkpoint random_file(const std::string& version) {
  Result<Checkpoint> file = random_checkpoint(small(version));
  EXPECT_TRUE(file.ok());
  file->path = "m.pth";
  return std::move(file).value();
}

void rename(Checkpoint& file, const std::string& from, const std::string& to) {
  for (TensorView& t : file.tensors) {
    if (const std::size_t at = t.name.find(from); at != std::string::npos)
      t.name.replace(at, from.size(), to);
  }
  file.index();
}
void erase(Checkpoint& file, const std::string& part) {
  std::erase_if(file.tensors, [&](const TensorView& t) { return t.name.find(part) != std::string::npos; });
  file.index();
}
TensorView& at(Checkpoint& file, const std::string& name) {
  for (TensorView& t : file.tensors) {
    if (t.name == name) return t;
  }
  ADD_FAILURE() << name;
  return file.tensors.front();
}
// A tensor of row-major floats that the caller keeps.
void add(Checkpoint& file, const std::string& name, std::vector<std::int64_t> shape, const float* data) {
  TensorView t{name, DType::f32, std::move(shape), {}, reinterpret_cast<const std::byte*>(data)};
  t.stride.resize(t.shape.size());
  std::int64_t stride = 1;
  for (std::size_t d = t.shape.size(); d-- > 0; stride *= t.shape[d]) t.stride[d] = stride;
  file.tensors.push_back(std::move(t));
  file.index();
}
Checkpoint names_only(const std::vector<std::string>& names) {
  static const float zero = 0;
  Checkpoint file;
  file.path = "m.pth";
  for (const std::string& name : names) add(file, name, {1, 1}, &zero);
  return file;
}

class CountingStore final : public WeightStore {
 public:
  Result<Tensor> add_vector(std::span<const float> values, Shape shape) override {
    for (const float x : values) sum += std::abs(x);
    return Tensor{vectors++, shape, Extent::one};
  }
  Result<Mat> add_matrix(const TensorView& w, MatRole role, const Checkpoint&) override {
    Mat m;
    m.id = matrices++;
    m.out = static_cast<int>(w.shape[0]);
    m.in = static_cast<int>(w.shape[1]);
    m.role = role;
    return m;
  }
  int vectors = 0, matrices = 0;
  double sum = 0;
};

// The error of loading the file, empty when it loads.
std::string load_error(const Checkpoint& file) {
  Result<std::unique_ptr<Model>> model = make_model(file);
  if (!model) return model.error().message;
  CountingStore store;
  Binder binder(file, [&](int) -> WeightStore& { return store; });
  (*model)->bind(binder);
  const Status status = binder.finish();
  return status.ok() ? "" : status.error().message;
}
#define EXPECT_ERROR(file, part)                                        \
  do {                                                                  \
    const std::string message = load_error(file);                       \
    EXPECT_NE(message.find(part), std::string::npos) << message;        \
    EXPECT_NE(message.find("(m.pth): "), std::string::npos) << message; \
  } while (0)

TEST(MakeModel, ReadsVersionAndSizesOffShapes) {
  for (const std::string version : versions) {
    const Checkpoint file = random_file(version);
    EXPECT_EQ(load_error(file), "") << version;
    const Result<std::unique_ptr<Model>> model = make_model(file);
    ASSERT_TRUE(model.ok());
    const ModelInfo& info = (*model)->info();
    EXPECT_EQ(info.version, version);
    EXPECT_EQ(info.n_layer, 2);
    EXPECT_EQ(info.n_embd, 12);
    EXPECT_EQ(info.n_ffn, 20);
    EXPECT_EQ(info.n_vocab, 9);
    EXPECT_EQ(info.n_head, version == "4" ? 0 : 3);
    EXPECT_EQ(info.head_size, version == "4" ? 0 : 4);
    EXPECT_TRUE(info.notes.empty()) << info.notes.front();
    EXPECT_EQ((*model)->state().size, version == "4" ? 2 * 5 * 12 : 2 * (12 + 3 * 4 * 4 + 12));
  }
  using Ranks = std::vector<std::pair<std::string, int>>;
  EXPECT_EQ((*make_model(random_file("6")))->info().lora_ranks, (Ranks{{"mix", 2}, {"decay", 3}}));
  EXPECT_EQ((*make_model(random_file("7")))->info().lora_ranks,
            (Ranks{{"w", 3}, {"a", 5}, {"v", 1}, {"g", 6}}));
}

TEST(MakeModel, OrderOfTensorsDoesNotMatter) {
  for (const std::string version : versions) {
    Checkpoint file = random_file(version);
    std::reverse(file.tensors.begin(), file.tensors.end());
    file.index();
    EXPECT_EQ(load_error(file), "");
    EXPECT_EQ((*make_model(file))->info().version, version);
  }
}

TEST(MakeModel, StateBlocksHaveTheOfficialNames) {
  const auto names = [](const std::string& version) {
    const std::unique_ptr<Model> model = std::move(*make_model(random_file(version)));
    std::string all;
    for (const StateBlock& b : model->state().blocks) all += b.name + " ";
    return all;
  };
  EXPECT_EQ(names("4"),
            "blocks.0.att.x_prev blocks.0.att.aa blocks.0.att.bb blocks.0.att.pp blocks.0.ffn.x_prev "
            "blocks.1.att.x_prev blocks.1.att.aa blocks.1.att.bb blocks.1.att.pp blocks.1.ffn.x_prev ");
  EXPECT_EQ(names("7"),
            "blocks.0.att.x_prev blocks.0.att.kv blocks.0.ffn.x_prev "
            "blocks.1.att.x_prev blocks.1.att.kv blocks.1.ffn.x_prev ");
  EXPECT_EQ((*make_model(random_file("4")))->state().blocks[3].initial, -1e30f);
}

TEST(MakeModel, OptionalTensors) {
  const std::vector<float> zeros(64);
  Checkpoint file = random_file("7");
  erase(file, ".ln0.");
  add(file, "head.bias", {9}, zeros.data());
  add(file, "blocks.0.att.output.bias", {12}, zeros.data());
  add(file, "blocks.1.att.output.bias", {12}, zeros.data());
  add(file, "blocks.0.att.v0", {1, 1, 12}, zeros.data());
  add(file, "blocks.0.att.v1", {12, 4}, zeros.data());
  add(file, "blocks.0.att.v2", {4, 12}, zeros.data());
  EXPECT_EQ(load_error(file), "");
  EXPECT_EQ((*make_model(file))->info().notes.size(), 4u);
}

TEST(MakeModel, RanksMayDifferBetweenLayers) {
  const std::vector<float> zeros(128);
  Checkpoint file = random_file("7");
  erase(file, "blocks.1.att.w1");
  erase(file, "blocks.1.att.w2");
  add(file, "blocks.1.att.w1", {12, 10}, zeros.data());
  add(file, "blocks.1.att.w2", {10, 12}, zeros.data());
  EXPECT_EQ(load_error(file), "");
  EXPECT_EQ((*make_model(file))->info().notes.size(), 1u);
}

TEST(MakeModel, BonusOfVersion5) {
  // time_first of one number per head is a logarithm; time_faaaa, and time_first per channel, are not.
  const auto sum = [](const std::string& name, std::vector<std::int64_t> shape) {
    const std::vector<float> twos(12, 2);
    Checkpoint file = random_file("5.2");
    erase(file, "time_faaaa");
    for (const std::string block : {"blocks.0.att.", "blocks.1.att."})
      add(file, block + name, shape, twos.data());
    const Result<std::unique_ptr<Model>> model = make_model(file);
    CountingStore store;
    Binder binder(file, [&](int) -> WeightStore& { return store; });
    (*model)->bind(binder);
    EXPECT_TRUE(binder.finish().ok());
    return store.sum;
  };
  const double raw = sum("time_faaaa", {3, 4});
  EXPECT_EQ(sum("time_first", {3, 4}), raw);
  EXPECT_EQ(sum("time_faaaa", {3}), raw);
  EXPECT_NEAR(sum("time_first", {3}) - raw, 24 * (std::exp(2.0) - 2), 1e-4);
}

TEST(MakeModel, MissingAndContradictingTensors) {
  Checkpoint file = random_file("7");
  erase(file, "blocks.1.att.key.weight");
  EXPECT_ERROR(file, "tensor blocks.1.att.key.weight: missing");
  file = random_file("6");
  erase(file, "blocks.0.");
  EXPECT_ERROR(file, "no RWKV model");
  file = random_file("6");
  rename(file, "blocks.1.", "blocks.2.");
  EXPECT_ERROR(file, "layer 1 is missing");
  file = random_file("7");
  at(file, "blocks.0.att.r_k").shape = {4, 4};
  EXPECT_ERROR(file,
               "blocks.0.att.r_k is [4, 4], expected heads times head size to be the embedding width 12");
  file = random_file("5.1");
  at(file, "blocks.0.att.time_decay").shape = {2};
  at(file, "blocks.0.att.receptance.weight").shape = {11, 12};
  EXPECT_ERROR(file, "width 11 cannot have 2 heads");
  file = random_file("4");
  at(file, "head.weight").shape = {8, 12};
  EXPECT_ERROR(file, "tensor head.weight: expected shape [9, 12], found [8, 12]");
  file = random_file("4");
  at(file, "emb.weight").shape = {9, 0};
  EXPECT_ERROR(file, "emb.weight has the unusable shape [9, 0]");
  file = random_file("7");
  const float zero = 0;
  add(file, "blocks.0.att.extra", {1}, &zero);
  EXPECT_ERROR(file, "tensors that this RWKV version does not have: blocks.0.att.extra");
}

TEST(MakeModel, RefusesRelativesByName) {
  const auto refused = [](const std::string& base, const std::string& extra, const char* what) {
    const float zero = 0;
    Checkpoint file = random_file(base);
    add(file, extra, {1, 1}, &zero);
    EXPECT_ERROR(file, what);
  };
  refused("7", "blocks.0.ffn.s_emb.weight", "RWKV-7a");
  refused("7", "blocks.0.qkv.qq.weight", "RWKV-7b");
  refused("7", "rosa1.o.weight", "RWKV-8 (ROSA)");
  refused("7", "blocks.1.self_attn.q_proj.weight", "hybrid");
  refused("4", "blocks.1.tiny_q.weight", "tiny attention");
  refused("7", "blocks.0.att.key.lora_A", "LoRA adapter");
  refused("7", "state.3.exp_avg", "optimizer");
  Checkpoint file = random_file("7");
  rename(file, "blocks.", "_forward_module.blocks.");
  EXPECT_ERROR(file, "training checkpoint");
}

// Only layouts know how converters change the rest (formats/layout.h), and mark it.
TEST(MakeModel, RefusesAModelWithoutLn0ThatIsNotProcessed) {
  for (const std::string version : {"4", "5.0", "5.1", "5.2", "6"}) {
    Checkpoint file = random_file(version);
    erase(file, ".ln0.");
    EXPECT_ERROR(file, "blocks.0.ln0.weight is missing");
    at(file, "emb.weight").processed = true;
    EXPECT_TRUE(make_model(file).ok()) << version;
  }
}

TEST(MakeModel, NamesStrangers) {
  EXPECT_ERROR(names_only({"model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight"}),
               "LLaMA-type");
  EXPECT_ERROR(names_only({"tok_embeddings.weight", "layers.0.attention.wq.weight"}), "LLaMA-type");
  EXPECT_ERROR(names_only({"gpt_neox.layers.0.attention.dense.weight"}), "GPT-NeoX");
  EXPECT_ERROR(names_only({"transformer.h.0.attn.c_attn.weight"}), "GPT-type");
  EXPECT_ERROR(names_only({"backbone.layers.0.mixer.A_log"}), "Mamba");
  EXPECT_ERROR(names_only({"conv1.weight", "conv1.bias"}),
               "no RWKV model, its tensors are conv1.weight, conv1.bias (");
  EXPECT_ERROR(names_only({"emb.weight", "blocks.0.ln0.weight", "blocks.0.x"}),
               "no RWKV version has these tensors");
  EXPECT_ERROR(names_only({"blocks.0.att.time_state", "blocks.1.att.time_state"}),
               "a tuned initial state, not a model");
  EXPECT_ERROR(names_only({}), "without tensors");
}

class TunedState : public testing::Test {
 protected:
  TunedState() {
    for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<float>(i);
  }
  Checkpoint tuned(int n_layer, std::vector<std::int64_t> shape) {
    Checkpoint file;
    file.path = "m.pth";
    for (int i = 0; i < n_layer; ++i) {
      add(file, "blocks." + std::to_string(i) + ".att.time_state", shape, numbers.data() + i);
    }
    return file;
  }
  std::vector<float> numbers = std::vector<float>(64);
};

TEST_F(TunedState, IsTransposedUpToVersion6) {
  for (const std::string version : {"5.0", "5.1", "5.2", "6", "7"}) {
    const std::unique_ptr<Model> model = std::move(*make_model(random_file(version)));
    const Result<std::vector<float>> state = tuned_state(tuned(2, {3, 4, 4}), model->info(), model->state());
    ASSERT_TRUE(state.ok());
    ASSERT_EQ(static_cast<std::int64_t>(state->size()), model->state().size);
    const float* kv = state->data() + model->state().blocks[4].offset;  // layer 1
    for (int h = 0; h < 3; ++h) {
      for (int key = 0; key < 4; ++key) {
        for (int value = 0; value < 4; ++value) {
          const int from = (h * 4 + value) * 4 + key, to = version == "7" ? from : (h * 4 + key) * 4 + value;
          EXPECT_EQ(kv[to], static_cast<float>(from + 1));
        }
      }
    }
    EXPECT_EQ(state->at(0), 0);
  }
}

TEST_F(TunedState, OfAnotherModelIsAnError) {
  const std::unique_ptr<Model> v4 = std::move(*make_model(random_file("4")));
  const std::unique_ptr<Model> v6 = std::move(*make_model(random_file("6")));
  const auto error = [](const Result<std::vector<float>>& r) { return r.ok() ? "" : r.error().message; };
  EXPECT_EQ(tuned_state(random_file("6"), v6->info(), v6->state())->size(), 0u);
  EXPECT_NE(error(tuned_state(tuned(1, {3, 4, 4}), v6->info(), v6->state()))
                .find("blocks.1.att.time_state is missing"),
            std::string::npos);
  EXPECT_NE(error(tuned_state(tuned(3, {3, 4, 4}), v6->info(), v6->state())).find("one layer too many"),
            std::string::npos);
  EXPECT_NE(error(tuned_state(tuned(2, {2, 4, 4}), v6->info(), v6->state()))
                .find("expected [3, 4, 4] of fp32, fp16 or bf16, found [2, 4, 4]"),
            std::string::npos);
  EXPECT_NE(
      error(tuned_state(tuned(2, {3, 4, 4}), v4->info(), v4->state())).find("RWKV-4 has no tuned states"),
      std::string::npos);
  numbers[48] = std::numeric_limits<float>::infinity();  // the last of layer 1
  EXPECT_NE(error(tuned_state(tuned(2, {3, 4, 4}), v6->info(), v6->state()))
                .find("blocks.1.att.time_state holds NaN or infinity"),
            std::string::npos);
}

TEST(RandomCheckpoint, SameSeedSameBits) {
  const auto hash = [](std::uint64_t seed, DType dtype) {
    RandomOptions options;
    options.seed = seed;
    options.dtype = dtype;
    const Checkpoint file = std::move(*random_checkpoint(small("7"), options));
    std::uint64_t h = 0xcbf29ce484222325u;
    for (const TensorView& t : file.tensors) {
      for (const std::byte b : t.bytes()) h = (h ^ static_cast<unsigned char>(b)) * 0x100000001b3u;
    }
    return h;
  };
  EXPECT_EQ(hash(1, DType::f16), 7777187485526108337u);
  EXPECT_EQ(hash(1, DType::f32), 5745960175913265774u);
  EXPECT_NE(hash(1, DType::f16), hash(2, DType::f16));
}

TEST(RandomCheckpoint, ReleasedShapes) {
  const RandomShape s = *released_shape("1.5b", "6");
  EXPECT_EQ(s.n_layer, 24);
  EXPECT_EQ(s.n_embd, 2048);
  EXPECT_EQ(s.n_ffn, 7168);
  EXPECT_EQ(released_shape("0.1b", "6")->n_ffn, 2688);
  EXPECT_EQ(released_shape("2.9b", "7")->rank_g, 320);
  EXPECT_FALSE(released_shape("0.1", "7").ok());
  EXPECT_FALSE(released_shape("0.1b", "8").ok());
}

}  // namespace
}  // namespace fr
