// Every backend against the official implementations' logits and states.
#include "golden.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <ostream>

#include "formats/formats.h"

namespace fr::test {
namespace {

// The worst errors by backend and version, printed at the end.
std::map<std::string, Worst>& table() {
  static std::map<std::string, Worst> t;
  return t;
}
class PrintTable : public testing::Environment {
  void TearDown() override {
    for (const auto& [key, w] : table()) {
      std::printf("%-16s logits max %.1e l2 %.1e  state max %.1e l2 %.1e\n", key.c_str(), w.logits.max_abs,
                  w.logits.l2, w.state.max_abs, w.state.l2);
    }
  }
};
[[maybe_unused]] const auto* const print_table = testing::AddGlobalTestEnvironment(new PrintTable);

struct Param {
  Target target;
  const GoldenFile* golden;  // null: the goldens are not there
};

void PrintTo(const Param& p, std::ostream* out) {
  *out << p.target.name() << ", " << (p.golden != nullptr ? p.golden->name : "no goldens");
}

std::vector<Param> params() {
  static const std::vector<GoldenFile> files = golden_files();
  std::vector<Param> all;
  for (const Target& t : targets()) {
    for (const GoldenFile& f : files) all.push_back({t, &f});
    if (files.empty()) all.push_back({t, nullptr});
  }
  return all;
}

std::string identifier(std::string s) {
  for (char& c : s) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
  }
  return s;
}
std::string param_name(const testing::TestParamInfo<Param>& info) {
  return info.param.target.name() + "_" +
         (info.param.golden != nullptr ? identifier(info.param.golden->name) : "absent");
}

class Golden : public testing::TestWithParam<Param> {};

TEST_P(Golden, LogitsStatesAndGreedyText) {
  const auto& [target, golden] = GetParam();
  if (golden == nullptr) GTEST_SKIP() << "NOT TESTED against the official numbers: no " << goldens_folder();
  DeviceRunnerOptions options;
  options.target = target;
  Checkpoint tuned;
  if (!golden->state_path.empty()) {
    tuned = need(open_checkpoint(golden->state_path));
    options.tuned = &tuned;
  }
  DeviceRunner runner(need(open_checkpoint(golden->path)), options);
  EXPECT_EQ(runner.info().version, golden->version);
  const Worst worst = check_golden(runner, *golden, {});
  table()[target.name() + " v" + golden->version].widen(worst);
}
INSTANTIATE_TEST_SUITE_P(Files, Golden, testing::ValuesIn(params()), param_name);

class GoldenReverse : public testing::TestWithParam<Target> {
 protected:
  static void compare(const std::string& file, const std::vector<ReverseCase>& cases);
};

void GoldenReverse::compare(const std::string& file, const std::vector<ReverseCase>& cases) {
  DeviceRunnerOptions options;
  options.target = GetParam();
  DeviceRunner runner(need(open_checkpoint(goldens_folder() + "/reverse/" + file)), options);
  runner.reserve(1);
  double worst = 0;
  for (const ReverseCase& c : cases) {
    runner.reset(0);
    std::vector<std::int32_t> tokens = c.prompt, answer;
    std::vector<float> logits;
    for (std::size_t i = 0; i < tokens.size() && answer.size() < c.answer.size(); ++i) {
      const std::vector<float> row = runner.step({{tokens[i]}, {{0, 0, 1}}, {0}});
      logits.insert(logits.end(), row.begin(), row.end());
      if (i + 1 < c.prompt.size()) continue;
      answer.push_back(static_cast<std::int32_t>(std::max_element(row.begin(), row.end()) - row.begin()));
      tokens.push_back(answer.back());
    }
    EXPECT_EQ(answer, c.answer);
    ASSERT_EQ(logits.size(), c.logits.size());
    for (std::size_t i = 0; i < logits.size(); ++i) {
      worst = std::max(worst, std::abs(double{logits[i]} - double{c.logits[i]}));
    }
  }
  EXPECT_LE(worst, 1e-3);
  std::printf("%s %s: worst absolute error %.1e\n", GetParam().name().c_str(), file.c_str(), worst);
}

TEST_P(GoldenReverse, OptionalBiasesNoLn0HeadsOf16) {
  const std::vector<ReverseCase> cases = reverse_cases();
  if (cases.empty()) GTEST_SKIP() << "NOT TESTED on the reverse model: no " << goldens_folder() << "/reverse";
  for (const char* file : {"reverse_v7_renamed.pth", "260123_reverse_L2_only_rwkv7.pth"})
    compare(file, cases);
}

// Files that other programs made of these models, and files that are no models.
TEST(GoldenFiles, OtherLayoutsAreRefusedByName) {
  if (golden_files().empty()) GTEST_SKIP() << "NOT TESTED on converted files: no " << goldens_folder();
  const std::pair<const char*, const char*> cases[] = {
      {"models/v6_state_tuned.state.pth", "a tuned initial state, not a model"},
  };
  for (const auto& [path, what] : cases) {
    const Result<std::unique_ptr<Model>> model =
        make_model(need(open_checkpoint(goldens_folder() + "/" + path)));
    ASSERT_FALSE(model.ok()) << path;
    EXPECT_NE(model.error().message.find(what), std::string::npos) << model.error().message;
    std::printf("%s\n", model.error().message.c_str());
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, GoldenReverse, testing::ValuesIn(targets()),
                         [](const auto& info) { return info.param.name(); });

}  // namespace
}  // namespace fr::test
