// Generation: feed a prompt, draw tokens until something stops it, and leave the state exactly at the end of
// the text.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/engine.h"

namespace fr {

enum class Finish { length, stop, cancelled };

struct GenerateOptions {
  int max_tokens = 256;                   // < 0: no limit
  std::vector<std::string> stops;         // matched across token borders; not part of the text
  std::vector<std::int32_t> stop_tokens;  // not part of the text
  bool ignore_eos = false;                // token 0 does not stop
  bool leave_last = false;  // unless a stop ended it, the state has not seen the last of result.tokens
};

struct Generation {
  Finish finish = Finish::length;
  int n_prompt = 0;
  int n_generated = 0;  // tokens drawn, a stop token included
  double prompt_seconds = 0, generate_seconds = 0;
  std::vector<std::int32_t> tokens;  // of the text
  std::string text;                  // what on_text was given
};

// Pieces of the text: complete UTF-8 characters, never part of a stop string. Returns false to cancel.
using OnText = std::function<bool(std::string_view)>;

// Feeds the prompt (not empty), then draws. Afterwards the state has seen the prompt and exactly
// result.tokens, the sampler has counted all drawn tokens. When a stop string begins inside a token, the part
// of the text before it is encoded anew, so that state and text agree. Without a tokenizer there is no text,
// and stop strings are an error. An error or a cancellation while the prompt is fed leaves the state
// somewhere inside the prompt.
Result<Generation> generate(State& state, std::span<const std::int32_t> prompt, Sampler& sampler,
                            const GenerateOptions& options, const OnText& on_text);

}  // namespace fr
