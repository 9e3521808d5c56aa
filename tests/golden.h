// Expected logits and states of the official implementations (shared/goldens), and the checks that any Runner
// must pass: serial = chunked = batched with strangers = carried over in an exported state = the official
// numbers.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "runner.h"

namespace fr::test {

struct GoldenBlock {
  std::string name;
  std::vector<float> values;
};
struct GoldenCase {
  std::string name;
  std::vector<std::int32_t> tokens;
  std::vector<float> logits_last;      // [n_vocab]
  std::vector<float> logits_full;      // [tokens][n_vocab], or empty
  std::vector<GoldenBlock> state;      // after the last token
  std::vector<std::int32_t> greedy;    // or empty
  std::vector<double> greedy_margins;  // top-1 minus top-2
};
struct GoldenFile {
  std::string name;        // "v7_a.pth"
  std::string path;        // absolute
  std::string state_path;  // tuned initial state in its own file, or empty
  std::string version;
  std::vector<GoldenCase> cases;
};

// Checkpoints that are read, with fp32 expectations. Empty when the folder is not
// there.
std::vector<GoldenFile> golden_files();
std::string goldens_folder();

// One trained model (reverse_v7_renamed.pth): prompts with logits for each position of prompt and answer.
struct ReverseCase {
  std::vector<std::int32_t> prompt, answer;
  std::vector<float> logits;  // [prompt + answer - 1][12]
};
std::vector<ReverseCase> reverse_cases();

struct Tolerance {
  double max_abs = 1e-4;  // of the largest absolute value of the row
  double l2 = 5e-5;       // |a - b| / |b| of the row
};
struct Difference {
  double max_abs = 0, l2 = 0;
  void widen(const Difference& other);
};
// Of one row of logits or one state block.
Difference difference(std::span<const float> found, std::span<const float> expected);

// Runs all checks on one golden file; a deviation is a test failure. Returns the worst ones.
struct Worst {
  Difference logits, state;
  void widen(const Worst& other);
};
Worst check_golden(Runner& runner, const GoldenFile& golden, const Tolerance& tolerance);

}  // namespace fr::test
