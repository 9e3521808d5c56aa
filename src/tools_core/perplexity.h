// How well a model predicts a text, and how far it is from another model (its own weights in fp32, say).
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/log.h"
#include "base/result.h"
#include "engine/engine.h"

namespace fr {

// Against a second model that sees the same tokens.
struct ModelDistance {
  double perplexity = 0;      // the other model's, per token
  double kl = 0;              // mean over positions of KL(other || this), nats
  double top1_agreement = 0;  // share of positions with the same best token
};

struct PerplexityReport {
  std::string model, strategy;
  std::size_t tokens = 0;     // that were predicted
  std::size_t bytes = 0;      // of the text of these
  std::size_t documents = 0;  // zero bytes in the text end documents
  double nll = 0;             // mean negative log likelihood of a token, nats
  double error = 0;           // standard error of nll
  double seconds = 0;
  std::optional<ModelDistance> distance;

  double perplexity() const;       // exp(nll)
  double byte_perplexity() const;  // exp(sum of nll / bytes)
  double bits_per_byte() const;
};

struct PerplexityOptions {
  std::string path;  // of the model; empty: the one that ships
  LoadOptions load;
  // A second model to compare with, when either is set. No path: the same file; no strategy: the default.
  std::string other_path, other_strategy;
  std::size_t max_tokens = 0;  // 0: all
  std::size_t chunk = 0;       // tokens a step; 0: chosen
  Progress progress;           // of the evaluation; counts tokens
};

// The text is one sequence: the state is carried from its start to its end, through all documents; a zero
// byte is fed as the end of text (token 0). The first token is not predicted. Errors: those of loading; a
// model without a tokenizer, fewer than two tokens, two models of different vocabularies, an interruption.
Result<PerplexityReport> run_perplexity(const PerplexityOptions& options, std::string_view text);

}  // namespace fr
