// Small models in the layouts of other programs compute the logits of their twins in the official layout, on
// every backend (files of tools/make_layout_fixtures.py: NAME.<layout> and NAME.safetensors).
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <set>

#include "formats/formats.h"
#include "golden.h"

namespace fr::test {
namespace {

const std::filesystem::path folder = FR_SOURCE_DIR "/src/formats/testdata/layouts";

// Logits of all tokens from a given state, and the state after the last.
std::pair<std::vector<float>, std::vector<float>> run(const std::filesystem::path& path,
                                                      const Target& target) {
  DeviceRunnerOptions options;
  options.target = target;
  DeviceRunner runner(need(open_checkpoint(path)), options);
  runner.reserve(1);
  std::vector<float> state(static_cast<std::size_t>(runner.state_spec().size));
  for (std::size_t i = 0; i < state.size(); ++i) state[i] = 0.1f * static_cast<float>(i % 7);
  runner.import_state(0, state);
  Batch batch{{1, 15, 3, 0, 3, 9, 12}, {{0, 0, 7}}, {0, 1, 2, 3, 4, 5, 6}};
  std::vector<float> logits = runner.step(batch);
  return {std::move(logits), runner.export_state(0)};
}

class Layouts : public testing::TestWithParam<Target> {};

TEST_P(Layouts, ComputeWhatTheirTwinsCompute) {
  std::set<std::string> seen;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename(), stem = name.substr(0, name.find('.'));
    const std::filesystem::path twin = folder / (stem + ".safetensors");
    if (entry.path() == twin || !std::filesystem::exists(twin)) continue;  // v7_tied has another head
    SCOPED_TRACE(name);
    seen.insert(stem);
    const auto [logits, state] = run(entry.path(), GetParam());
    const auto [expected_logits, expected_state] = run(twin, GetParam());
    EXPECT_LE(difference(logits, expected_logits).l2, 1e-5);
    EXPECT_LE(difference(state, expected_state).l2, 1e-5);
  }
  EXPECT_EQ(seen, (std::set<std::string>{"v4", "v4_quantised", "v5_0", "v5_1", "v5_2", "v6", "v7",
                                         "v7_quantised"}));
}
INSTANTIATE_TEST_SUITE_P(Backends, Layouts, testing::ValuesIn(targets()),
                         [](const auto& info) { return info.param.name(); });

}  // namespace
}  // namespace fr::test
