#include "engine/generate.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "text/stop_strings.h"
#include "text/utf8_stream.h"

namespace fr {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

class Generator {
 public:
  Generator(State& state, Sampler& sampler, const GenerateOptions& options, const OnText& on_text,
            StopStrings stops)
      : state_(state),
        sampler_(sampler),
        options_(options),
        on_text_(on_text),
        stops_(std::move(stops)),
        tokenizer_(state.engine()->tokenizer()) {}

  Result<Generation> run(std::span<const std::int32_t> prompt) {
    const auto start = std::chrono::steady_clock::now();
    FR_OK(feed_prompt(prompt));
    const auto generating = std::chrono::steady_clock::now();
    if (!done_) FR_OK(draw(prompt.back()));
    FR_OK(settle());
    out_.generate_seconds = seconds_since(generating);
    out_.prompt_seconds = std::chrono::duration<double>(generating - start).count();
    return std::move(out_);
  }

 private:
  // All but the last prompt token, in pieces so that a cancellation is seen soon.
  Status feed_prompt(std::span<const std::int32_t> prompt) {
    constexpr std::size_t piece = 256;
    out_.n_prompt = static_cast<int>(prompt.size());
    for (std::size_t at = 0; at + 1 < prompt.size(); at += piece) {
      if (!emit({})) return {};
      FR_OK(feed(prompt.subspan(at, std::min(piece, prompt.size() - 1 - at))));
    }
    return {};
  }

  Status feed(std::span<const std::int32_t> tokens) {
    if (tokens.empty()) return {};
    const SequenceInput input{&state_, tokens, Want::none};
    return state_.engine()->step({&input, 1}, {});
  }

  Status draw(std::int32_t next) {
    while (options_.max_tokens < 0 || out_.n_generated < options_.max_tokens) {
      Sampler* const sampler = &sampler_;
      const SequenceInput input{&state_, {&next, 1}, Want::last};
      std::int32_t token = 0;
      FR_OK(state_.engine()->step_sample({&input, 1}, {&sampler, 1}, {&token, 1}));
      unfed_ = false;
      ++out_.n_generated;
      if (is_stop(token)) {
        out_.finish = Finish::stop;
        return {};
      }
      FR_OK(take(token));
      if (done_) return {};
      next = token;
    }
    // Nothing drawn: the prompt's last token still has to be seen.
    return out_.n_generated > 0 ? Status{} : feed({&next, 1});
  }

  bool is_stop(std::int32_t token) const {
    const std::int32_t end = tokenizer_ ? tokenizer_->end_of_text() : kEndOfText;
    return (token == end && !options_.ignore_eos) || std::ranges::count(options_.stop_tokens, token) > 0;
  }

  // Appends a token that the state has not seen yet.
  Status take(std::int32_t token) {
    const bool was_holding = holding_;
    const std::string_view bytes = tokenizer_ ? tokenizer_->token_bytes(token) : std::string_view{};
    raw_.append(bytes);
    StopStrings::Piece piece = stops_.push(bytes);
    clean_ += piece.text.size();
    if (piece.match) return cut(piece);
    holding_ = clean_ < raw_.size();
    if (holding_ && !was_holding) {  // a stop string may begin in this token: remember the state before it
      if (!before_hold_) {
        FR_TRY(State copy, State::make(state_.engine()));
        before_hold_.emplace(std::move(copy));
      }
      before_hold_->copy_from(state_);
      n_before_hold_ = out_.tokens.size();
    }
    out_.tokens.push_back(token);
    ends_.push_back(raw_.size());
    unfed_ = true;
    emit(utf8_.push(piece.text));
    return {};
  }

  // A stop string ended in the newest token: the text ends before it, and state and tokens follow the text.
  Status cut(const StopStrings::Piece& piece) {
    out_.finish = Finish::stop;
    done_ = true;
    emit(utf8_.push(piece.text));
    const std::size_t kept = clean_;
    std::size_t n = out_.tokens.size();  // tokens that end within the kept text
    while (n > 0 && ends_[n - 1] > kept) --n;
    const std::size_t n_bytes = n == 0 ? 0 : ends_[n - 1];
    std::vector<std::int32_t> rest;
    if (n_bytes < kept) {
      FR_TRY(rest, tokenizer_->encode(std::string_view(raw_).substr(n_bytes, kept - n_bytes)));
    }
    if (n < out_.tokens.size()) {
      state_.copy_from(*before_hold_);
      FR_OK(feed(std::span(out_.tokens).subspan(n_before_hold_, n - n_before_hold_)));
    }
    out_.tokens.resize(n);
    out_.tokens.insert(out_.tokens.end(), rest.begin(), rest.end());
    return feed(rest);
  }

  // Text that was held back becomes part of the reply; the last drawn token is fed.
  Status settle() {
    if (out_.finish != Finish::stop || !done_) emit(utf8_.push(stops_.finish()));
    emit(utf8_.finish());
    const bool leave = options_.leave_last && out_.finish != Finish::stop;
    if (unfed_ && !leave) return feed(std::span(out_.tokens).last(1));
    return {};
  }

  bool emit(const std::string& text) {
    out_.text += text;
    if (on_text_ && !on_text_(text) && !done_) {
      out_.finish = Finish::cancelled;
      done_ = true;
    }
    return !done_;
  }

  State& state_;
  Sampler& sampler_;
  const GenerateOptions& options_;
  const OnText& on_text_;
  StopStrings stops_;
  Utf8Stream utf8_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  Generation out_;
  std::string raw_;                // bytes of all tokens taken
  std::vector<std::size_t> ends_;  // raw_.size() after each token of out_.tokens
  std::size_t clean_ = 0;          // bytes of raw_ that are no part of a possible stop string
  bool holding_ = false;
  std::optional<State> before_hold_;  // the state before the token in which the held text begins
  std::size_t n_before_hold_ = 0;     // tokens it has seen
  bool unfed_ = false;                // the state has not seen the last token of out_.tokens
  bool done_ = false;
};

}  // namespace

Result<Generation> generate(State& state, std::span<const std::int32_t> prompt, Sampler& sampler,
                            const GenerateOptions& options, const OnText& on_text) {
  if (prompt.empty())
    return usage_error(
        "the prompt has no tokens (generate): give at least one, e.g. 0 for the start of a text");
  if (!options.stops.empty() && !state.engine()->tokenizer()) {
    return usage_error(
        "stop strings need a vocabulary, and this model's is not known (generate): give one with --vocab");
  }
  FR_TRY(StopStrings stops, StopStrings::create(options.stops));
  return Generator(state, sampler, options, on_text, std::move(stops)).run(prompt);
}

}  // namespace fr
