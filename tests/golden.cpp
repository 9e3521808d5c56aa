#include "golden.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace fr::test {
namespace {

using nlohmann::json;

json read_json(const std::string& path) {
  std::ifstream in(path);
  return json::parse(in);
}

std::vector<float> read_floats(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::vector<float> values(std::filesystem::file_size(path) / sizeof(float));
  in.read(reinterpret_cast<char*>(values.data()),
          static_cast<std::streamsize>(values.size() * sizeof(float)));
  if (!in) throw std::runtime_error("cannot read " + path);
  return values;
}

std::vector<float> block(const std::vector<float>& data, const json& where) {
  std::size_t n = 1;
  for (const json& d : where["shape"]) n *= d.get<std::size_t>();
  const auto begin = data.begin() + where["offset"].get<std::ptrdiff_t>();
  return {begin, begin + static_cast<std::ptrdiff_t>(n)};
}

std::vector<GoldenCase> read_cases(const json& expect, const std::string& folder = {}) {
  const std::vector<float> data =
      read_floats(goldens_folder() + "/" + folder + expect["data"].get<std::string>());
  std::vector<GoldenCase> cases;
  for (const json& c : expect["cases"]) {
    GoldenCase& out = cases.emplace_back();
    out.name = c["name"];
    out.tokens = c["tokens"].get<std::vector<std::int32_t>>();
    out.logits_last = block(data, c["logits_last"]);
    if (c.contains("logits_full")) out.logits_full = block(data, c["logits_full"]);
    if (c.contains("state"))
      for (const json& b : c["state"]) out.state.push_back({b["name"], block(data, b)});
    if (!c.contains("greedy")) continue;
    out.greedy = c["greedy"].get<std::vector<std::int32_t>>();
    out.greedy_margins = c["greedy_margins"].get<std::vector<double>>();
  }
  return cases;
}

Batch one_sequence(int slot, std::span<const std::int32_t> tokens) {
  return {{tokens.begin(), tokens.end()}, {{slot, 0, static_cast<int>(tokens.size())}}, {}};
}

// The checks of one file; every case runs in every way.
class Checker {
 public:
  Checker(Runner& runner, const GoldenFile& golden, const Tolerance& tolerance)
      : runner_(runner), golden_(golden), tolerance_(tolerance) {
    runner_.reserve(static_cast<int>(golden.cases.size()) + 1);
  }

  Worst run() {
    for (const GoldenCase& c : golden_.cases) {
      serial(c);
      at_once(c);
      const std::size_t n = c.tokens.size();
      bool exported = false;
      for (const std::size_t k : {std::size_t{1}, std::size_t{3}, n / 2, n - 1}) {
        if (k >= 1 && k < n) carried(c, k, exported = !exported);
      }
      greedy(c);
    }
    ragged();
    return worst_;
  }

 private:
  void expect_logits(std::span<const float> found, std::span<const float> expected,
                     const std::string& where) {
    const Difference d = difference(found, expected);
    worst_.logits.widen(d);
    EXPECT_LE(d.max_abs, tolerance_.max_abs) << golden_.name << " logits, " << where;
    EXPECT_LE(d.l2, tolerance_.l2) << golden_.name << " logits, " << where;
  }

  void expect_state(int slot, const GoldenCase& c, const std::string& where) {
    const std::vector<float> found = runner_.export_state(slot);
    const std::vector<StateBlock>& blocks = runner_.state_spec().blocks;
    if (c.state.empty()) return;  // one file (v6_state_base) has logits only
    ASSERT_EQ(blocks.size(), c.state.size());
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      ASSERT_EQ(blocks[i].name, c.state[i].name);
      const std::span<const float> values(found.data() + blocks[i].offset,
                                          static_cast<std::size_t>(blocks[i].size));
      const Difference d = difference(values, c.state[i].values);
      worst_.state.widen(d);
      EXPECT_LE(d.max_abs, tolerance_.max_abs) << golden_.name << " " << blocks[i].name << ", " << where;
      EXPECT_LE(d.l2, tolerance_.l2) << golden_.name << " " << blocks[i].name << ", " << where;
    }
  }

  std::span<const float> row(std::span<const float> logits, std::size_t i) const {
    const auto n = static_cast<std::size_t>(runner_.info().n_vocab);
    return logits.subspan(i * n, n);
  }

