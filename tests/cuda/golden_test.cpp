// The cuda backend on the models with official logits: fp32 against these, the other formats against the cpu
// backend with the same weights. On the emulated GPU the short texts of one small file per version, on a GPU
// everything (golden_test.cpp of the folder above runs there too).
#include "golden.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <functional>
#include <set>

#include "formats/formats.h"

namespace fr::test {
namespace {

#ifdef FR_ON_A_GPU
constexpr bool emulated = false;
#else
constexpr bool emulated = true;
#endif

// Of the emulated run: one per version, and what is particular to converted files.
const std::set<std::string> small_files{"v4_fp16.pth",  "v5_0_a.pth",  "v5_1_a.pth",        "v5_2_l7.pth",
                                        "v6_state.pth", "v7_fp32.pth", "v4_l7.cuda_fp16.fr"};

const std::vector<GoldenFile>& files() {
  static const std::vector<GoldenFile> chosen = [] {
    std::vector<GoldenFile> all = golden_files();
    if (!emulated) return all;
    std::erase_if(all, [](const GoldenFile& f) { return !small_files.contains(f.name); });
    for (GoldenFile& f : all) {
      std::erase_if(f.cases, [](const GoldenCase& c) { return c.tokens.size() != 17; });
      for (GoldenCase& c : f.cases) c.greedy.clear();
    }
    return all;
  }();
  return chosen;
}

DeviceRunner runner_of(const GoldenFile& golden, const std::string& backend, DType dtype) {
  DeviceRunnerOptions options;
  options.target.backend = backend;
  options.target.exact_activations = true;  // of the cpu backend, as cuda's are
  options.dtype = dtype;
  return DeviceRunner(need(open_checkpoint(golden.path)), options);
}

std::vector<const GoldenFile*> params() {
  std::vector<const GoldenFile*> all;
  for (const GoldenFile& f : files()) all.push_back(&f);
  if (all.empty()) all.push_back(nullptr);  // the goldens are not there
  return all;
}
std::string param_name(const testing::TestParamInfo<const GoldenFile*>& info) {
  std::string name = info.param != nullptr ? info.param->name : "absent";
  for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
  return name;
}

class CudaGolden : public testing::TestWithParam<const GoldenFile*> {
 protected:
  void SetUp() override {
    if (GetParam() == nullptr)
      GTEST_SKIP() << "NOT TESTED against the official numbers: no " << goldens_folder();
  }
};
INSTANTIATE_TEST_SUITE_P(Files, CudaGolden, testing::ValuesIn(params()), param_name);

TEST_P(CudaGolden, LogitsAndStatesInFp32) {
  const GoldenFile& f = *GetParam();
  DeviceRunnerOptions options;
  options.target.backend = "cuda";
  Checkpoint tuned;
  if (!f.state_path.empty()) {
    tuned = need(open_checkpoint(f.state_path));
    options.tuned = &tuned;
  }
  DeviceRunner runner(need(open_checkpoint(f.path)), options);
  const Worst w = check_golden(runner, f, {});
  EXPECT_EQ(runner.device(0).last_counts().expanded, 0);
  EXPECT_GT(runner.device(0).last_counts().native, 0);
  std::printf("%-28s fp32 logits max %.1e l2 %.1e  state max %.1e l2 %.1e\n", f.name.c_str(),
              w.logits.max_abs, w.logits.l2, w.state.max_abs, w.state.l2);
}

// Logits of all positions: the first half of the text in one step, the rest token by token.
std::vector<float> run_text(Runner& runner, std::span<const std::int32_t> tokens) {
  runner.reserve(1);
  runner.reset(0);
  const std::size_t half = tokens.size() / 2 + 1;
  Batch first{{tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(half)},
              {{0, 0, static_cast<int>(half)}},
              {}};
  for (int row = 0; row < first.rows(); ++row) first.wanted.push_back(row);
  std::vector<float> logits = runner.step(first);
  for (const std::int32_t token : tokens.subspan(half)) {
    const std::vector<float> row = runner.step({{token}, {{0, 0, 1}}, {0}});
    logits.insert(logits.end(), row.begin(), row.end());
  }
  return logits;
}

std::size_t argmax(std::span<const float> row) {
  return static_cast<std::size_t>(std::max_element(row.begin(), row.end()) - row.begin());
}

TEST_P(CudaGolden, OtherFormatsAgreeWithTheCpu) {
  const GoldenFile& f = *GetParam();
  const GoldenCase& c = f.cases.back();
  for (const DType dtype : {DType::f16, DType::bf16, DType::q8_0, DType::q4_k}) {
    if (emulated && dtype != DType::f16 && f.name != "v7_fp32.pth" && f.name != "v5_0_a.pth") continue;
    DeviceRunner cuda = runner_of(f, "cuda", dtype), cpu = runner_of(f, "cpu", dtype);
    const std::vector<float> found = run_text(cuda, c.tokens), expected = run_text(cpu, c.tokens);
    ASSERT_EQ(found.size(), expected.size());
    const Difference all = difference(found, expected);
    EXPECT_LE(all.l2, 5e-3) << dtype_name(dtype);
    const auto vocab = static_cast<std::size_t>(cuda.info().n_vocab);
    for (std::size_t i = 0; i < c.tokens.size(); ++i) {
      const auto row = std::span(expected).subspan(i * vocab, vocab);
      std::vector<float> sorted(row.begin(), row.end());
      std::partial_sort(sorted.begin(), sorted.begin() + 2, sorted.end(), std::greater<>());
      if (sorted[0] - sorted[1] < 0.1f) continue;
      EXPECT_EQ(argmax(std::span(found).subspan(i * vocab, vocab)), argmax(row))
          << dtype_name(dtype) << ", token " << i;
    }
    std::printf("%-28s %s against cpu: logits max %.1e l2 %.1e\n", f.name.c_str(),
                std::string(dtype_name(dtype)).c_str(), all.max_abs, all.l2);
  }
}

}  // namespace
}  // namespace fr::test
