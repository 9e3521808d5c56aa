#include "tools_core/perplexity.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numbers>
#include <vector>

#include "engine/locate.h"

namespace fr {
namespace {

using Tokens = std::vector<std::int32_t>;

Result<Tokens> tokens_of(const Engine& engine, std::string_view text) {
  const auto tokenizer = engine.tokenizer();
  if (!tokenizer) {
    return usage_error("the model's vocabulary is not known (" + engine.path() + "): give it with --vocab");
  }
  Tokens tokens;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find('\0', at), text.size());
    FR_TRY(const Tokens document, tokenizer->encode(text.substr(at, end - at)));
    tokens.insert(tokens.end(), document.begin(), document.end());
    if (end < text.size()) tokens.push_back(tokenizer->end_of_text());
    at = end + 1;
  }
  return tokens;
}

// log(sum(exp(x))), and where x is largest.
struct Softmax {
  double log_sum = 0;
  std::size_t best = 0;
};
Softmax softmax(std::span<const float> logits) {
  const auto top = std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float x : logits) sum += std::exp(double{x} - double{*top});
  return {double{*top} + std::log(sum), static_cast<std::size_t>(top - logits.begin())};
}

double divergence(std::span<const float> p, double log_sum_p, std::span<const float> q, double log_sum_q) {
  double kl = 0;
  for (std::size_t i = 0; i < p.size(); ++i) {
    const double log_p = double{p[i]} - log_sum_p;
    kl += std::exp(log_p) * (log_p - (double{q[i]} - log_sum_q));
  }
  return kl;
}

// Runs the tokens through one model and hands out its logits, a chunk at a time.
class Runner {
 public:
  static Result<Runner> make(const std::shared_ptr<Engine>& engine) {
    FR_TRY(State state, State::make(engine));
    return Runner(engine, std::move(state));
  }
  Status step(std::span<const std::int32_t> tokens) {
    logits_.resize(tokens.size() * vocab());
    const SequenceInput input{&state_, tokens, Want::all};
    return engine_->step({&input, 1}, logits_);
  }
  std::span<const float> row(std::size_t i) const { return std::span(logits_).subspan(i * vocab(), vocab()); }
  std::size_t vocab() const { return static_cast<std::size_t>(engine_->info().n_vocab); }

 private:
  Runner(std::shared_ptr<Engine> engine, State state)
      : engine_(std::move(engine)), state_(std::move(state)) {}
  std::shared_ptr<Engine> engine_;
  State state_;
  std::vector<float> logits_;
};

struct Sums {
  double nll = 0, squares = 0, other_nll = 0, kl = 0;
  std::size_t same = 0;
};

void add_position(Sums& sums, std::span<const float> logits, std::int32_t next,
                  std::optional<std::span<const float>> other) {
  const Softmax own = softmax(logits);
  const auto target = static_cast<std::size_t>(next);
  const double nll = own.log_sum - double{logits[target]};
  sums.nll += nll;
  sums.squares += nll * nll;
  if (!other) return;
  const Softmax theirs = softmax(*other);
  sums.other_nll += theirs.log_sum - double{(*other)[target]};
  sums.kl += divergence(*other, theirs.log_sum, logits, own.log_sum);
  sums.same += own.best == theirs.best ? 1 : 0;
}

// Rows of one chunk stay below 32 MB.
std::size_t chunk_size(std::size_t wanted, std::size_t vocab) {
  constexpr std::size_t most = 256, budget = std::size_t{32} << 20;
  return wanted > 0 ? wanted : std::clamp<std::size_t>(budget / (vocab * sizeof(float)), 1, most);
}

Result<std::shared_ptr<Engine>> load(const PerplexityOptions& options, std::string path,
                                     const std::string& strategy) {
  if (path.empty()) {
    FR_TRY(path, shipped_model());
  }
  LoadOptions load = options.load;
  load.strategy = strategy;
  return Engine::load(path, load);
}

Result<PerplexityReport> evaluate(const std::shared_ptr<Engine>& engine, const std::shared_ptr<Engine>& other,
                                  std::string_view text, const PerplexityOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  FR_TRY(Tokens tokens, tokens_of(*engine, text));
  if (options.max_tokens > 0) tokens.resize(std::min(tokens.size(), options.max_tokens));
  if (tokens.size() < 2) {
    return usage_error("there are " + std::to_string(tokens.size()) +
                       " tokens (the text): give one with at least 2");
  }
  FR_TRY(Runner runner, Runner::make(engine));
  std::optional<Runner> second;
  if (other) {
    if (other->info().n_vocab != engine->info().n_vocab) {
      return usage_error("the models have " + std::to_string(engine->info().n_vocab) + " and " +
                         std::to_string(other->info().n_vocab) + " tokens (" + other->path() +
                         "): compare models of one vocabulary");
    }
    FR_TRY(Runner made, Runner::make(other));
    second = std::move(made);
  }
  Sums sums;
  PerplexityReport report;
  report.model = engine->path();
  report.strategy = strategy_string(engine->segments());
  report.tokens = tokens.size() - 1;
  const std::span<const std::int32_t> all(tokens);
  const std::size_t chunk = chunk_size(options.chunk, runner.vocab());
  for (std::size_t at = 0; at < report.tokens; at += chunk) {
    if (options.progress && !options.progress("evaluating", at, report.tokens)) {
      return Error{ErrorCode::interrupted,
                   "the evaluation was interrupted (" + engine->path() + "): start it again"};
    }
    const auto part = all.subspan(at, std::min(chunk, report.tokens - at));
    FR_OK(runner.step(part));
    if (second) FR_OK(second->step(part));
    for (std::size_t i = 0; i < part.size(); ++i) {
      add_position(sums, runner.row(i), tokens[at + i + 1],
                   second ? std::optional(second->row(i)) : std::nullopt);
    }
  }
  const auto n = static_cast<double>(report.tokens);
  report.nll = sums.nll / n;
  report.error = n > 1 ? std::sqrt(std::max(0.0, sums.squares / n - report.nll * report.nll) / (n - 1)) : 0;
  for (std::size_t i = 1; i < tokens.size(); ++i) {
    report.bytes += std::max<std::size_t>(engine->tokenizer()->token_bytes(tokens[i]).size(), 1);
  }
  const std::int32_t end = engine->tokenizer()->end_of_text();
  report.documents = static_cast<std::size_t>(std::count(tokens.begin(), tokens.end(), end)) +
                     (tokens.back() != end ? 1 : 0);
  if (second) {
    report.distance =
        ModelDistance{std::exp(sums.other_nll / n), sums.kl / n, static_cast<double>(sums.same) / n};
  }
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

}  // namespace

double PerplexityReport::perplexity() const { return std::exp(nll); }
double PerplexityReport::byte_perplexity() const {
  return std::exp(nll * static_cast<double>(tokens) / static_cast<double>(bytes));
}
double PerplexityReport::bits_per_byte() const { return std::log(byte_perplexity()) / std::numbers::ln2; }

Result<PerplexityReport> run_perplexity(const PerplexityOptions& options, std::string_view text) {
  FR_TRY(const auto engine, load(options, options.path, options.load.strategy));
  std::shared_ptr<Engine> other;
  if (!options.other_path.empty() || !options.other_strategy.empty()) {
    const std::string& path = options.other_path.empty() ? options.path : options.other_path;
    FR_TRY(other, load(options, path, options.other_strategy));
  }
  return evaluate(engine, other, text, options);
}

}  // namespace fr