  // One token a step.
  void serial(const GoldenCase& c) {
    const std::string where = c.name + " serial";
    runner_.reset(0);
    std::vector<float> logits;
    for (std::size_t i = 0; i < c.tokens.size(); ++i) {
      Batch batch = one_sequence(0, std::span(c.tokens).subspan(i, 1));
      if (!c.logits_full.empty() || i + 1 == c.tokens.size()) batch.wanted = {0};
      logits = runner_.step(batch);
      if (!c.logits_full.empty())
        expect_logits(logits, row(c.logits_full, i), where + ", row " + std::to_string(i));
    }
    expect_logits(logits, c.logits_last, where);
    expect_state(0, c, where);
  }

  // All tokens in one step, logits of each.
  void at_once(const GoldenCase& c) {
    const std::string where = c.name + " in one step";
    runner_.reset(0);
    Batch batch = one_sequence(0, c.tokens);
    for (int i = 0; i < batch.rows(); ++i) {
      if (!c.logits_full.empty() || i + 1 == batch.rows()) batch.wanted.push_back(i);
    }
    const std::vector<float> logits = runner_.step(batch);
    for (std::size_t i = 0; !c.logits_full.empty() && i < c.tokens.size(); ++i) {
      expect_logits(row(logits, i), row(c.logits_full, i), where + ", row " + std::to_string(i));
    }
    expect_logits(row(logits, batch.wanted.size() - 1), c.logits_last, where);
    expect_state(0, c, where);
  }

  // The first k tokens, then the rest: in the same slot, or from the exported state in a slot that was used
  // before.
  void carried(const GoldenCase& c, std::size_t k, bool exported) {
    const std::string where = c.name + " cut at " + std::to_string(k) + (exported ? ", exported" : "");
    runner_.reset(0);
    runner_.step(one_sequence(0, std::span(c.tokens).first(k)));
    if (exported) runner_.import_state(1, runner_.export_state(0));
    const int slot = exported ? 1 : 0;
    Batch rest = one_sequence(slot, std::span(c.tokens).subspan(k));
    rest.wanted = {rest.rows() - 1};
    expect_logits(runner_.step(rest), c.logits_last, where);
    expect_state(slot, c, where);
  }

  // Continues until the official margin is too small to tell.
  void greedy(const GoldenCase& c) {
    runner_.reset(0);
    Batch batch = one_sequence(0, c.tokens);
    for (std::size_t i = 0; i < c.greedy.size(); ++i) {
      batch.wanted = {batch.rows() - 1};
      const std::vector<float> logits = runner_.step(batch);
      const auto best = std::max_element(logits.begin(), logits.end());
      if (c.greedy_margins[i] < 4 * tolerance_.max_abs * std::abs(*best)) break;
      const auto token = static_cast<std::int32_t>(best - logits.begin());
      ASSERT_EQ(token, c.greedy[i]) << golden_.name << " " << c.name << ", greedy token " << i;
      batch = one_sequence(0, std::span(&c.greedy[i], 1));
    }
  }

  // All cases and one stranger side by side, each with its own number of tokens a step.
  void ragged() {
    const std::size_t n = golden_.cases.size();
    const std::vector<std::int32_t> stranger(300, 5);
    std::vector<std::size_t> done(n + 1, 0);
    const auto tokens_of = [&](std::size_t i) -> std::span<const std::int32_t> {
      return i < n ? std::span(golden_.cases[i].tokens) : std::span(stranger);
    };
    for (std::size_t i = 0; i <= n; ++i) runner_.reset(static_cast<int>(i));
    for (std::size_t round = 0;; ++round) {
      Batch batch;
      std::vector<std::size_t> finished;  // cases whose last row is in this step
      for (std::size_t j = 0; j <= n; ++j) {
        const std::size_t i = (j + round) % (n + 1);  // the order in the batch changes
        const std::span<const std::int32_t> tokens = tokens_of(i).subspan(done[i]);
        const std::size_t count = std::min(tokens.size(), 1 + (round * 5 + i * 3) % 11);
        if (count == 0) continue;
        batch.sequences.push_back({static_cast<int>(i), batch.rows(), static_cast<int>(count)});
        batch.tokens.insert(batch.tokens.end(), tokens.begin(),
                            tokens.begin() + static_cast<std::ptrdiff_t>(count));
        done[i] += count;
        if (i == n || count < tokens.size()) continue;
        batch.wanted.push_back(batch.rows() - 1);
        finished.push_back(i);
      }
      if (std::equal(golden_.cases.begin(), golden_.cases.end(), done.begin(),
                     [](const GoldenCase& c, std::size_t d) { return c.tokens.size() == d; }) &&
          finished.empty()) {
        break;
      }
      const std::vector<float> logits = runner_.step(batch);
      for (std::size_t k = 0; k < finished.size(); ++k) {
        const GoldenCase& c = golden_.cases[finished[k]];
        expect_logits(row(logits, k), c.logits_last, c.name + " in a ragged batch");
        expect_state(static_cast<int>(finished[k]), c, c.name + " in a ragged batch");
      }
    }
  }

  Runner& runner_;
  const GoldenFile& golden_;
  Tolerance tolerance_;
  Worst worst_;
};

// By the beginning of "format" in cases.json.
bool is_read(const std::string& format) {
  constexpr std::array<std::string_view, 6> known{"pth",
                                                  "chatrwkv-converted pth",
                                                  "faster-rwkv fr",
                                                  "safetensors, same names",
                                                  "safetensors written by web-rwkv",
                                                  "HF/fla"};
  return std::any_of(known.begin(), known.end(), [&](std::string_view k) { return format.starts_with(k); });
}

// rwkv.cpp's trained models with what the official code computes from their weights.
void add_tiny_files(std::vector<GoldenFile>& files) {
  const std::string folder = goldens_folder() + "/tiny/";
  if (!std::filesystem::exists(folder + "cases.json")) return;
  const json all = read_json(folder + "cases.json");
  for (const json& f : all["files"]) {
    GoldenFile& out = files.emplace_back();
    out.name = f["path"].get<std::string>();
    out.path = folder + out.name;
    out.version = f["version"];
    for (const json& expect : f["expects"]) {
      const std::string key = expect;
      if (key.ends_with(".official")) out.cases = read_cases(all["expects"][key], "tiny/");
    }
  }
}

}  // namespace

std::string goldens_folder() { return std::string(FR_SOURCE_DIR) + "/../shared/goldens"; }

std::vector<GoldenFile> golden_files() {
  std::vector<GoldenFile> files;
  if (!std::filesystem::exists(goldens_folder() + "/cases.json")) return files;
  const json all = read_json(goldens_folder() + "/cases.json");
  for (const json& f : all["files"]) {
    const std::string format = f["format"], path = f["path"];
    if (!is_read(format) || f["expect"].is_null()) continue;
    GoldenFile& out = files.emplace_back();
    out.name = path.substr(path.find('/') + 1);
    out.path = goldens_folder() + "/" + path;
    if (f.contains("state_file")) {
      out.state_path = goldens_folder() + "/" + f["state_file"].get<std::string>();
      out.name += " with a tuned state";
    }
    out.version = f["version"];
    out.cases = read_cases(all["expects"][f["expect"].get<std::string>()]);
  }
  add_tiny_files(files);
  return files;
}

std::vector<ReverseCase> reverse_cases() {
  std::vector<ReverseCase> cases;
  const std::string folder = goldens_folder() + "/reverse";
  if (!std::filesystem::exists(folder + "/cases.json")) return cases;
  const std::vector<float> data = read_floats(folder + "/logits.bin");
  const json all = read_json(folder + "/cases.json");
  for (const json& c : all["cases"]) {
    cases.push_back({c["tokens"].get<std::vector<std::int32_t>>(),
                     c["output_tokens"].get<std::vector<std::int32_t>>(), block(data, c["logits"])});
  }
  return cases;
}

void Difference::widen(const Difference& other) {
  max_abs = std::max(max_abs, other.max_abs);
  l2 = std::max(l2, other.l2);
}

void Worst::widen(const Worst& other) {
  logits.widen(other.logits);
  state.widen(other.state);
}

Difference difference(std::span<const float> found, std::span<const float> expected) {
  if (found.size() != expected.size()) throw std::runtime_error("rows of different size");
  double largest = 0, worst = 0, squares = 0, error = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    const double a = found[i], b = expected[i], d = std::abs(a - b);
    if (!std::isfinite(a)) return {INFINITY, INFINITY};
    largest = std::max(largest, std::abs(b));
    worst = std::max(worst, d);
    squares += b * b;
    error += d * d;
  }
  constexpr double least = 1e-30;  // both zero: no difference
  return {worst / std::max(largest, least), std::sqrt(error) / std::max(std::sqrt(squares), least)};
}

Worst check_golden(Runner& runner, const GoldenFile& golden, const Tolerance& tolerance) {
  return Checker(runner, golden, tolerance).run();
}

}  // namespace fr::test
